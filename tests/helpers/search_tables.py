"""Small made-up tables for searches: what is good follows the choices, the statistics, or neither."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from nni_knas.benchmark import Pool
from nni_knas.benchmark.searches import Candidates

STATISTICS = ('score', 'parameters', 'flops', 'layers', 'gradient-norm', 'weight-log-rank')


def grid(choices: int = 4, values: int = 3) -> np.ndarray:
    """All combinations."""
    return np.array(list(itertools.product(range(values), repeat=choices)))


def candidates(seed: int = 0) -> tuple[Candidates, np.ndarray, np.ndarray]:
    """243 candidates of random statistics; a metric that follows their choices, and one that follows two statistics.

    What the recommended score says is the opposite of the second.
    """
    rng = np.random.default_rng(seed)
    choices = grid(5)
    panel = pd.DataFrame(rng.normal(size=(len(choices), len(STATISTICS))), columns=list(STATISTICS))
    by_statistics = (panel.layers - 0.5 * panel['gradient-norm']).to_numpy()
    panel['score'] = -by_statistics
    worth = rng.normal(size=(choices.shape[1], 3))
    by_choices = worth[np.arange(choices.shape[1]), choices].sum(axis=1)
    return Candidates(panel, choices), by_choices, by_statistics


def pool(size: int = 243, seed: int = 0) -> Pool:
    """The same with two tasks."""
    made, by_choices, by_statistics = candidates(seed)
    metrics = pd.DataFrame({'by_choices': by_choices, 'by_statistics': by_statistics})
    panel = made.panel.iloc[:size]
    return Pool([panel], [panel[[]]], made.choices[:size], metrics.iloc[:size])
