"""The search of the KNAS paper, by each score, with the table in the place of training.

Per repeat: draw candidates, rank them by the score, and let the fine stage choose among the k best by their validation
results. Source: Xu et al., "KNAS: Green Neural Architecture Search", ICML 2021 (300 candidates, k = 20 and 40, 9 repeats).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.base import EARLY, Benchmark
from nni_knas.benchmark.baselines import Baseline
from nni_knas.benchmark.measuring import Measurement
from nni_knas.benchmark.ranking import order_of
from nni_knas.scores import Score

__all__ = ['draw_candidates', 'fine_metric', 'search_table']

OPTIMUM, RANDOM = 'optimum of the candidates', 'random choice'


def fine_metric(benchmark: Benchmark, metric: str) -> tuple[str, bool]:
    """The column by which the fine stage chooses where ``metric`` is reported, and whether it is that metric itself.

    It is the result after 20 of the epochs, as in the paper, where the table has one; else the validation result after a
    short training, or that at the end of training; else, as an upper bound of what a search can find, the metric itself.
    """
    if 'test' in metric:
        for part, suffix in (('valid', f'{EARLY}20'), ('valtest', f'{EARLY}20'), ('valid', f'{EARLY}12'), ('valid', '')):
            name = metric.replace('test', part) + suffix
            if name in benchmark.columns:
                return name, False
    return metric, True


def draw_candidates(architectures: Sequence[str], candidates: int, repeats: int, seed: int) -> list[list[str]]:
    """The candidates of each repeat: different ones within a repeat, drawn anew for each.

    Parameters
    ----------
    architectures
        Those to draw from.
    candidates
        How many in a repeat; all, where there are fewer.
    repeats
        How many repeats.
    seed
        The same seed draws the same ones.
    """
    draws = [np.random.default_rng([seed, repeat]).permutation(len(architectures))[:candidates] for repeat in range(repeats)]
    return [[architectures[i] for i in draw] for draw in draws]


def search_table(
    measurements: Sequence[Measurement],
    draws: Sequence[Sequence[str]],
    scores: Sequence[Score],
    metrics: Sequence[str],
    top_k: Sequence[int],
    seed: int = 0,
) -> pd.DataFrame:
    """What the search finds by each score.

    Parameters
    ----------
    measurements
        One a seed; repeat ``r`` uses the one of number ``r`` modulo their number.
    draws
        The candidates of each repeat, as :func:`draw_candidates` gives them.
    scores
        Scores and baselines.
    metrics
        What is reported of the choice.
    top_k
        How many of the best scores go to the fine stage; each by itself.
    seed
        The seed of the random choice.

    Returns
    -------
    pandas.DataFrame
        A row a metric, ``k`` and score, besides the scores ``random choice`` (k random candidates go to the fine stage) and
        ``optimum of the candidates``: ``mean`` and standard ``deviation`` of the metric over the repeats, ``fine`` the
        column that the fine stage chooses by, and ``upper_bound`` whether that is the metric itself.
    """
    rows = []
    for metric in metrics:
        benchmark = measurements[0].benchmark
        fine, upper_bound = fine_metric(benchmark, metric)
        results = [benchmark.table.loc[list(draw), [fine, metric]].to_numpy(np.float64).T for draw in draws]
        orders = _orders_of_scores(measurements, draws, scores, seed)
        for k in top_k:
            found = {
                name: [_metric_of_chosen(order[:k], *result) for order, result in zip(each, results)]
                for name, (_, each) in orders.items()
            }
            found[OPTIMUM] = [float(result[1].max()) for result in results]
            for name, accuracies in found.items():
                rows.append(
                    {
                        'metric': metric,
                        'k': k,
                        'score': name,
                        'kind': orders[name][0] if name in orders else 'reference',
                        'mean': float(np.mean(accuracies)),
                        'deviation': float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else float('nan'),
                        'repeats': len(accuracies),
                        'fine': fine,
                        'upper_bound': upper_bound,
                    }
                )
    table = pd.DataFrame(rows)
    blocks = [
        block.sort_values('mean', ascending=False, kind='stable') for _, block in table.groupby(['metric', 'k'], sort=False)
    ]
    return pd.concat(blocks, ignore_index=True)


def _orders_of_scores(
    measurements: Sequence[Measurement], draws: Sequence[Sequence[str]], scores: Sequence[Score], seed: int
) -> dict[str, tuple[str, list[NDArray[Any]]]]:
    """By name: the kind of the score, and its order of the candidates in each repeat."""
    orders = {
        score.name: (
            'baseline' if isinstance(score, Baseline) else 'score',
            [order_of(measurements[repeat % len(measurements)].values(score, draw)) for repeat, draw in enumerate(draws)],
        )
        for score in scores
    }
    orders[RANDOM] = (
        'reference',
        [np.random.default_rng([seed, repeat, 1]).permutation(len(draw)) for repeat, draw in enumerate(draws)],
    )
    return orders


def _metric_of_chosen(top: NDArray[Any], fine: NDArray[Any], metric: NDArray[Any]) -> float:
    """The metric of the one that the fine stage chooses; a candidate without a fine result is never chosen before others."""
    return float(metric[top[np.argmax(np.where(np.isnan(fine[top]), -np.inf, fine[top]))]])
