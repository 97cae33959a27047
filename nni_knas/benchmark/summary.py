"""Every score on every benchmark: one table of what was measured on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nni_knas.benchmark.correlation import kind_of, values_of
from nni_knas.benchmark.measuring import Measurement
from nni_knas.benchmark.ranking import CORRELATIONS, bootstrap_counts, interval
from nni_knas.scores import Score

__all__ = ['Ranked', 'summary_table']

NAN = float('nan')


class Ranked(NamedTuple):
    """What was measured on one benchmark: its name, a measurement a seed, the sample, and the metric that stands for it."""

    name: str
    measurements: Sequence[Measurement]
    architectures: Sequence[str]
    metric: str


def summary_table(
    benchmarks: Sequence[Ranked], scores: Sequence[Score], correlation: str = 'spearman', resamples: int = 1000
) -> pd.DataFrame:
    """The rank correlation of every score with the metric of every benchmark, their mean and the worst of them.

    Parameters
    ----------
    benchmarks
        What was measured.
    scores
        Scores and baselines.
    correlation
        ``spearman`` or ``kendall``.
    resamples
        Number of bootstrap resamples of the architectures of each benchmark, each benchmark's for itself.

    Returns
    -------
    pandas.DataFrame
        A row a ``score``, the highest ``mean`` first. A column a benchmark, by its name, with the ends of its 95 %
        percentile interval in ``NAME low`` and ``NAME high``; ``nan`` where the score has no value on it, or the same for
        all. ``mean``, ``mean low``, ``mean high`` and ``worst`` are over the other benchmarks, whose number is ``on``.
        ``failed`` is the number of architectures of these without a score (mean over the seeds), which count as the worst.
    """
    table = pd.DataFrame([_row_of(benchmarks, score, correlation, resamples) for score in scores])
    return table.sort_values('mean', ascending=False, kind='stable', ignore_index=True)


def _row_of(benchmarks: Sequence[Ranked], score: Score, correlation: str, resamples: int) -> dict[str, object]:
    row: dict[str, object] = {'score': score.name, 'kind': kind_of(score)}
    means, resampled, failed = [], [], 0.0
    for number, each in enumerate(benchmarks):
        mean, around, without = _on_one(each, score, correlation, resamples)
        row[each.name] = mean
        row[f'{each.name} low'], row[f'{each.name} high'] = interval(around)
        if np.isfinite(mean):
            means.append(mean)
            failed += without
            # The resamples of benchmarks of one size are the same ones: side by side they have to be independent.
            resampled.append(np.random.default_rng(number).permutation(around))
    low, high = interval(np.mean(resampled, axis=0)) if resampled else (NAN, NAN)
    mean, worst = (float(np.mean(means)), float(np.min(means))) if means else (NAN, NAN)
    summary = {'mean': mean, 'mean low': low, 'mean high': high, 'worst': worst, 'on': len(means), 'failed': failed}
    return row | summary


def _on_one(each: Ranked, score: Score, correlation: str, resamples: int) -> tuple[float, np.ndarray, float]:
    """The correlation on a benchmark, that in each resample (means over the seeds), and how many have no score."""
    plain, in_resamples = CORRELATIONS[correlation]
    values = values_of(each.measurements, score, each.architectures)
    accuracy = each.measurements[0].benchmark.table.loc[list(each.architectures), each.metric].to_numpy(np.float64)
    mean = float(np.mean([plain(scores, accuracy) for scores in values]))
    if not np.isfinite(mean):
        return NAN, np.array([]), 0.0
    counts = bootstrap_counts(len(each.architectures), resamples)
    around = np.mean([in_resamples(scores, accuracy, counts) for scores in values], axis=0)
    return mean, around, float(np.mean([np.isnan(scores).sum() for scores in values]))
