"""What the trained candidates of a run have taught: the learner of a record.

A learner is made anew from the record whenever it is asked. So a run that was killed goes on as if it had not been, what is
known of candidates may grow meanwhile, and whoever opens a run knows what its search knew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from nni.mutable import Sample
from numpy.typing import ArrayLike, NDArray

from nni_knas.basics.names import COSTS, OptimizeMode
from nni_knas.learner import Learner
from nni_knas.record import BEGUN, Record, keys
from nni_knas.runs.selection import chosen, rated_among

__all__ = ['expected_in_full', 'learner_of', 'pool_of', 'tell']

LEAST = 3
"""Of fewer candidates that have both a quick and a full statistic no line is drawn from the one to the other."""


def pool_of(
    record: Record, front: tuple[str, int] | None = None, within: Callable[[Sample], bool] | None = None
) -> pd.DataFrame:
    """The candidates that can be trained, best score first, as :meth:`nni_knas.record.Record.frame` has them with panels.

    Parameters
    ----------
    record
        The record that has the candidates.
    front
        A cost, and how many candidates there are to be: those of the Pareto front of score against this cost, and where it
        has fewer, of the next fronts. Default: all.
    within
        Says which samples there are to choose from. Default: all.

    Returns
    -------
    pandas.DataFrame
        A row a candidate, under its number, with its ``rank`` by score.
    """
    pool = rated_among(record.frame(panel=True))
    if within is not None:
        pool = pool[[within(sample) for sample in pool.architecture]]
    pool = pool.assign(rank=range(1, len(pool) + 1))
    if front is not None:
        cost, k = front
        members = [candidate.id for _, candidate in chosen(record, k, cost, within)]
        pool = pool[pool.candidate.isin(members) | pool.status.isin(BEGUN)]
    return pool.set_index('candidate')


def learner_of(record: Record, pool: pd.DataFrame) -> Learner:
    """A learner that knows what a record has of these candidates: their panels and scores, and what came of training.

    Parameters
    ----------
    record
        The record.
    pool
        What :func:`pool_of` gives.
    """
    mode: OptimizeMode = 'minimize' if record.get_meta(keys.OPTIMIZE_MODE) == 'minimize' else 'maximize'
    seed = _settings_of(record).get('seed', 0)
    learner = Learner(_panel_of(record, pool).join(_choices_of(pool)), _prior_of(pool), mode, seed)
    tell(learner, record, pool)
    return learner


def tell(learner: Learner, record: Record, pool: pd.DataFrame, since: int = 0) -> int:
    """Tell a learner what came of training, and what is under way.

    Parameters
    ----------
    learner, record, pool
        The learner of a record, and its candidates.
    since
        How many trainings that have ended it knows already.

    Returns
    -------
    int
        How many it knows now.
    """
    endings = record.endings()
    for number, metric in endings[since:]:
        if number in pool.index:
            learner.tell(number, metric)
    for number in record.in_training():
        if number in pool.index:
            metric = record.get(number).metric
            if metric is None:
                learner.begin(number)
            else:  # its end is on the way
                learner.tell(number, metric)
    return len(endings)


def _settings_of(record: Record) -> dict[str, Any]:
    """What the scores of a run depend on."""
    settings: dict[str, Any] = json.loads(record.get_meta(keys.KERNEL) or '{}')
    return settings


def _prior_of(pool: pd.DataFrame) -> pd.Series:
    """The score of each candidate; what is to be expected of it, where there is a quick one alone."""
    full = pool.score.notna()
    if not full.any():
        return pool.quick
    both = full & pool.quick.notna()
    prior = pool.score.copy()
    prior[~full] = expected_in_full(pool.quick[both], pool.score[both], pool.quick[~full])
    return prior


def _panel_of(record: Record, pool: pd.DataFrame) -> pd.DataFrame:
    """The statistics of the candidates, and the costs that the search has had measured of all."""
    asked = _settings_of(record)
    costs = [name for name in COSTS if name in (asked.get('constraints') or {}) or name == asked.get('front')]
    statistics = [name for name in record.statistics() if pool[name].notna().any()]
    if not statistics + costs:
        return pd.DataFrame({'score': _prior_of(pool)})
    panel, full = pool[[*statistics, *costs]].copy(), pool.score.notna()
    if full.any() and not full.all():
        quick = record.quick_panels()
        quick = quick[quick.index.isin(pool.index)]
        for name in statistics:
            in_full = panel.loc[quick.index, name]
            panel.loc[~full, name] = expected_in_full(quick[name], in_full, panel.loc[~full, name])
    return panel


def _choices_of(pool: pd.DataFrame) -> pd.DataFrame:
    """What the candidates have chosen, a column a label; whatever has no such label has a choice of its own there."""
    chosen = pd.DataFrame([*pool.architecture], index=pool.index)
    return chosen.map(repr).add_prefix('choice ').astype('category')


def expected_in_full(quick: ArrayLike, full: ArrayLike, rest: ArrayLike) -> NDArray[Any]:
    r"""What a statistic is to be expected to be at full effort where it is known at little effort alone.

    The straight line :math:`f = a + b q`, fitted to the candidates that are known at both. Where all values are positive
    their logarithms take their place.

    Parameters
    ----------
    quick, full
        The statistic at little and at full effort of the candidates that have both.
    rest
        At little effort, of the others.

    Returns
    -------
    numpy.ndarray
        At full effort, of the others; ``nan`` where too few have both.
    """
    q, f, r = (np.asarray(values, dtype=np.float64) for values in (quick, full, rest))
    both = ~(np.isnan(q) | np.isnan(f))
    q, f = q[both], f[both]
    if len(q) < LEAST:
        return np.full(len(r), np.nan)
    positive = min(np.min(q), np.min(f), np.nanmin(r, initial=math.inf)) > 0
    if positive:
        q, f, r = np.log(q), np.log(f), np.log(r)
    spread = np.square(q - q.mean()).sum()
    slope = ((q - q.mean()) * (f - f.mean())).sum() / spread if spread > 0 else 0.0
    expected: NDArray[Any] = f.mean() + slope * (r - q.mean())
    if positive:
        expected = np.exp(expected)
    return expected
