"""Regularized evolution: NNI's own strategy, on the candidates of a table."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from nni.mutable import Categorical
from nni.nas.strategy import RegularizedEvolution
from nni.nas.strategy.evolution import Individual
from numpy.typing import NDArray

from nni_knas.benchmark.searches.base import Candidates, Search

__all__ = ['Evolution']

logging.getLogger('nni.nas.strategy.evolution').setLevel(logging.WARNING)  # a line for each individual
POPULATION, TOURNAMENT = 10, 5
"""In the place of NNI's 100 and 25, with which 40 trainings would all be random."""


class Evolution(Search):
    """NNI's ``RegularizedEvolution`` on the metric: of a random few of the population the best is mutated.

    Its individuals are drawn and mutated by NNI's own methods, one choice in the mean; the free candidate that differs in
    the fewest choices from what they give is trained, and enters the population as it is. Source: Real et al., "Regularized
    Evolution for Image Classifier Architecture Search", AAAI 2019.
    """

    name = 'evolution'

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        super().__init__(candidates, budget, seed)
        self.strategy = RegularizedEvolution(
            population_size=POPULATION,
            sample_size=TOURNAMENT,
            mutation_prob=1 / max(candidates.choices.shape[1], 1),
            dedup=False,
            seed=seed,
        )
        self.strategy._model_space = _Choices(candidates.choices)
        self.asked = 0

    def choose(self) -> int:
        population = self.strategy._population
        begins = self.asked < POPULATION or not population
        self.asked += 1
        sample: Any = self.strategy.random() if begins else self.strategy.new_individual()
        return self.nearest(np.array([sample[label] for label in sorted(sample)]))

    def tell(self, candidate: int, metric: float) -> None:
        population = self.strategy._population
        choices = self.candidates.choices[candidate]
        population.append(Individual({_label(i): int(choice) for i, choice in enumerate(choices)}, metric))
        if len(population) > POPULATION:
            population.popleft()


class _Choices:
    """What NNI's strategy asks of a model space: a choice for each column of the candidates' choices."""

    def __init__(self, choices: NDArray[Any]) -> None:
        values = [np.unique(column).tolist() for column in choices.T]
        self.mutables = {_label(i): Categorical(each, label=_label(i)) for i, each in enumerate(values)}

    def random(self, memo: dict[str, Any], random_state: np.random.RandomState) -> dict[str, Any]:
        memo.update({label: each.random(random_state=random_state) for label, each in self.mutables.items()})
        return memo

    def simplify(self) -> dict[str, Any]:
        return self.mutables

    def freeze(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample


def _label(place: int) -> str:
    return f'choice {place:06d}'
