"""KNAS itself: the strategy with its coarse and its fine stage."""

from nni_knas.search.coarse import PLACEMENTS, CoarseStage, Effort
from nni_knas.search.strategy import KNAS

__all__ = ['KNAS', 'PLACEMENTS', 'CoarseStage', 'Effort']
