"""Every score against every metric: rank correlations and the quality of the top of the ranking."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from nni_knas.benchmark.baselines import Baseline
from nni_knas.benchmark.measuring import Measurement
from nni_knas.benchmark.ranking import CORRELATIONS, bootstrap_counts, interval, top_accuracy
from nni_knas.scores import Score

__all__ = ['TOP', 'correlation_table', 'kind_of', 'score_table', 'values_of', 'within_table']

TOP = (1, 10, 20, 40)


def correlation_table(
    measurements: Sequence[Measurement],
    architectures: Sequence[str],
    scores: Sequence[Score],
    metrics: Sequence[str],
    resamples: int = 1000,
) -> pd.DataFrame:
    """Rank correlations of scores with metrics, and the best that the top of each ranking holds.

    Parameters
    ----------
    measurements
        One a seed; their cache has the scores of all the architectures.
    architectures
        The sample, ``N`` architectures.
    scores
        Scores and baselines.
    metrics
        Columns of the benchmark's table.
    resamples
        Number of bootstrap resamples of the architectures, the same ones for all scores.

    Returns
    -------
    pandas.DataFrame
        A row a metric and score, the highest Spearman first. ``spearman`` and ``kendall`` (tau-b) are means over the seeds,
        ``*_deviation`` their standard deviations, and ``*_low`` and ``*_high`` the 95 % percentile interval of the mean over
        the seeds as the architectures are resampled (the scores themselves stay as they are). ``topK`` is the best accuracy
        among the K best scores, ``regretK`` what it lacks to the best of the sample (both means over the seeds), ``failed``
        the number of scores without a value (mean over the seeds), which count as the worst, and ``reason`` why the first
        of them has none.
    """
    counts = bootstrap_counts(len(architectures), resamples)
    truth = {metric: _column_of(measurements, architectures, metric) for metric in metrics}
    rows = []
    for score in tqdm(scores, desc='Resampling', unit='score', disable=None):
        values = values_of(measurements, score, architectures)
        reasons = measurements[0].reasons(score, architectures)
        for metric in metrics:
            rows.append(
                {
                    'metric': metric,
                    'score': score.name,
                    'kind': kind_of(score),
                    **_correlations(values, truth[metric], counts),
                    **_top_and_regret(values, truth[metric]),
                    'failed': float(np.mean([np.isnan(each).sum() for each in values])),
                    'reason': reasons[0] if reasons else '',
                }
            )
    table = pd.DataFrame(rows)
    table['metric'] = pd.Categorical(table.metric, categories=list(metrics), ordered=True)
    table = table.sort_values(['metric', 'spearman'], ascending=[True, False], kind='stable', ignore_index=True)
    return table.astype({'metric': 'object'})


def within_table(
    measurements: Sequence[Measurement],
    architectures: Sequence[str],
    scores: Sequence[Score],
    metrics: Sequence[str],
    resamples: int = 1000,
) -> pd.DataFrame:
    """Rank correlations within each group of the architectures that are equal in the column ``within`` of the benchmark.

    Parameters
    ----------
    measurements, architectures, scores, metrics, resamples
        As :func:`correlation_table` takes them.

    Returns
    -------
    pandas.DataFrame
        A row a metric, score and group: the column ``within``, its value in the ``group``, the number of ``architectures``
        in it, and the correlations as :func:`correlation_table` gives them. Empty where the benchmark names no column.
    """
    within = measurements[0].benchmark.within
    if not within:
        return pd.DataFrame()
    column = _column_of(measurements, architectures, within)
    groups = {value: np.flatnonzero(column == value) for value in np.unique(column[np.isfinite(column)])}
    counts = {value: bootstrap_counts(len(members), resamples) for value, members in groups.items()}
    rows = []
    for score in scores:
        values = values_of(measurements, score, architectures)
        for metric, (value, members) in itertools.product(metrics, groups.items()):
            accuracy = _column_of(measurements, architectures, metric)[members]
            rows.append(
                {
                    'metric': metric,
                    'score': score.name,
                    'kind': kind_of(score),
                    'within': within,
                    'group': value,
                    'architectures': len(members),
                    **_correlations([each[members] for each in values], accuracy, counts[value]),
                }
            )
    return pd.DataFrame(rows)


def score_table(
    measurements: Sequence[Measurement], architectures: Sequence[str], scores: Sequence[Score], metrics: Sequence[str]
) -> pd.DataFrame:
    """Metrics and scores of each architecture; with several seeds a column ``score@seed`` each.

    Parameters
    ----------
    measurements
        One for each seed.
    architectures
        The rows, in their order.
    scores
        The columns that were measured; of a baseline there is one alone.
    metrics
        The columns of the benchmark's table.
    """
    table = measurements[0].benchmark.table.loc[list(architectures), list(metrics)].rename_axis('architecture')
    columns: dict[str, NDArray[Any]] = {}
    for score in scores:
        alone = len(measurements) == 1 or isinstance(score, Baseline)
        for each in measurements[:1] if alone else measurements:
            columns[score.name if alone else f'{score.name}@{each.kernel.seed}'] = each.values(score, architectures)
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)


def values_of(measurements: Sequence[Measurement], score: Score, architectures: Sequence[str]) -> list[NDArray[Any]]:
    """The scores of the architectures under each seed; a baseline is the same under all."""
    return [each.values(score, architectures) for each in measurements[: 1 if isinstance(score, Baseline) else None]]


def kind_of(score: Score) -> str:
    """Whether it is a score or a baseline, as the tables have it."""
    return 'baseline' if isinstance(score, Baseline) else 'score'


def _column_of(measurements: Sequence[Measurement], architectures: Sequence[str], name: str) -> NDArray[Any]:
    return measurements[0].benchmark.table.loc[list(architectures), name].to_numpy(np.float64)


def _correlations(values: Sequence[NDArray[Any]], accuracy: NDArray[Any], counts: NDArray[Any]) -> dict[str, float]:
    row = {}
    for name, (correlation, resampled) in CORRELATIONS.items():
        each = np.array([correlation(scores, accuracy) for scores in values])
        row[name] = float(each.mean())
        low_high = interval(np.mean([resampled(scores, accuracy, counts) for scores in values], axis=0))
        row[f'{name}_low'], row[f'{name}_high'] = low_high
        row[f'{name}_deviation'] = float(each.std(ddof=1)) if len(each) > 1 else float('nan')
    return row


def _top_and_regret(values: Sequence[NDArray[Any]], accuracy: NDArray[Any]) -> dict[str, float]:
    top = {f'top{k}': float(np.mean([top_accuracy(scores, accuracy, k) for scores in values])) for k in TOP}
    return top | {f'regret{k}': float(accuracy.max() - top[f'top{k}']) for k in TOP}
