"""What is expected of each candidate: an average of Gaussian processes that trust the prior more or less."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular  # type: ignore[import-untyped]
from scipy.special import softmax  # type: ignore[import-untyped]

from nni_knas.learner.normalising import Floats

__all__ = ['Expectation', 'expect']

TRUST = (1.0, 0.5, 0.0)
NOISE = 0.3


class Expectation(NamedTuple):
    """Of n candidates, a row a model, in the units of the told metrics."""

    weights: Floats
    mean: Floats
    deviation: Floats


def expect(features: Floats, prior: Floats, told: list[int], metrics: Floats) -> Expectation:
    """The posterior of each model, and how well it explains what was told."""
    models = [_posterior(features, prior, told, metrics, trust) for trust in TRUST]
    evidence, mean, deviation = zip(*models, strict=True)
    return Expectation(softmax(np.array(evidence)), np.array(mean), np.array(deviation))


def _kernel(rows: Floats, others: Floats) -> Floats:
    width = rows.shape[1]
    inner = rows @ others.T
    distance = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * inner
    return 1.0 + 0.5 * inner / width + 0.5 * np.exp(-0.5 * np.maximum(distance, 0) / width)


def _posterior(
    features: Floats, prior: Floats, told: list[int], metrics: Floats, trust: float
) -> tuple[float, Floats, Floats]:
    known = features[told]
    variance = 2.0 + 0.5 * (features**2).mean(1) - 0.5
    if not told:
        return 0.0, trust * prior, np.sqrt(variance)
    factor = cho_factor(_kernel(known, known) + NOISE * np.eye(len(told)), lower=True)
    residual = metrics - trust * prior[told]
    across = _kernel(features, known)
    solved = cho_solve(factor, residual)
    half = solve_triangular(factor[0], across.T, lower=True)
    evidence = -0.5 * float(residual @ solved) - float(np.log(np.diag(factor[0])).sum())
    return evidence, trust * prior + across @ solved, np.sqrt(np.maximum(variance - (half**2).sum(0), 1e-9))
