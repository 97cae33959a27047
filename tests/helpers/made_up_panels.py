"""Candidates with made-up statistics, of which some tell what training would give."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nni_knas import Learner

STATISTICS = ['score', 'a', 'b', 'c', 'd', 'e']


def made_up(n=150, seed=0, by='score', noise=0.3):
    """A panel of six statistics, and metrics that go with one of them."""
    rng = np.random.default_rng(seed)
    names = [f'net {place}' for place in range(n)]
    panel = pd.DataFrame(rng.standard_normal((n, len(STATISTICS))), names, STATISTICS)
    return panel, 70 + 5 * (panel[by] + noise * rng.standard_normal(n))


def searched(learner, metrics, k, sign=1):
    """The ``k`` that are asked one by one, in order."""
    asked = []
    for _ in range(k):
        asked += learner.ask(1)
        learner.tell(asked[-1], sign * metrics[asked[-1]])
    return asked


def best_rank(metrics, labels):
    """1 where the best of all is among them."""
    return int(metrics.rank(ascending=False)[labels].min())


def learned(metrics, panel, k, **options):
    """A learner that was told of ``k`` candidates, and what it asked."""
    learner = Learner(panel, **options)
    return learner, searched(learner, metrics, k)
