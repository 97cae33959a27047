"""KNAS itself: the strategy with its coarse and its fine stage. What a search is asked for is known without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nni_knas.basics.faces import opened_later
from nni_knas.search.request import FEW, Effort, OptimizeMode, SearchRequest, check_counts

if TYPE_CHECKING:
    from nni_knas.search.coarse import CoarseStage
    from nni_knas.search.evaluators import metric_of
    from nni_knas.search.strategy import KNAS

__all__ = ['FEW', 'KNAS', 'CoarseStage', 'Effort', 'OptimizeMode', 'SearchRequest', 'check_counts', 'metric_of']

__getattr__ = opened_later(__name__, {'CoarseStage': 'coarse', 'KNAS': 'strategy', 'metric_of': 'evaluators'})
