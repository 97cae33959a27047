"""Which candidates are trained: the best by score, or those of the Pareto front of score against a cost."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from nni.mutable import Sample

from nni_knas.record import UNUSABLE, Candidate, Record
from nni_knas.runs.pareto import choose, fronts

__all__ = ['Ranked', 'chosen', 'pareto_front', 'rated_among']

Ranked = list[tuple[int, Candidate]]
"""Candidates with their ranks by score; rank 1 is the best."""


def chosen(record: Record, k: int, front: str | None = None, within: Callable[[Sample], bool] | None = None) -> Ranked:
    """The ``k`` candidates to train, best score first, each with its rank among all by score.

    Parameters
    ----------
    record
        The record that has the candidates.
    k
        The number of candidates to choose.
    front
        Name of a cost. The candidates are then taken from the Pareto front of score against this cost, and where it has
        fewer than ``k``, from the next fronts.
    within
        Says which samples there are to choose from. Default: all.
    """
    if within is None and front is None:
        return list(enumerate(record.best(k), start=1))
    rated = rated_among(record.frame())
    if within is not None:
        rated = rated[[within(sample) for sample in rated.architecture]]
    rated = rated.assign(rank=range(1, len(rated) + 1))
    if front is not None:
        rated = rated[rated.score.notna() & rated[front].notna()]
        rated = rated.iloc[choose(rated.score.to_numpy(), rated[front].to_numpy(), k)]
    return [(rank, record.get(number)) for rank, number in zip(rated['rank'].head(k), rated.candidate.head(k))]


def pareto_front(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The candidates that no other one beats in both score and cost, cheapest first.

    Parameters
    ----------
    frame
        Candidates as :meth:`nni_knas.record.Record.frame` gives them.
    cost
        ``'parameters'``, ``'flops'``, ``'memory'`` or ``'latency'``.

    Raises
    ------
    LookupError
        If this cost was not measured in the run.
    """
    rated = rated_among(frame)
    scored = rated[rated.score.notna() & rated[cost].notna()]
    if not len(scored):
        raise LookupError(
            f'the run has no candidate with a score and {cost}: search with front={cost!r} to have it measured'
        )
    first: pd.DataFrame = scored[fronts(scored.score.to_numpy(), scored[cost].to_numpy()) == 0]
    return first.sort_values(cost, kind='stable')


def rated_among(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidates that can be chosen: those that have a score, be it a quick one, and are of use, in their order."""
    return frame[(frame.score.notna() | frame.quick.notna()) & ~frame.status.isin(UNUSABLE)]
