"""Adaptive effort: how many of the candidates of a quick ranking have to be scored in full, so that the best are found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr  # type: ignore[import-untyped]

__all__ = ['Race', 'expected_missed']

LEAST = 12
"""Fewer candidates with both scores than this say nothing about how far the two differ."""


class Race:
    """The candidates of a quick ranking, scored in full from the best on until the others hardly reach the best ``k``.

    Parameters
    ----------
    quick
        The quick score of each candidate; ``None`` where there is none, which excludes nobody.
    k
        How many of the best are looked for.
    tolerance
        The part of the best ``k`` that may be missed, as expected by :func:`expected_missed`.
    batch
        How many candidates are scored in full at a time.
    """

    def __init__(self, quick: Mapping[int, float | None], k: int, *, tolerance: float = 0.01, batch: int = 16) -> None:
        self.quick = quick
        self.k = k
        self.tolerance = tolerance
        self.batch = batch
        self._full: dict[int, float | None] = {}
        self._order = sorted(quick, key=lambda candidate: (-_or_infinite(quick[candidate]), candidate))

    def add(self, candidate: int, full: float | None) -> None:
        """A candidate has been scored in full; ``None`` where that failed."""
        self._full[candidate] = full

    def next(self) -> list[int]:
        """The candidates to score in full next; none when the race is over."""
        rest = [candidate for candidate in self._order if candidate not in self._full]
        unknown = sum(self.quick[candidate] is None for candidate in rest)
        if not unknown and self._expected_missed_of(rest) <= self.tolerance * self.k:
            return []
        return rest[: max(self.batch, unknown, self.k - len(self._full))]

    def _expected_missed_of(self, rest: list[int]) -> float:
        known = [candidate for candidate, full in self._full.items() if full is not None]
        quick, full = self._scores_of(self.quick, known), self._scores_of(self._full, known)
        both = ~np.isnan(quick)
        return expected_missed(quick[both], full[both], self._scores_of(self.quick, rest), self.k)

    @staticmethod
    def _scores_of(scores: Mapping[int, float | None], candidates: Sequence[int]) -> NDArray[Any]:
        return np.array([scores[candidate] for candidate in candidates], dtype=np.float64)  # None becomes nan


def _or_infinite(score: float | None) -> float:
    return math.inf if score is None else score


def expected_missed(quick: ArrayLike, full: ArrayLike, rest: ArrayLike, k: int) -> float:
    r"""How many of the best ``k`` are to be expected among the candidates that are not scored in full yet.

    Full scores are predicted from quick ones by a straight line, :math:`f = a + b q + \varepsilon` with normal
    :math:`\varepsilon`, fitted to the candidates that have both. A candidate that has a quick score alone is among the best
    if its full score is above the ``k``-th best one known, :math:`t`, so that

    .. math::

        E = \sum_{i \in \text{rest}} P(f_i > t)
          = \sum_{i \in \text{rest}} \Phi\Big(\frac{a + b q_i - t}{\sigma_i}\Big)

    with :math:`\sigma_i` the standard deviation of a prediction from :math:`m` points. Where all scores are positive their
    logarithms take their place. Candidates may have been chosen by their quick scores: that does not bend a regression on
    them.

    Parameters
    ----------
    quick, full
        Scores of the candidates that have both, ``m`` each, higher is better.
    rest
        Quick scores of the others.
    k
        How many of the best are looked for.

    Returns
    -------
    float
        Infinite where fewer than ``k`` or than 12 have both scores.
    """
    q, f, r = (np.asarray(scores, dtype=np.float64) for scores in (quick, full, rest))
    m = len(f)
    if not len(r):
        return 0.0
    if m < max(k, LEAST):
        return math.inf
    if min(np.min(q), np.min(f), np.min(r)) > 0:
        q, f, r = np.log(q), np.log(f), np.log(r)
    threshold = np.sort(f)[-k]
    spread = np.square(q - q.mean()).sum()
    slope = ((q - q.mean()) * (f - f.mean())).sum() / spread if spread > 0 else 0.0
    slope = max(slope, 0.0)  # a quick score that misleads says nothing
    predicted = f.mean() + slope * (r - q.mean())
    residuals = f - f.mean() - slope * (q - q.mean())
    variance: Any = np.square(residuals).sum() / (m - 2)
    # How far a prediction is off: by the residual, and by the line itself, which is known less well far from the points.
    variance = variance * (1 + 1 / m + np.square(r - q.mean()) / spread) if spread > 0 else np.full_like(r, variance)
    deviation = np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    return float(ndtr((predicted - threshold) / deviation).sum())
