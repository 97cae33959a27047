"""The proxies that searches of papers are given, in the place of their own."""

from __future__ import annotations

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.searches.base import SCORE

__all__ = ['PROXIES', 'proxies_of']

PROXIES = (
    SCORE,
    'parameters',
    'flops',
    'layers',
    'gradient-norm',
    'weight-log-rank',
    'feature-log-rank',
    'backward-log-rank',
)
"""Eight, about as many as the papers take, of kinds that differ: in more dimensions few trainings find no weights."""


def proxies_of(table: pd.DataFrame) -> NDArray[Any]:
    """The columns of the proxies, of those that the table has, shape ``N x P``; all, where it has none."""
    there = [name for name in PROXIES if name in table]
    return table[there or list(table.columns)].to_numpy(float)
