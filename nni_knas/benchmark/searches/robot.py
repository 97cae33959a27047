"""A search like RoBoT's: Bayesian optimisation over the weights of proxies, then the top of the best weighting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

from nni_knas.benchmark.searches.base import Candidates, Search
from nni_knas.benchmark.searches.gaussian import matern, regress
from nni_knas.benchmark.searches.proxies import proxies_of

__all__ = ['Robot']

DRAWS = 500
"""Random weightings, of which that with the highest upper bound is queried."""
KAPPA = 2.576
"""Deviations above the mean in the upper bound."""
LENGTHS = (1.0, 2.0, 4.0)
NOISES = (1e-3, 0.1)


class Robot(Search):
    """As many weightings of min-max scaled proxies as the budget has trainings, from -1 to 1 each; then the best one's top.

    The next weighting has the highest upper confidence bound of a Gaussian process, which has learnt what the first
    candidate by each weighting reached when it was trained. A weighting whose first candidate was trained already costs
    nothing; what is left of the budget in the end is spent on the next candidates by the best weighting. Source: He et al.,
    "Robustifying and Boosting Training-Free Neural Architecture Search", ICLR 2024, and its script for TransNAS-Bench-101.
    The proxies are those of :data:`~nni_knas.benchmark.searches.proxies.PROXIES`, and the bound is sought among random
    weightings.
    """

    name = 'robot'
    by_budget = True

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        super().__init__(candidates, budget, seed)
        self.proxies = proxies_of(candidates.scaled)
        self.queries: list[tuple[NDArray[Any], int]] = []

    def choose(self) -> int:
        while len(self.queries) < self.budget:
            weights = self._next_weights()
            first = int((self.proxies @ weights).argmax())
            self.queries.append((weights, first))
            if self.free[first]:
                return first
        known = [(self.told[first], place) for place, (_, first) in enumerate(self.queries) if first in self.told]
        if not known:
            return self.anyone()
        return self.best_free(self.proxies @ self.queries[max(known)[1]][0])

    def _next_weights(self) -> NDArray[Any]:
        drawn = self.rng.uniform(-1, 1, (DRAWS, self.proxies.shape[1]))
        known = [(weights, self.told[first]) for weights, first in self.queries if first in self.told]
        if not known:
            return np.asarray(drawn[0])
        weights = np.array([each for each, _ in known])
        reached = np.array([metric for _, metric in known])
        posterior = regress(cdist(weights, weights), cdist(drawn, weights), reached, matern, LENGTHS, NOISES)
        return np.asarray(drawn[np.argmax(posterior.mean + KAPPA * posterior.deviation)])
