"""A Gaussian process over distances, for searches that have a surrogate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular  # type: ignore[import-untyped]
from scipy.special import ndtr  # type: ignore[import-untyped]

__all__ = ['Posterior', 'expected_improvement', 'exponential', 'matern', 'regress']

Kernel = Callable[[NDArray[Any]], NDArray[Any]]


class Posterior(NamedTuple):
    """Mean and deviation of ``M`` points, and what each of the ``n`` observed is predicted as from the others."""

    mean: NDArray[Any]
    deviation: NDArray[Any]
    held_out: NDArray[Any]


def exponential(distances: NDArray[Any]) -> NDArray[Any]:
    """The kernel of Matérn with smoothness 1/2."""
    kernel: NDArray[Any] = np.exp(-distances)
    return kernel


def matern(distances: NDArray[Any]) -> NDArray[Any]:
    """The kernel of Matérn with smoothness 5/2."""
    scaled = np.sqrt(5) * distances
    kernel: NDArray[Any] = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel


def regress(
    among: NDArray[Any],
    across: NDArray[Any],
    observed: NDArray[Any],
    kernel: Kernel,
    lengths: Sequence[float],
    noises: Sequence[float],
) -> Posterior:
    """The posterior under the length and noise of the greatest marginal likelihood.

    Parameters
    ----------
    among, across
        Distances among the ``n`` observed points, ``n x n``, and from all to them, ``M x n``.
    observed
        Shape ``n``; standardised here.
    kernel
        Of distances divided by a length.
    lengths, noises
        Those that are tried; a noise is a variance where that of the observed is 1.
    """
    centre, spread = observed.mean(), observed.std() or 1.0
    targets = (observed - centre) / spread
    _, length, factor = max(
        (_fit(among, targets, kernel, length, noise) for length, noise in itertools.product(lengths, noises)),
        key=lambda fit: fit[0],
    )
    weights = cho_solve((factor, True), targets)
    inverse = cho_solve((factor, True), np.eye(len(targets)))
    cross = kernel(across / length)
    variance = 1 - (solve_triangular(factor, cross.T, lower=True) ** 2).sum(axis=0)
    held_out = targets - weights / np.diag(inverse)
    deviation = spread * np.sqrt(np.maximum(variance, 1e-12))
    return Posterior(centre + spread * (cross @ weights), deviation, centre + spread * held_out)


def _fit(
    among: NDArray[Any], targets: NDArray[Any], kernel: Kernel, length: float, noise: float
) -> tuple[float, float, NDArray[Any]]:
    """Log marginal likelihood, length, and the Cholesky factor of the covariance."""
    factor = cholesky(kernel(among / length) + noise * np.eye(len(targets)), lower=True)
    half = solve_triangular(factor, targets, lower=True)
    return -0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum()), length, factor


def expected_improvement(posterior: Posterior, best: float) -> NDArray[Any]:
    """By how much each point is expected to exceed the best."""
    ahead = (posterior.mean - best) / posterior.deviation
    improvement: NDArray[Any] = posterior.deviation * (ahead * ndtr(ahead) + np.exp(-0.5 * ahead**2) / np.sqrt(2 * np.pi))
    return improvement
