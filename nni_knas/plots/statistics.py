"""What the figures count and compare: histograms, and Spearman's correlation of scores and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats  # type: ignore[import-untyped]

__all__ = ['histogram', 'spearman']

MOST_BINS = 60


def histogram(values: ArrayLike, wide: bool, edges: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """How many values are in each bin.

    Parameters
    ----------
    values
        ``n`` finite numbers, at least one; positive where ``wide``.
    wide
        Whether bins are of equal width on a logarithmic axis rather than on a linear one.
    edges
        The edges of the bins. Default: about the square root of ``n`` bins, 10 at least and :data:`MOST_BINS` at most.

    Returns
    -------
    counts, edges
        Shapes ``b`` and ``b + 1``.
    """
    values = np.asarray(values, dtype=np.float64)
    if edges is None:
        bins = int(np.clip(np.ceil(np.sqrt(len(values))), 10, MOST_BINS))
        scaled = np.histogram_bin_edges(np.log10(values) if wide else values, bins)
        edges = 10**scaled if wide else scaled
        # By a rounding, the outermost edges can miss the outermost values.
        edges[0], edges[-1] = min(edges[0], values.min()), max(edges[-1], values.max())
    return np.histogram(values, edges)[0], edges


def spearman(scores: ArrayLike, metrics: ArrayLike, seed: int = 0) -> tuple[float, float, str]:
    """Spearman's correlation of scores and metrics, and the two-sided p-value of a permutation test.

    The test goes through all permutations where there are at most 5,040, and else draws 4,999; a t-distribution would be far
    off for the few candidates that a run trains.

    Parameters
    ----------
    scores, metrics
        Shape ``n``, higher is better in both.
    seed
        The seed of the permutations.

    Returns
    -------
    correlation, p, text
        ``nan`` where there is no correlation; the text says it, or why there is none.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(metrics, dtype=np.float64)
    if len(x) < 4:
        return np.nan, np.nan, f'no Spearman correlation: it takes 4 trained candidates, and there are {len(x)}'
    for values, name in ((x, 'scores'), (y, 'metrics')):
        if len(np.unique(values)) == 1:
            return np.nan, np.nan, f'no Spearman correlation: all {name} are equal'
    correlation = float(stats.spearmanr(x, y).statistic)
    ranks = stats.zscore(stats.rankdata(x)), stats.zscore(stats.rankdata(y)) / len(y)

    def permuted(values: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        products: NDArray[Any] = np.sum(values * ranks[1], axis=axis)
        return products

    test = stats.permutation_test(
        (ranks[0],),
        permuted,
        permutation_type='pairings',
        n_resamples=5040,
        vectorized=True,
        batch=100,
        rng=np.random.default_rng(seed),
    )
    return correlation, float(test.pvalue), f'Spearman {correlation:.3f}, p = {test.pvalue:.2g}, of {len(x):,} trained'
