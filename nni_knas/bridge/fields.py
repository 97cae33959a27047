"""The names of what travels between a search and its trials through NNI: written on one side, and read on the other.

NNI's manager keeps these messages in its database, so a run of today is resumed under the names of today. No torch is
imported here: a tuner has ten seconds to come up.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

__all__ = [
    'BEST_KERNEL_SCORE',
    'BEST_SO_FAR',
    'CHUNK',
    'EXTRAS',
    'FILTERED',
    'KERNEL',
    'KERNEL_RANK',
    'KERNEL_SCORE',
    'KNAS_CANDIDATE',
    'KNAS_REASON',
    'MEASURED',
    'METRIC',
    'MUTATION_SUMMARY',
    'PANEL',
    'PREDICTED_METRIC',
    'QUICK',
    'REASON',
    'SCORED_CANDIDATE',
    'SCORER',
    'SECONDS',
    'TASKS',
    'about_candidate',
    'decoded',
    'number_of',
    'why_no_number',
]

# In the parameters of a trial that trains, and in what it reports.

KNAS_CANDIDATE = 'knas_candidate'
"""The candidate's number in the record."""
KERNEL_SCORE = 'kernel_score'
"""The candidate's gradient-kernel score; in a report of a trial that scores ``None`` where there is none."""
KERNEL_RANK = 'kernel_rank'
"""The candidate's rank among all candidates by score; 1 is the best."""
KNAS_REASON = 'knas_reason'
"""Why the candidate was chosen: ``'score'``, ``'learned'`` or ``'explore'``."""
PREDICTED_METRIC = 'predicted_metric'
"""The metric that was expected of the candidate when it was chosen; left out where none was."""
EXTRAS = (KERNEL_SCORE, KERNEL_RANK, KNAS_CANDIDATE, KNAS_REASON, PREDICTED_METRIC)
"""What the parameters of a trial that trains hold beside the architecture."""

# In all reports and parameters.

METRIC = 'default'
"""NNI's name of the metric in a report of several numbers: the one that it ranks and draws."""
MUTATION_SUMMARY = 'mutation_summary'
"""NNI's name of what the portal shows as a trial's parameters, in place of what they are made of."""

# In the parameters of a trial that scores a chunk of candidates.

CHUNK = 'knas_chunk'
"""The number of the chunk in the experiment, from 1."""
TASKS = 'tasks'
"""The candidates: for each its number in the order of exploration and its sample, as JSON text."""
QUICK = 'quick'
"""Whether to score them quickly."""
MEASURED = 'measured'
"""Whether their costs are known already."""
SCORER = 'scorer'
"""What scores them, packed as text."""
BEST_SO_FAR = 'best'
"""The best score when the chunk was made; ``None`` where there was none."""
KERNEL = 'kernel'
"""What the scores depend on, as JSON text: a run that is resumed takes up the scores of its own kernel only."""

# In the reports of a trial that scores: KERNEL_SCORE, each cost under its own name, and these.

SCORED_CANDIDATE = 'candidate'
"""The number of the candidate that was scored; a report without it says that the trial is up."""
BEST_KERNEL_SCORE = 'best_kernel_score'
"""The best score so far."""
SECONDS = 'seconds'
"""The time that the candidate took."""
PANEL = 'panel'
"""The statistics of the candidate's network by name, or, as text, why there are none; left out where none were computed."""
REASON = 'reason'
"""Why the candidate has no score; left out where it has one."""
FILTERED = 'filtered'
"""Whether the candidate broke a constraint; left out where it did not."""


def about_candidate(score: float | None, rank: int, reason: str, predicted: float | None) -> dict[str, Any]:
    """What the parameters of a trial that trains say of its candidate, for who looks at them in the portal."""
    expected = {} if predicted is None else {PREDICTED_METRIC: predicted}
    return {KERNEL_SCORE: score, KERNEL_RANK: rank, KNAS_REASON: reason, **expected}


def number_of(metric: Any) -> float | None:
    """The finite number in what a trial reported, ``None`` where there is none.

    It may be any real number, NumPy's and one in a tensor or array of one element among them, in a dict or, as NNI keeps
    it, in JSON. Truth values, ``nan`` and infinities are no metrics.
    """
    metric = decoded(metric) if isinstance(metric, str) else metric
    metric = metric.get(METRIC) if isinstance(metric, Mapping) else metric
    if not isinstance(metric, (Real, Decimal)) and callable(getattr(metric, 'item', None)):  # a tensor, or an array
        with contextlib.suppress(Exception):  # of more than one element
            metric = metric.item()
    if not isinstance(metric, (Real, Decimal)) or isinstance(metric, bool):
        return None
    with contextlib.suppress(ValueError, OverflowError):
        number = float(metric)
        return number if math.isfinite(number) else None
    return None


def why_no_number(metric: Any) -> str:
    """What is wrong with a report that :func:`number_of` finds no number in."""
    if isinstance(metric, Mapping) and METRIC not in metric:
        return f'the evaluator reported {_shortened(metric)}, which has no {METRIC!r}: the metric is what stands under that'
    metric = metric[METRIC] if isinstance(metric, Mapping) else metric
    return f'the evaluator reported {_shortened(metric)} as its metric, which is no finite number'


def _shortened(thing: Any) -> str:
    text = ' '.join(repr(thing).split())
    return text if len(text) <= 80 else f'{text[:77]}...'


def decoded(text: str) -> Any:
    """What JSON text says; ``None`` where it is no JSON."""
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    return None
