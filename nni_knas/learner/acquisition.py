"""How much training a candidate promises."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr  # type: ignore[import-untyped]

from nni_knas.learner.normalising import Floats

__all__ = ['chances', 'expected_improvement']


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """By how much a candidate is expected to be better than the best (Jones, Schonlau and Welch, 1998)."""
    ahead = (mean - best) / deviation
    return deviation * (ahead * ndtr(ahead) + np.exp(-0.5 * ahead**2) / np.sqrt(2 * np.pi))


def chances(mean: Floats, deviation: Floats, rng: np.random.Generator, draws: int = 512, most: int = 1000) -> Floats:
    """How often each is the best of all, by draws of each on its own among the ``most`` promising ones."""
    chance = np.zeros(len(mean))
    leading = np.argsort(-(mean + 2 * deviation), kind='stable')[:most]
    drawn = mean[leading] + deviation[leading] * rng.standard_normal((draws, len(leading)))
    chance[leading] = np.bincount(drawn.argmax(1), minlength=len(leading)) / draws
    return chance
