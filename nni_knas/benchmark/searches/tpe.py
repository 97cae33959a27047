"""Tree-structured Parzen estimators: NNI's own, on the candidates of a table."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from nni.algorithms.hpo.tpe_tuner import Record, TpeArguments, suggest
from nni.common.hpo_utils import format_search_space

from nni_knas.benchmark.searches.base import Candidates, Search

__all__ = ['Tpe']

FIRST = 3
"""Random ones, in the place of NNI's 20."""


class Tpe(Search):
    """What NNI's TPE tuner suggests, which is also its strategy ``TPE``; the free candidate that is nearest is trained.

    Nearest is what differs in the fewest choices; the tuner is told what was trained. Source: Bergstra et al., "Algorithms
    for Hyper-Parameter Optimization", NeurIPS 2011.
    """

    name = 'tpe'

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        super().__init__(candidates, budget, seed)
        counts = candidates.choices.max(axis=0, initial=0) + 1
        self.space = format_search_space(
            {str(i): {'_type': 'choice', '_value': list(range(count))} for i, count in enumerate(counts)}
        )
        self.history: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        self.arguments = TpeArguments(n_startup_jobs=FIRST)

    def choose(self) -> int:
        suggested = suggest(self.arguments, self.rng, self.space, self.history)
        return self.nearest(np.array([suggested[key] for key in self.space]))

    def tell(self, candidate: int, metric: float) -> None:
        for key, choice in zip(self.space, self.candidates.choices[candidate]):
            self.history[key].append(Record(int(choice), -metric))  # it minimises
