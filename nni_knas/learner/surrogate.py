r"""What is expected of each candidate: Gaussian processes, averaged by how well they explain what was told.

Of ``k`` told metrics :math:`y` (normal scores of their ranks) and candidates with statistics :math:`x \in R^d` (normal
scores, too), each model says

.. math::

    y = c + \sigma \left( \rho\, e(x) + \sqrt{1 - \rho^2}\, \big( \sqrt{1 - \nu}\, g(x) + \sqrt{\nu}\, \epsilon \big) \right)

with an expert :math:`e`, which is the prior, one statistic, its negative, or nothing, and is trusted with a correlation of
:math:`\rho`; a function :math:`g` of all statistics, a Gaussian process with one half a linear kernel and one half a smooth
one, or, where choices of architectures are known, with a linear one and those of the choices in which two are alike;
what no statistic tells, :math:`\epsilon`; and any level :math:`c`. A model is a choice of expert, :math:`\rho`,
:math:`\nu` and :math:`\sigma`. All have a probability before anything is told, most of it with the prior, and are averaged
by their posterior probabilities (Hoeting and others, Bayesian Model Averaging, 1999), which are in closed form (Rasmussen
and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5). So the prior is believed until metrics
disagree, and then the average moves to what agrees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax  # type: ignore[import-untyped]

from nni_knas.learner.normalising import Floats
from nni_knas.learner.panel import Choices

__all__ = ['Belief', 'Places', 'Surrogate']

Places = NDArray[np.int64]
"""Rows of the panel, by position."""

TRUST = {0.8: 0.2, 0.5: 0.3, 0.2: 0.2}
"""How much the prior is trusted, and the probabilities."""
NOTHING = 0.1
"""The probability of no expert."""
STATISTIC, AGAINST, TRUST_STATISTIC = 0.25, 0.25, 0.7
"""The probability that the expert is a single statistic, the share of negatives in it, and how much it is trusted."""
NOISE = (0.2, 0.5, 0.8)
"""The shares of what no statistic tells."""
SCALES, USUAL, SPREAD = np.array([0.4, 0.7, 1.2, 2.0, 3.5]), 1.2, 0.8
"""The deviations of metrics over all candidates, in those of the told ones; lognormal about the usual."""
LINEAR, SMOOTH = 0.5, 0.5
"""The shares of the linear and of the smooth kernel of the statistics, where no choices are known."""
CHOSEN_LINEAR, EACH, TOGETHER, NEAR = 0.3, 0.4, 0.3, 0.5
"""With choices: the shares of the linear kernel of the statistics, of each choice by itself and of all together; and in
which share of their choices two candidates differ that know little of each other."""
LEVEL = 9.0
"""The variance of the level."""
FAINT = 1e-3
"""With less than this probability an expert is left out of what experts disagree in."""


class Experts(NamedTuple):
    """``E`` experts: which of the columns (the prior is the first), how much and in which direction it is trusted."""

    column: Places
    slope: Floats
    log_probability: Floats

    @property
    def rest(self) -> Floats:
        """The share of the variance that each leaves."""
        return 1 - self.slope**2


def experts_of(statistics: int) -> Experts:
    """The prior at several degrees of trust, nothing, and each statistic and its negative."""
    each, share = np.arange(1, statistics + 1), STATISTIC / max(statistics, 1)
    column = np.concatenate([np.zeros(len(TRUST) + 1, int), each, each])
    slope = np.concatenate([[*TRUST, 0.0], np.repeat([TRUST_STATISTIC, -TRUST_STATISTIC], statistics)])
    either = np.repeat([share * (1 - AGAINST), share * AGAINST], statistics)
    probability = np.concatenate([[*TRUST.values(), NOTHING], either])
    return Experts(column, slope, np.log(probability / probability.sum()))


class Surrogate:
    """The models of a space, before anything is told.

    Parameters
    ----------
    features
        ``n x d``, the normal scores of the statistics.
    prior
        ``n``, the normal scores of the prior.
    choices
        ``n x c``, what each has of each choice, as numbers. Default: nothing is known of them.
    """

    def __init__(self, features: Floats, prior: Floats, choices: Choices | None = None) -> None:
        varied = features[:, features.any(0)]
        self.experts = experts_of(varied.shape[1])
        self.columns = np.column_stack([prior, varied])
        self._scaled = varied / np.sqrt(max(varied.shape[1], 1))
        self._squares: Floats = (self._scaled**2).sum(1)
        self._choices = choices if choices is not None and choices.shape[1] else None

    def kernel(self, rows: Places, others: Places) -> Floats:
        """Of statistics linear and smooth; with choices, linear, and of what two candidates have chosen alike."""
        inner: Floats = self._scaled[rows] @ self._scaled[others].T
        if self._choices is None:
            distance = self._squares[rows][:, None] + self._squares[others] - 2 * inner
            smooth: Floats = np.exp(-0.5 * np.maximum(distance, 0))
            return LINEAR * inner + SMOOTH * smooth
        alike = _alike(self._choices[rows], self._choices[others])
        return CHOSEN_LINEAR * inner + EACH * alike + TOGETHER * np.exp((alike - 1) / NEAR)

    def variance(self, rows: Places) -> Floats:
        """The kernel of each with itself."""
        if self._choices is None:
            return LINEAR * self._squares[rows] + SMOOTH
        return CHOSEN_LINEAR * self._squares[rows] + EACH + TOGETHER

    def told(self, places: Places, scores: Floats) -> Belief:
        """What is believed when candidates have these normal scores of metrics."""
        return Belief(self, places, scores)


def _alike(chosen: Choices, others: Choices) -> Floats:
    """In which share of their choices two candidates have chosen the same."""
    alike = np.zeros((len(chosen), len(others)), np.float32)
    for column, other in zip(chosen.T, others.T, strict=True):
        alike += column[:, None] == other
    share: Floats = alike.astype(float) / chosen.shape[1]
    return share


class Belief:
    """The models of a space after ``k`` candidates were told.

    Parameters
    ----------
    surrogate
        The models before.
    places
        The ``k`` candidates.
    scores
        ``k``, the normal scores of their metrics.
    """

    def __init__(self, surrogate: Surrogate, places: Places, scores: Floats) -> None:
        self._surrogate, self._experts, self._places, self._scores = surrogate, surrogate.experts, places, scores
        self._columns = surrogate.columns[places]
        covariance = surrogate.kernel(places, places)
        covariances = [LEVEL + (1 - noise) * covariance + noise * np.eye(len(places)) for noise in NOISE]
        self._inverses: list[Any] = [np.linalg.inv(each) for each in covariances]
        evidence = np.array([self._evidence(*each) for each in zip(covariances, self._inverses, strict=True)])
        self.weights: Floats = softmax(evidence)
        """``NOISE x E x SCALES``: the probability of each model."""

    @property
    def trust(self) -> float:
        """The probability of the models that have the prior as their expert."""
        return float(self.weights[:, : len(TRUST)].sum())

    def _evidence(self, covariance: Any, inverse: Any) -> Floats:
        """``E x SCALES``, the logarithm of the joint density of a model and what was told."""
        experts, scales = self._experts, SCALES
        solved = inverse @ self._columns
        with_expert = experts.slope * (self._scores @ solved)[experts.column]
        of_expert = experts.slope**2 * (self._columns * solved).sum(0)[experts.column]
        square = self._scores @ inverse @ self._scores / scales**2 - 2 * with_expert[:, None] / scales + of_expert[:, None]
        freedom = len(self._scores) * (np.log(scales) + 0.5 * np.log(experts.rest)[:, None])
        usual = experts.log_probability[:, None] - 0.5 * (np.log(SCALES / USUAL) / SPREAD) ** 2
        evidence: Floats = usual - 0.5 * square / experts.rest[:, None] - freedom - 0.5 * np.linalg.slogdet(covariance)[1]
        return evidence

    def expect(self, rows: Places) -> tuple[Floats, Floats]:
        """Mean and deviation of the metrics of ``n`` candidates, as normal scores: of all models together."""
        across, columns = self._surrogate.kernel(rows, self._places), self._surrogate.columns[rows]
        mean, variance = np.zeros(len(rows)), np.zeros(len(rows))
        for level in range(len(NOISE)):
            weights = self.weights[level]
            amount: Floats = self._experts.slope * (weights @ SCALES)
            slopes = np.bincount(self._experts.column, amount, columns.shape[1]).astype(float)
            mean += self._mean(level, across, columns, float(weights.sum()), slopes)
        for level, noise in enumerate(NOISE):
            own = self._across(level, across)
            rest = LEVEL + (1 - noise) * self._surrogate.variance(rows) + noise
            rest -= ((own @ self._inverses[level]) * own).sum(1)
            variance += rest * (self._experts.rest @ (self.weights[level] @ np.square(SCALES)))
            variance += self._disagreement(level, across, columns, mean)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def draw(self, rows: Places, count: int, rng: np.random.Generator, noise: bool) -> Floats:
        """``count x n`` joint draws of candidates' metrics, each of one model; with or without what no statistic tells."""
        across, columns = self._surrogate.kernel(rows, self._places), self._surrogate.columns[rows]
        models = rng.choice(self.weights.size, count, p=self.weights.ravel())
        levels, experts, scales = np.unravel_index(models, self.weights.shape)
        standard, drawn = rng.standard_normal((2, count, len(rows))), np.zeros((count, len(rows)))
        for level, share in enumerate(NOISE):
            here = np.flatnonzero(levels == level)
            own, expert, scale = self._across(level, across), experts[here], SCALES[scales[here]]
            rest = LEVEL + (1 - share) * self._surrogate.kernel(rows, rows) - own @ self._inverses[level] @ own.T
            root = np.linalg.cholesky(rest + 1e-6 * np.eye(len(rows)))
            slopes = np.zeros((columns.shape[1], len(here)))
            slopes[self._experts.column[expert], np.arange(len(here))] = self._experts.slope[expert] * scale
            deviation = standard[0, here] @ root.T + noise * np.sqrt(share) * standard[1, here]
            mean = self._mean(level, across, columns, np.ones(len(here)), slopes)
            drawn[here] = mean.T + (scale * np.sqrt(self._experts.rest[expert]))[:, None] * deviation
        return drawn

    def _across(self, level: int, across: Floats) -> Floats:
        """The covariances of a noise, of candidates with those told."""
        return LEVEL + (1 - NOISE[level]) * across

    def _mean(self, level: int, across: Floats, columns: Floats, weights: Any, slopes: Floats) -> Floats:
        """What models with slopes along the columns expect: ``n``, or ``n x m`` of ``m`` of them."""
        scores = np.multiply.outer(self._scores, weights)
        left: Floats = self._inverses[level] @ (scores - self._columns @ slopes)
        mean: Floats = self._across(level, across) @ left + columns @ slopes
        return mean

    def _disagreement(self, level: int, across: Floats, columns: Floats, mean: Floats) -> Floats:
        """The variance between experts: about the mean of all models, weighted by their probabilities."""
        weights = self.weights[level].sum(1)
        told = np.flatnonzero(weights >= FAINT)
        scale = self.weights[level][told] @ SCALES / weights[told]
        slopes = np.zeros((columns.shape[1], len(told)))
        slopes[self._experts.column[told], np.arange(len(told))] = self._experts.slope[told] * scale
        expected = self._mean(level, across, columns, np.ones(len(told)), slopes)
        variance: Floats = (expected - mean[:, None]) ** 2 @ weights[told]
        return variance
