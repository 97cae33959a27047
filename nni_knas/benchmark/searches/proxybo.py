"""A search like ProxyBO's: ranks by proxies and by a surrogate, weighted by how well each ordered what was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax  # type: ignore[import-untyped]
from scipy.stats import rankdata  # type: ignore[import-untyped]

from nni_knas.benchmark.searches.base import Candidates, Search
from nni_knas.benchmark.searches.encodings import posterior_by_choices
from nni_knas.benchmark.searches.gaussian import expected_improvement
from nni_knas.benchmark.searches.proxies import proxies_of

__all__ = ['ProxyBO', 'agreement']

FIRST = 3
"""Trainings before the surrogate has a say."""
TEMPERATURE = 0.1
"""Of the weights, lower as more is known."""


class ProxyBO(Search):
    """The highest weighted sum of ranks, by each proxy and by the expected improvement of a surrogate.

    A weight is a softmax over the shares of pairs of trained networks that each orders rightly, under a temperature that
    falls with their number; the surrogate orders each by what the others tell of it. Source: Shen et al., "ProxyBO:
    Accelerating Neural Architecture Search via Bayesian Optimization with Zero-cost Proxies", AAAI 2023. The proxies are
    those of :data:`~nni_knas.benchmark.searches.proxies.PROXIES`; the surrogate is the Gaussian process of
    :class:`~nni_knas.benchmark.searches.encodings.Encodings`, where the paper has a random forest.
    """

    name = 'proxybo'

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        super().__init__(candidates, budget, seed)
        self.ranks = proxies_of(candidates.ranks)

    def choose(self) -> int:
        told, metrics = list(self.told), np.array(list(self.told.values()))
        ranks, orders = self.ranks, self.ranks[told]
        if len(told) >= FIRST:
            posterior = posterior_by_choices(self)
            improvement = expected_improvement(posterior, metrics.max())
            ranks = np.column_stack([ranks, rankdata(improvement) / len(improvement)])
            orders = np.column_stack([orders, posterior.held_out])
        agreements = np.array([agreement(order, metrics) for order in orders.T])
        weights = softmax(agreements / (TEMPERATURE / (1 + np.log(max(len(told), 1)))))
        return self.best_free(ranks @ weights)


def agreement(order: NDArray[Any], metrics: NDArray[Any]) -> float:
    """The share of pairs that are ordered as the metrics order them, ties half; a half where there is no pair."""
    above, below = np.triu_indices(len(metrics), 1)
    if not len(above):
        return 0.5
    signs = np.sign(order[above] - order[below]) * np.sign(metrics[above] - metrics[below])
    return float(0.5 + signs.mean() / 2)
