"""What an evaluator says of its metric: the name, and whether a higher or a lower one is better."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from nni_knas.search.request import OptimizeMode

__all__ = ['metric_of', 'optimize_mode_of', 'warn_of_error']

_logger = logging.getLogger(__name__)

_ERRORS = frozenset(
    [
        'loss',
        'mse',
        'mae',
        'rmse',
        'mape',
        'msle',
        'nll',
        'bce',
        'error',
        'errors',
        'err',
        'perplexity',
        'ppl',
        'wer',
        'cer',
        'fid',
        'distance',
        'divergence',
        'deviation',
    ]
)
"""Words in the name of a metric that say that lower is better."""


def metric_of(evaluator: Any) -> str:
    """What the metric of an evaluator is, as far as is known: one of the user's own may report anything."""
    metric = getattr(evaluator, 'metric', None)
    if isinstance(metric, str):
        return metric
    kinds = {kind.__name__ for kind in type(evaluator).__mro__ if kind.__module__.startswith('nni.')}
    if kinds & {'Classification', 'Regression'}:
        return 'accuracy' if 'Classification' in kinds else 'mean squared error'
    return next(iter(_lightning_metrics(evaluator)), 'metric')


def optimize_mode_of(evaluator: Any, asked: OptimizeMode | None) -> OptimizeMode:
    """The mode asked for, else what the metric of an evaluator asks for; it is maximised where nothing is known of it."""
    name = metric_of(evaluator)
    better = [getattr(metric, 'higher_is_better', None) for metric in _lightning_metrics(evaluator).values()]
    minimize = not better[0] if better and better[0] is not None else _is_error(name)
    if asked is None:
        if minimize:
            _logger.info('The metric of training is the %s: the lowest is the best.', name)
        return 'minimize' if minimize else 'maximize'
    if asked == 'maximize' and minimize:
        _logger.warning('optimize_mode is "maximize", but the metric is the %s: the worst network will rank first.', name)
    return asked


def warn_of_error(metric: float, reported: Mapping[str, float] | None) -> None:
    """Say that a metric that is maximised was reported under the name of an error, too."""
    name = next((name for name, value in (reported or {}).items() if value == metric and _is_error(name)), None)
    if name is not None:
        _logger.warning(
            'The metric that was reported is the %s, and the highest counts as the best: give optimize_mode="minimize".',
            name,
        )


def _lightning_metrics(evaluator: Any) -> Mapping[str, Any]:
    """The metrics of NNI's ``SupervisedLearningModule``, which reports it where there is one alone."""
    metrics: Any = getattr(getattr(evaluator, 'module', None), 'metrics', None)
    items = dict(metrics.items()) if isinstance(metrics, (Mapping, nn.ModuleDict)) else {}
    return items if len(items) == 1 else {}


def _is_error(name: str) -> bool:
    words = re.findall('[a-z]+', name.lower())
    return bool(_ERRORS.intersection(words)) and not {'neg', 'negative', 'minus'}.intersection(words)
