"""A surrogate that sees the choices of an architecture, and no statistic."""

from __future__ import annotations

import numpy as np

from nni_knas.benchmark.searches.base import Search
from nni_knas.benchmark.searches.gaussian import Posterior, expected_improvement, exponential, regress

__all__ = ['Encodings', 'posterior_by_choices']

LENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Shorter ones know too little of what is not near."""
NOISES = (0.01, 0.1, 0.5)


def posterior_by_choices(search: Search) -> Posterior:
    """A Gaussian process over the share of choices in which architectures differ, from the metrics told so far."""
    told = list(search.told)
    distances = search.candidates.distances[:, told]
    observed = np.array(list(search.told.values()))
    return regress(distances[told], distances, observed, exponential, LENGTHS, NOISES)


class Encodings(Search):
    """Expected improvement by a Gaussian process over one-hot encodings of the architectures' choices.

    The distance of two one-hot encodings is the number of choices in which they differ; its length and noise are those of
    the greatest marginal likelihood. The first is random.
    """

    name = 'encodings'

    def choose(self) -> int:
        if not self.told:
            return self.anyone()
        return self.best_free(expected_improvement(posterior_by_choices(self), max(self.told.values())))
