"""Statistics, priors and metrics on one scale: normal scores of ranks, which outliers do not bend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri  # type: ignore[import-untyped]
from scipy.stats import rankdata  # type: ignore[import-untyped]

__all__ = ['Floats', 'normal_scores', 'robust']

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


def robust(values: Floats, reach: float = 2.5) -> tuple[Floats, float, float]:
    """Values less their median in robust deviations, none further than ``reach`` below; and median and deviation."""
    centre = float(np.median(values))
    scale = 1.4826 * float(np.median(np.abs(values - centre)))
    scale = scale or float(values.std()) or 1.0
    return np.clip((values - centre) / scale, -reach, reach), centre, scale
