"""How much training a candidate promises."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr  # type: ignore[import-untyped]

from nni_knas.learner.normalising import Floats

__all__ = ['are_possible', 'chance_of_each', 'expected_improvement', 'is_owed', 'promise']

HOPEFUL = 0.8
"""The share of candidates that are not asked for, since all others are expected to be better."""

FAITH = 0.7
"""The share of what is begun that is of the prior's best, where the prior is certain to be right."""

HOPELESS = 0.7
"""The share of candidates, the worst by the prior, that are not asked for where the prior is certain to be right."""


def is_owed(prior: Floats, begun: list[int], trust: float) -> bool:
    """Whether fewer of the ``k`` candidates begun are among the ``k`` best of the prior than its trust deserves.

    What is expected of candidates may be wrong in one way and the prior in another: so as many trainings go by the prior as
    it is likely to be right, and the best of these is there whatever the models make of the others.
    """
    least = np.partition(prior, -len(begun))[-len(begun)]
    return int((prior[begun] >= least).sum()) < FAITH * trust * (len(begun) + 1)


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """By how much a candidate is expected to be better than the best (Jones, Schonlau and Welch, 1998)."""
    ahead = (mean - best) / deviation
    improvement: Floats = deviation * (ahead * ndtr(ahead) + np.exp(-0.5 * ahead**2) / np.sqrt(2 * np.pi))
    return improvement


def promise(mean: Floats, deviation: Floats, best: float, possible: NDArray[np.bool_] | bool = True) -> Floats:
    """The expected improvement; nothing of those that are expected to be among the worse ones, however little is known."""
    improvement = expected_improvement(mean, deviation, best)
    hopeful = mean >= np.quantile(mean, HOPEFUL)
    both = hopeful & possible
    return np.where(both if both.any() else hopeful, improvement, -1.0)


def are_possible(free: Floats, prior: Floats, trust: float) -> NDArray[np.bool_]:
    """Which of the free candidates are not too far down by the prior, the farther the less it is trusted.

    Those told are its best at first, and how metrics go among these says nothing of the other end of the ranking.
    """
    return free >= np.quantile(prior, HOPELESS * trust)


def chance_of_each(drawn: Floats) -> Floats:
    """How often each of ``n`` is the best in ``count x n`` draws."""
    return np.bincount(drawn.argmax(1), minlength=drawn.shape[1]) / len(drawn)
