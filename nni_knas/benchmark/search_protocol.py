"""Searches on tables: who chooses better what to train, with the table in the place of training.

Each repeat takes another random part of the pool of architectures, of which all searches choose.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from nni_knas.benchmark.processes import spread
from nni_knas.benchmark.protocol import draw_candidates
from nni_knas.benchmark.searches import SEARCHES, Candidates, Search, fixed_orders

__all__ = ['SHARE', 'Plan', 'Pool', 'Task', 'Traces', 'pool_size', 'search_all']

SHARE = 0.8
"""The part of a pool that is drawn in each repeat."""


def pool_size(candidates: int) -> int:
    """How many architectures a pool needs, so that repeats have this many candidates."""
    return round(candidates / SHARE)


@dataclass(frozen=True, eq=False)
class Pool:
    """The architectures of one benchmark that candidates are drawn from, ``N`` of them.

    Attributes
    ----------
    panels
        One a seed; a repeat uses that of its number modulo theirs.
    others
        Scores beside the panel, in the same way: their tops are choices, but no search sees them.
    choices
        Shape ``N x D``, what :func:`~nni_knas.benchmark.encoding.encode` gives.
    metrics
        A column a task, higher is better.
    """

    panels: Sequence[pd.DataFrame]
    others: Sequence[pd.DataFrame]
    choices: NDArray[Any]
    metrics: pd.DataFrame

    def draws(self, plan: Plan) -> list[NDArray[Any]]:
        """The places of the candidates of each repeat."""
        count = max(1, min(plan.candidates, int(SHARE * len(self.metrics))))
        places = [str(place) for place in range(len(self.metrics))]
        return [np.array(draw, dtype=int) for draw in draw_candidates(places, count, plan.repeats, plan.seed)]


class Plan(NamedTuple):
    """What is to be measured: the numbers of trainings ``top_k``, how many go on at a time, and by which searches."""

    top_k: Sequence[int]
    candidates: int
    repeats: int
    concurrency: int = 1
    searches: Sequence[str] = tuple(SEARCHES)
    seed: int = 0


class Task(NamedTuple):
    """One metric of one benchmark."""

    benchmark: str
    metric: str


class Traces(NamedTuple):
    """What was found in one task.

    Attributes
    ----------
    candidates
        How many there are in each repeat.
    best
        By search, shape ``repeats x K``: the best metric of the first 1, 2, ... that it trained. ``nan`` for numbers of
        trainings that a search which depends on the budget was not run with.
    ranks
        The same: the rank of that metric among all candidates, 1 the best.
    """

    candidates: int
    best: dict[str, NDArray[Any]]
    ranks: dict[str, NDArray[Any]]


def search_all(pools: Mapping[str, Pool], plan: Plan, processes: int = 1) -> dict[Task, Traces]:
    """Run all searches on all tasks.

    Parameters
    ----------
    pools
        By the benchmark's name.
    plan
        What is to be measured.
    processes
        How many processes the repeats are spread over.
    """
    work = [(name, repeat) for name in pools for repeat in range(plan.repeats)]
    one = functools.partial(_search_draw, dict(pools), plan)
    with contextlib.closing(spread(one, work, processes) if processes > 1 else (one(piece) for piece in work)) as done:
        found = dict(tqdm(done, 'Searching', len(work), unit='repeat', disable=None))
    return {
        Task(name, metric): _together([found[name, repeat][metric] for repeat in range(plan.repeats)])
        for name, pool in pools.items()
        for metric in map(str, pool.metrics)
    }


Found = tuple[int, dict[str, NDArray[Any]]]


def _together(repeats: Sequence[Found]) -> Traces:
    """Of what each repeat found, by search ``2 x K``."""
    names = repeats[0][1]
    stacked = {name: np.stack([found[name] for _, found in repeats], axis=1) for name in names}
    best, ranks = ({name: both[i] for name, both in stacked.items()} for i in (0, 1))
    return Traces(repeats[0][0], best, ranks)


def _search_draw(pools: Mapping[str, Pool], plan: Plan, piece: tuple[str, int]) -> tuple[tuple[str, int], dict[str, Found]]:
    """All searches on all tasks of a benchmark, in one repeat."""
    name, repeat = piece
    pool = pools[name]
    places = pool.draws(plan)[repeat]
    panel, others = (tables[repeat % len(tables)].iloc[places] for tables in (pool.panels, pool.others))
    candidates = Candidates(panel, pool.choices[places])
    budgets = [min(k, len(places)) for k in plan.top_k]
    fixed = fixed_orders(pd.concat([panel, others], axis=1), max(budgets))
    seeds = dict(zip(SEARCHES, map(int, np.random.SeedSequence([plan.seed, repeat]).generate_state(len(SEARCHES)))))
    found = {}
    for metric in map(str, pool.metrics):
        values = pool.metrics[metric].to_numpy(np.float64)[places]
        traces = {statistic: _trace(order, values) for statistic, order in fixed.items()}
        for search in plan.searches:
            runs = _runs(SEARCHES[search], candidates, values, budgets, seeds[search], plan.concurrency)
            traces[search] = _merge(runs, values)
        found[metric] = (len(places), traces)
    return piece, found


def _runs(
    kind: type[Search], candidates: Candidates, metric: NDArray[Any], budgets: Sequence[int], seed: int, concurrency: int
) -> Iterator[list[int]]:
    """What was trained, in order; a run for each budget where a search depends on it, else one for the largest."""
    for budget in sorted(set(budgets)) if kind.by_budget else [max(budgets)]:
        yield run(kind(candidates, budget, seed), metric, budget, concurrency)


def run(search: Search, metric: NDArray[Any], budget: int, concurrency: int = 1) -> list[int]:
    """Let a search train, always so many at the same time; the one that began first ends first.

    Returns
    -------
    list of int
        What it asked, in order: the first ``k`` are what a budget of ``k`` would have trained.
    """
    asked: list[int] = []
    going: deque[int] = deque()
    while len(asked) < budget:
        if len(going) == concurrency:
            ended = going.popleft()
            search.tell(ended, float(metric[ended]))
        asked.append(search.ask())
        going.append(asked[-1])
    return asked


def _merge(runs: Iterator[list[int]], metric: NDArray[Any]) -> NDArray[Any]:
    """One trace of the runs of several budgets, of each its end; or the whole of the only run."""
    traces = [_trace(asked, metric) for asked in runs]
    if len(traces) == 1:
        return traces[0]
    merged = np.full_like(traces[-1], np.nan)
    for trace in traces:
        merged[:, trace.shape[1] - 1] = trace[:, -1]
    return merged


def _trace(asked: Sequence[int], metric: NDArray[Any]) -> NDArray[Any]:
    """The best metric so far, and its rank among all candidates, shape ``2 x K``."""
    best = np.maximum.accumulate(metric[list(asked)])
    better = len(metric) - np.searchsorted(np.sort(metric), best, side='right')
    return np.stack([best, better + 1.0])
