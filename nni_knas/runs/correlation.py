"""How scores and metrics of trained candidates go together, and within which bounds that is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats  # type: ignore[import-untyped]

__all__ = ['LEAST', 'Correlation', 'rank_correlation']

LEAST = 4
"""Of fewer pairs nothing is said."""


class Correlation(NamedTuple):
    """Spearman's rank correlation, with bounds between which it is with 95 %; all ``nan`` where nothing can be said.

    Attributes
    ----------
    value, low, high
        The correlation and its bounds.
    of
        The number of pairs.
    """

    value: float
    low: float
    high: float
    of: int


def rank_correlation(scores: ArrayLike, metrics: ArrayLike) -> Correlation:
    r"""Spearman's correlation :math:`r` of ``n`` pairs, with an interval.

    .. math:: \tanh(\operatorname{artanh} r \pm 1.96 \sqrt{(1 + r^2 / 2) / (n - 3)})

    Parameters
    ----------
    scores, metrics
        Shape ``n``.

    Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations", 2000.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(metrics, dtype=np.float64)
    n = len(x)
    if n < LEAST or len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        return Correlation(math.nan, math.nan, math.nan, n)
    r = float(stats.spearmanr(x, y).statistic)
    centre, reach = math.atanh(min(max(r, -1 + 1e-9), 1 - 1e-9)), 1.96 * math.sqrt((1 + r * r / 2) / (n - 3))
    return Correlation(r, math.tanh(centre - reach), math.tanh(centre + reach), n)
