"""How good searches are: on each task, and over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.ranking import bootstrap_counts, interval
from nni_knas.benchmark.search_protocol import Task, Traces
from nni_knas.benchmark.searches import RANKED, SEARCHES

__all__ = ['LEARNED', 'kind_of_search', 'overall_table', 'task_table', 'verdict']

LEARNED = 'learn'
RANKINGS = (RANKED, 'parameters', 'flops', 'layers')
"""The fixed choices that are always among those compared."""


def kind_of_search(name: str) -> str:
    """A ``search``, which may see what it has trained; a ``ranking`` that people use; the top by another ``statistic``."""
    return 'search' if name in SEARCHES else 'ranking' if name in RANKINGS else 'statistic'


class _Sample:
    """All searches on all tasks at one number of trainings: percentiles, and means over resampled repeats."""

    def __init__(self, traces: Mapping[Task, Traces], k: int, resamples: int) -> None:
        self.tasks = list(traces)
        self.names = list(traces[self.tasks[0]].best)
        self.best = {task: _column(each.best, k) for task, each in traces.items()}
        self.ranks = {task: _column(each.ranks, k) for task, each in traces.items()}
        self.percentiles = {task: 100 * self.ranks[task] / each.candidates for task, each in traces.items()}
        self.least = float(np.mean([100 / each.candidates for each in traces.values()]))
        benchmarks = list(dict.fromkeys(task.benchmark for task in self.tasks))
        repeats = len(self.best[self.tasks[0]])
        # Tasks of a benchmark share their draws, and their resamples; those of different ones are independent.
        counts = {name: bootstrap_counts(repeats, resamples, seed) / repeats for seed, name in enumerate(benchmarks)}
        self.counts = {task: counts[task.benchmark] for task in self.tasks}

    def means(self) -> NDArray[Any]:
        """Mean percentiles, shape ``tasks x searches``."""
        return np.array([self.percentiles[task].mean(axis=0) for task in self.tasks])

    def best_fixed(self) -> str:
        """Of all choices made before training, the same for all tasks, that with the lowest mean percentile."""
        fixed = [place for place, name in enumerate(self.names) if kind_of_search(name) != 'search']
        return self.names[min(fixed, key=lambda place: self.means()[:, place].mean())]

    def compared(self) -> list[int]:
        """The places of those among which there is a first: searches, rankings, and the best fixed choice."""
        best = self.best_fixed()
        return [place for place, name in enumerate(self.names) if kind_of_search(name) != 'statistic' or name == best]

    def first(self, task: Task) -> int:
        """The place of the first in a task, of those that are compared."""
        return min(self.compared(), key=lambda place: self.percentiles[task][:, place].mean())

    def is_first(self, task: Task, place: int) -> bool:
        """Whether it is first in a task, or within noise of it."""
        behind = self.percentiles[task][:, place] - self.percentiles[task][:, self.first(task)]
        return interval(self.counts[task] @ behind)[0] <= 0


def _column(traces: Mapping[str, NDArray[Any]], k: int) -> NDArray[Any]:
    """What there is after ``k`` trainings, or after all candidates: shape ``repeats x searches``."""
    return np.stack([each[:, min(k, each.shape[1]) - 1] for each in traces.values()], axis=1)


def task_table(traces: Mapping[Task, Traces], top_k: Sequence[int], resamples: int = 1000) -> pd.DataFrame:
    """What each search finds in each task.

    Parameters
    ----------
    traces
        What :func:`~nni_knas.benchmark.search_protocol.search_all` gives.
    top_k
        Numbers of trainings.
    resamples
        Number of bootstrap resamples of the repeats.

    Returns
    -------
    pandas.DataFrame
        A row a ``k``, task (``benchmark``, ``metric``) and ``search``: its ``kind``; means over the repeats of the best
        ``metric_mean`` among the ``k`` trained, of its ``rank`` among the candidates (1 the best) and of the ``percentile``,
        that is rank / candidates x 100, each with the 95 % bootstrap interval in ``*_low`` and ``*_high``. ``behind`` is its
        mean percentile less that of the first in this task, over the same repeats, and ``first`` whether the interval of
        this difference reaches 0; both are of those that are compared, and not of all single statistics. ``to_rank`` is the
        same difference to the top by the recommended score: below 0 where a search is better.
    """
    rows = []
    for k in top_k:
        sample = _Sample(traces, k, resamples)
        for task in sample.tasks:
            size = traces[task].candidates
            rows += [{'k': k, **task._asdict(), 'candidates': size, **row} for row in _rows(sample, task)]
    return pd.DataFrame(rows)


def _rows(sample: _Sample, task: Task) -> Iterator[dict[str, object]]:
    """A row a search."""
    counts, percentiles = sample.counts[task], sample.percentiles[task]
    compared, first, ranked = sample.compared(), sample.first(task), sample.names.index(RANKED)
    values = {'metric_mean': sample.best[task], 'rank': sample.ranks[task], 'percentile': percentiles}
    for place, name in enumerate(sample.names):
        row: dict[str, object] = {'search': name, 'kind': kind_of_search(name), 'repeats': len(percentiles)}
        columns = {column: each[:, place] for column, each in values.items()}
        if place in compared:
            columns |= {'behind': percentiles[:, place] - percentiles[:, first]}
            columns |= {'to_rank': percentiles[:, place] - percentiles[:, ranked]}
        for column, each in columns.items():
            row[column] = float(each.mean())
            row[f'{column}_low'], row[f'{column}_high'] = interval(counts @ each)
        if place in compared:
            row['first'] = float(sample.is_first(task, place))
        yield row


def overall_table(traces: Mapping[Task, Traces], top_k: Sequence[int], resamples: int = 1000) -> pd.DataFrame:
    """How good each search is over all tasks, which count the same.

    Returns
    -------
    pandas.DataFrame
        A row a ``k`` and ``search``, the lowest mean percentile first: ``kind``; ``percentile``, the mean over the tasks,
        with its 95 % bootstrap interval as the repeats are resampled; the ``worst`` of the tasks' mean percentiles, and on
        which; ``least``, the percentile of one that always finds the best; ``first``, in how many tasks it is first or
        within noise of it (``nan`` for what is not compared), of ``tasks``; and ``best_fixed``, whether of all choices made
        before training it has the lowest mean percentile.
    """
    tables = [_overall(_Sample(traces, k, resamples)).assign(k=k) for k in top_k]
    table = pd.concat(tables, ignore_index=True)
    return table[['k', *(name for name in table if name != 'k')]]


def _overall(sample: _Sample) -> pd.DataFrame:
    means = sample.means()
    resampled = np.mean([sample.counts[task] @ sample.percentiles[task] for task in sample.tasks], axis=0)
    best, compared = sample.best_fixed(), sample.compared()
    rows = []
    for place, name in enumerate(sample.names):
        low, high = interval(resampled[:, place])
        worst = int(np.argmax(means[:, place]))
        rows.append(
            {
                'search': name,
                'kind': kind_of_search(name),
                'percentile': float(means[:, place].mean()),
                'percentile_low': low,
                'percentile_high': high,
                'worst': float(means[worst, place]),
                'worst_on': ' '.join(sample.tasks[worst]),
                'least': sample.least,
                'first': sum(sample.is_first(task, place) for task in sample.tasks) if place in compared else np.nan,
                'tasks': len(sample.tasks),
                'best_fixed': name == best,
            }
        )
    return pd.DataFrame(rows).sort_values('percentile', kind='stable', ignore_index=True)


def verdict(overall: pd.DataFrame, tasks: pd.DataFrame, k: int) -> str:
    """What there is to say of the learner at one number of trainings; nothing where it did not search.

    Parameters
    ----------
    overall, tasks
        What :func:`overall_table` and :func:`task_table` give.
    k
        The number of trainings.
    """
    at_k = overall[overall.k == k].set_index('search')
    if LEARNED not in at_k.index:
        return ''
    learned, fixed = at_k.loc[LEARNED], at_k[at_k.best_fixed].iloc[0]
    third = fixed.percentile / 3
    each = tasks[(tasks.k == k) & (tasks.search == LEARNED)]
    behind, ahead = each[each.to_rank_low > 0], each[each.to_rank_high < 0]
    return (
        f'k = {k}: {LEARNED} has a mean percentile of {learned.percentile:.2f}; the best fixed choice, {fixed.name}, has '
        f'{fixed.percentile:.2f}, a third of which is {third:.2f}: {LEARNED} is '
        f'{"within" if learned.percentile <= third else "above"} it ({fixed.least:.2f} is what always finding the best '
        f'would have). It is first or within noise of first in {learned["first"]:g} of {learned.tasks} tasks'
        f'{_named(", not in", each[each["first"] == 0])}. By more than noise it is ahead of {RANKED} in {len(ahead)}, and '
        f'behind it in {len(behind)}{_named(":", behind)}.'
    )


def _named(before: str, tasks: pd.DataFrame) -> str:
    """The tasks of some rows; nothing where there are none."""
    names = [f'{row.benchmark} {row.metric}' for row in tasks.itertuples()]
    return f'{before} {", ".join(names)}' if names else ''
