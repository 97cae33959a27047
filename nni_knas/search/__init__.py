"""KNAS itself: the strategy with its coarse and its fine stage. What a search is asked for is known without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nni_knas.basics.faces import opened_later
from nni_knas.search.request import CHOOSE, FEW, Choose, Effort, OptimizeMode, SearchRequest, check_counts

if TYPE_CHECKING:
    from nni_knas.search.choosing import Chooser, chooser_of
    from nni_knas.search.coarse import CoarseStage
    from nni_knas.search.evaluators import metric_of
    from nni_knas.search.strategy import KNAS

__all__ = [
    'CHOOSE',
    'FEW',
    'KNAS',
    'Choose',
    'Chooser',
    'CoarseStage',
    'Effort',
    'OptimizeMode',
    'SearchRequest',
    'check_counts',
    'chooser_of',
    'metric_of',
]

_PLACES = {
    **dict.fromkeys(('Chooser', 'chooser_of'), 'choosing'),
    'CoarseStage': 'coarse',
    'KNAS': 'strategy',
    'metric_of': 'evaluators',
}

__getattr__ = opened_later(__name__, _PLACES)
