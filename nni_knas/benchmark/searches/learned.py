"""The learner, as it chooses in a search."""

from __future__ import annotations

from nni_knas.benchmark.searches.base import SCORE, Candidates, Search
from nni_knas.learner import Learner

__all__ = ['Learned']


class Learned(Search):
    """:class:`nni_knas.Learner` over the panel, with the recommended score as its prior."""

    name = 'learn'

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        super().__init__(candidates, budget, seed)
        self.learner = Learner(candidates.panel.reset_index(drop=True), prior=SCORE, seed=seed)

    def choose(self) -> int:
        return int(self.learner.ask(1)[0])

    def tell(self, candidate: int, metric: float) -> None:
        self.learner.tell(candidate, metric)
