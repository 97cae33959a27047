"""What a search on a table is, and what it may look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]

__all__ = ['SCORE', 'Candidates', 'Search']

SCORE = 'score'
"""The panel's column of the recommended score."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is known of ``N`` candidates before any is trained.

    Attributes
    ----------
    panel
        A row a candidate, a column a statistic; :data:`SCORE` is one of them. ``nan`` where a network could not be scored.
    choices
        Shape ``N x D``: what each has of each of ``D`` choices, as numbers from 0.
    """

    panel: pd.DataFrame
    choices: NDArray[Any]

    def __len__(self) -> int:
        return len(self.panel)

    @cached_property
    def scaled(self) -> pd.DataFrame:
        """Each statistic from 0 to 1, its least and greatest; what is missing is 0."""
        spread = (self.panel.max() - self.panel.min()).replace(0, 1)
        return ((self.panel - self.panel.min()) / spread).fillna(0.0)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Each statistic by ranks, from ``1 / N`` to 1; what is missing is the worst."""
        ranked = rankdata(self.panel.fillna(-np.inf), axis=0) / len(self)
        return pd.DataFrame(ranked, self.panel.index, self.panel.columns)

    @cached_property
    def distances(self) -> NDArray[Any]:
        """Shape ``N x N``: the share of choices in which two candidates differ."""
        different = np.zeros((len(self), len(self)), dtype=np.float32)
        for column in self.choices.T:
            different += column[:, None] != column
        share: NDArray[Any] = different / max(self.choices.shape[1], 1)
        return share


class Search(ABC):
    """Chooses what to train next. A subclass says its source, and in what it departs from it.

    Parameters
    ----------
    candidates
        Of which it chooses.
    budget
        How many will be asked.
    seed
        The same seed gives the same choices.
    """

    name: ClassVar[str]
    by_budget: ClassVar[bool] = False
    """Whether what is asked first depends on the budget, so that each needs a run of its own."""

    def __init__(self, candidates: Candidates, budget: int, seed: int) -> None:
        self.candidates, self.budget, self.seed = candidates, budget, seed
        self.rng = np.random.default_rng(seed)
        self.free = np.ones(len(candidates), dtype=bool)
        self.told: dict[int, float] = {}

    def ask(self) -> int:
        """The number of the candidate to train next; none is asked twice."""
        chosen = self.choose()
        self.free[chosen] = False
        return chosen

    def tell(self, candidate: int, metric: float) -> None:
        """Take in the metric of one that was asked; higher is better."""
        self.told[candidate] = metric

    @abstractmethod
    def choose(self) -> int:
        """One of those that are free."""

    def anyone(self) -> int:
        """A random one of those that are free."""
        return int(self.rng.choice(np.flatnonzero(self.free)))

    def best_free(self, values: NDArray[Any]) -> int:
        """The one of those that are free with the highest value; among equals a random one."""
        open_to = np.flatnonzero(self.free)
        highest = values[open_to].max()
        return int(self.rng.choice(open_to[values[open_to] == highest]))

    def nearest(self, choices: NDArray[Any]) -> int:
        """The one of those that are free that differs in the fewest choices from these, shape ``D``."""
        return self.best_free(-(self.candidates.choices != choices).sum(axis=1))
