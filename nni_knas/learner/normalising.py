"""Statistics, priors and metrics on one scale: normal scores of ranks, which outliers do not bend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri  # type: ignore[import-untyped]
from scipy.stats import rankdata  # type: ignore[import-untyped]

__all__ = ['Floats', 'Metrics', 'normal_scores']

Floats = NDArray[np.float64]


def normal_scores(values: Floats) -> Floats:
    """Ranks as quantiles of the normal distribution, mean 0 and deviation 1; 0 for what is missing, or all the same."""
    scores = np.zeros(len(values))
    known = ~np.isnan(values)
    if known.any():
        ranked = ndtri((rankdata(values[known]) - 0.5) / known.sum())
        spread = ranked.std()
        scores[known] = (ranked - ranked.mean()) / spread if spread > 1e-9 else 0.0
    return scores


class Metrics:
    """Metrics as normal scores of their ranks, and back.

    One training that has diverged is the last of its ranks, however far it has fallen; so is one that has failed.

    Parameters
    ----------
    values
        Of those told, higher is better; ``-inf`` where training failed.
    """

    def __init__(self, values: Floats) -> None:
        self.scores = normal_scores(values)
        there = np.isfinite(values)
        self._values, first = np.unique(values[there], return_index=True)
        self._scores = self.scores[there][first]

    @property
    def comparable(self) -> bool:
        """Whether there are two that differ, so that there is a way back."""
        return len(self._values) > 1

    def back(self, scores: Floats) -> Floats:
        """Metrics for normal scores: on straight lines between those told, beyond them as steep as the half next to them."""
        if not self.comparable:
            return scores
        metrics = np.interp(scores, self._scores, self._values)
        low, high = len(self._values) // 2, (len(self._values) - 1) // 2
        metrics += self._slope(high, -1) * np.maximum(scores - self._scores[-1], 0)
        metrics += self._slope(0, low) * np.minimum(scores - self._scores[0], 0)
        return metrics

    def _slope(self, start: int, end: int) -> float:
        return float((self._values[end] - self._values[start]) / (self._scores[end] - self._scores[start]))
