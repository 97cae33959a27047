"""What holds of a learner on any panel."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_panels import made_up, searched

from nni_knas import Learner

quick = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def panels(draw):
    """With values that are missing, infinite, huge or the same, and candidates that are alike."""
    values = st.sampled_from([0.0, 1.0, -1.0, 2.5, 1e300, -1e-300, math.nan, math.inf, -math.inf])
    n, d = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(values, min_size=d, max_size=d), min_size=n, max_size=n))
    return pd.DataFrame(rows, columns=['score', *'abc'][:d])


@quick
@given(panels(), st.data())
def test_whatever_is_asked_and_told(panel, data):
    """No label twice, all of them in the end, and expectations are numbers all the time."""
    learner, asked, waiting, failed = Learner(panel), [], [], 0
    while len(asked) < len(panel):
        waiting += learner.ask(data.draw(st.integers(1, 4)))
        asked += [label for label in waiting if label not in asked]
        for label in data.draw(st.permutations(waiting))[: data.draw(st.integers(0, len(waiting)))]:
            metric = data.draw(st.sampled_from([None, 0.0, 0.5, 0.5, 1e30, math.nan]))
            learner.tell(label, metric)
            failed += metric is None or math.isnan(metric)
            waiting.remove(label)
        table = learner.predictions()
        assert np.isfinite(table).all(axis=None) and table.chance.sum() == pytest.approx(0 if failed == len(panel) else 1)
        assert np.isfinite(learner.weights()[['weight', 'low', 'high']]).all(axis=None)
    assert sorted(asked) == sorted(panel.index) and learner.ask(1) == []


@quick
@given(seeds, st.integers(1, 4))
def test_the_same_is_asked_again_when_the_same_is_told(seed, lag):
    """By a new learner that asks nothing before: as in a run that was killed."""
    panel, metrics = made_up(60, seed, by='a')
    learner, told = Learner(panel, seed=seed), []
    waiting = learner.ask(lag)
    for _ in range(8):
        told.append(waiting.pop(0))
        learner.tell(told[-1], metrics[told[-1]])
        waiting += learner.ask(1)
    again = Learner(panel, seed=seed)
    for label in told:
        again.tell(label, metrics[label])
    for label in waiting:
        again.begin(label)
    assert learner.ask(3) == again.ask(3) and learner.predictions().equals(again.predictions())


@quick
@given(seeds)
def test_scales_do_not_matter(seed):
    """Statistics, prior and metrics are compared by rank."""
    panel, metrics = made_up(60, seed, by='a')
    bent = panel.assign(score=np.exp(panel.score), a=panel.a * 1e12, b=panel.b**3)
    assert searched(Learner(panel), metrics, 10) == searched(Learner(bent), np.exp(metrics / 50), 10)


@quick
@given(seeds)
def test_the_order_of_columns_does_not_matter(seed):
    panel, metrics = made_up(60, seed, by='a')
    assert searched(Learner(panel), metrics, 10) == searched(Learner(panel[panel.columns[::-1]]), metrics, 10)


@quick
@given(seeds)
def test_a_statistic_that_all_share_does_not_matter(seed):
    panel, metrics = made_up(60, seed, by='a')
    assert searched(Learner(panel), metrics, 10) == searched(Learner(panel.assign(same=3.0)), metrics, 10)
