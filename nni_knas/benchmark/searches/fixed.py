"""Choices that are made before anything is trained: the top of a ranking, and none at all."""

from __future__ import annotations

import pandas as pd

from nni_knas.benchmark.ranking import order_of
from nni_knas.benchmark.searches.base import SCORE, Search

__all__ = ['LEAST', 'RANKED', 'Random', 'fixed_orders']

RANKED = 'rank'
"""The name of the choice by the recommended score, which is what KNAS does where it does not learn."""
LEAST = 'least '
"""Before the name of a statistic by which the lowest come first."""


def fixed_orders(panel: pd.DataFrame, count: int) -> dict[str, list[int]]:
    """The first ``count`` candidates by each statistic, from its highest and from its lowest values.

    Ties stay in the order of the panel; those without a value come last. That by the recommended score is :data:`RANKED`.
    """
    values = {RANKED if name == SCORE else str(name): panel[name].to_numpy(float) for name in panel}
    values |= {f'{LEAST}{name}': -each for name, each in values.items()}
    return {name: order_of(each)[:count].tolist() for name, each in values.items()}


class Random(Search):
    """Any of those that are left."""

    name = 'random'

    def choose(self) -> int:
        return self.anyone()
