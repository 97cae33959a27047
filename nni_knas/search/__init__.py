"""KNAS itself: the strategy with its coarse and its fine stage."""

from nni_knas.search.coarse import CoarseStage
from nni_knas.search.request import FEW, PLACEMENTS, Effort, OptimizeMode, SearchRequest, check_counts
from nni_knas.search.strategy import KNAS

__all__ = ['FEW', 'KNAS', 'PLACEMENTS', 'CoarseStage', 'Effort', 'OptimizeMode', 'SearchRequest', 'check_counts']
