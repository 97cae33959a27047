"""How well scores rank: rank correlations with bootstrap intervals, and what the top of the ranking holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

__all__ = [
    'bootstrap_counts',
    'interval',
    'kendall',
    'kendall_resampled',
    'order_of',
    'ranks_of',
    'spearman',
    'spearman_resampled',
    'top_accuracy',
]

BLOCK = 512  # rows of the matrix of pairs that are held at a time


def ranks_of(scores: NDArray[Any]) -> NDArray[Any]:
    """Ranks from 1 (worst); ties share their mean rank, and ``nan`` scores are the worst, tied among themselves.

    Parameters
    ----------
    scores
        Shape ``... x N``; ranked along the last dimension.
    """
    ranks: NDArray[Any] = stats.rankdata(np.where(np.isnan(scores), -np.inf, scores), axis=-1)
    return ranks


def order_of(scores: NDArray[Any]) -> NDArray[Any]:
    """Indices from the best score to the worst, shape ``N``; ties stay in their order, ``nan`` comes last."""
    return np.argsort(-ranks_of(scores), kind='stable')


def spearman(scores: NDArray[Any], accuracy: NDArray[Any]) -> float:
    """Spearman's rank correlation of two arrays of shape ``N``; ``nan`` where one is constant."""
    return float(_pearson(ranks_of(scores), ranks_of(accuracy)))


def kendall(scores: NDArray[Any], accuracy: NDArray[Any]) -> float:
    """Kendall's tau-b, which accounts for ties, of two arrays of shape ``N``; ``nan`` where one is constant."""
    return float(stats.kendalltau(ranks_of(scores), ranks_of(accuracy), variant='b').statistic)


def top_accuracy(scores: NDArray[Any], accuracy: NDArray[Any], k: int) -> float:
    """The best accuracy among the ``k`` best scores."""
    return float(accuracy[order_of(scores)[:k]].max())


def bootstrap_counts(count: int, resamples: int, seed: int = 0) -> NDArray[Any]:
    """How often each architecture is drawn in each bootstrap resample: shape ``resamples x count``."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)


def spearman_resampled(scores: NDArray[Any], accuracy: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """Spearman's correlation in each resample.

    Parameters
    ----------
    scores, accuracy
        Shape ``N``.
    counts
        What :func:`bootstrap_counts` gives, shape ``B x N``.

    Returns
    -------
    numpy.ndarray of float64, shape B
    """
    drawn = np.stack([np.repeat(np.arange(counts.shape[1]), row) for row in counts])
    return _pearson(ranks_of(scores[drawn]), ranks_of(accuracy[drawn]))


def kendall_resampled(scores: NDArray[Any], accuracy: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    r"""Kendall's tau-b in each resample, shapes as in :func:`spearman_resampled`.

    With :math:`s_{ij}` and :math:`a_{ij}` the signs of the differences of scores and accuracies and :math:`w` the counts,
    tau-b of a resample is :math:`w^T (s a) w / \sqrt{w^T |s| w \; w^T |a| w}`: three products of matrices for all resamples
    together, hundreds of times faster than tau-b of each. (Copies of one architecture are ties in both, and count nowhere.)
    """
    x, y = (ranks_of(values).astype(np.float32) for values in (scores, accuracy))
    weights = counts.astype(np.float32)
    agreeing, untied_x, untied_y = np.zeros((3, len(counts)))
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        sign_x, sign_y = (np.sign(values[rows, None] - values[None]) for values in (x, y))
        for total, pairs in ((agreeing, sign_x * sign_y), (untied_x, np.abs(sign_x)), (untied_y, np.abs(sign_y))):
            total += np.einsum('bi,bi->b', weights @ pairs.T, weights[:, rows], dtype=np.float64)
    with np.errstate(invalid='ignore', divide='ignore'):
        correlations: NDArray[Any] = agreeing / np.sqrt(untied_x * untied_y)
    return correlations


def interval(resampled: NDArray[Any], confidence: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval; resamples without a value are left aside."""
    values = resampled[np.isfinite(resampled)]
    if not len(values):
        return float('nan'), float('nan')
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _pearson(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Along the last dimension."""
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (x, y))
    with np.errstate(invalid='ignore', divide='ignore'):
        correlations: NDArray[Any] = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return correlations


Resampled = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]
CORRELATIONS: dict[str, tuple[Callable[[NDArray[Any], NDArray[Any]], float], Resampled]] = {
    'spearman': (spearman, spearman_resampled),
    'kendall': (kendall, kendall_resampled),
}
"""By name: the correlation, and the same in each of many bootstrap resamples."""
