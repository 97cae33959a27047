"""The learner, as it chooses in a search."""

from __future__ import annotations

import pandas as pd

from nni_knas.benchmark.searches.base import SCORE, Candidates, Search
from nni_knas.learner import Learner

__all__ = ['Learned']


class Learned(Search):
    """:class:`nni_knas.Learner` over the panel and the choices, as in a search, with the recommended score as its prior."""

    name = 'learn'

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        super().__init__(candidates, budget, seed)
        choices = pd.DataFrame(candidates.choices).astype('category').add_prefix('choice ')
        panel = candidates.panel.reset_index(drop=True).join(choices)
        self.learner = Learner(panel, prior=SCORE, seed=seed)

    def choose(self) -> int:
        return int(self.learner.ask(1)[0])

    def tell(self, candidate: int, metric: float) -> None:
        self.learner.tell(candidate, metric)
