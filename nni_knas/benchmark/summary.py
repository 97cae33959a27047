"""Every score on every benchmark: one table of what was measured on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.correlation import kind_of, values_of
from nni_knas.benchmark.measuring import Measurement
from nni_knas.benchmark.ranking import CORRELATIONS, bootstrap_counts, interval
from nni_knas.gradients import NotApplicable
from nni_knas.scores import Score

__all__ = ['Ranked', 'correlation_text', 'summary_table']

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
        ``failed`` is the number of architectures on all benchmarks where the score failed (mean over the seeds), which count
        as the worst; those that it does not apply to are not among them.
    """
    table = pd.DataFrame([_row_of(benchmarks, score, correlation, resamples) for score in scores])
    return table.sort_values('mean', ascending=False, kind='stable', ignore_index=True)


def correlation_text(value: float) -> str:
    """A correlation in two digits, without the zero before the point; ``n/a`` where there is none."""
    if np.isnan(value):
        return 'n/a'
    digits = f'{value:.2f}'.replace('0.', '.', 1)
    return '.00' if digits == '-.00' else digits


def _row_of(benchmarks: Sequence[Ranked], score: Score, correlation: str, resamples: int) -> dict[str, object]:
    row: dict[str, object] = {'score': score.name, 'kind': kind_of(score)}
    means, resampled, failed = [], [], 0.0
    for number, each in enumerate(benchmarks):
        mean, around = _on_one(each, score, correlation, resamples)
        row[each.name] = mean
        row[f'{each.name} low'], row[f'{each.name} high'] = interval(around)
        failed += _failures_on(each, score)
        if np.isfinite(mean):
            means.append(mean)
            # The resamples of benchmarks of one size are the same ones: side by side they have to be independent.
            resampled.append(np.random.default_rng(number).permutation(around))
    low, high = interval(np.mean(resampled, axis=0)) if resampled else (NAN, NAN)
    mean, worst = (float(np.mean(means)), float(np.min(means))) if means else (NAN, NAN)
    summary = {'mean': mean, 'mean low': low, 'mean high': high, 'worst': worst, 'on': len(means), 'failed': failed}
    return row | summary


def _on_one(each: Ranked, score: Score, correlation: str, resamples: int) -> tuple[float, NDArray[Any]]:
    """The correlation on a benchmark, and that in each resample: means over the seeds."""
    plain, in_resamples = CORRELATIONS[correlation]
    values = values_of(each.measurements, score, each.architectures)
    accuracy = each.measurements[0].benchmark.table.loc[list(each.architectures), each.metric].to_numpy(np.float64)
    mean = float(np.mean([plain(scores, accuracy) for scores in values]))
    if not np.isfinite(mean):
        return NAN, np.array([])
    counts = bootstrap_counts(len(each.architectures), resamples)
    return mean, np.mean([in_resamples(scores, accuracy, counts) for scores in values], axis=0)


def _failures_on(each: Ranked, score: Score) -> float:
    """On how many architectures of a benchmark the score failed: mean over the seeds."""
    reasons = [measurement.reasons(score, each.architectures) for measurement in each.measurements]
    return float(np.mean([sum(not reason.startswith(NotApplicable.__name__) for reason in known) for known in reasons]))
