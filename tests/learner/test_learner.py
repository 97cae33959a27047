"""Ask and tell, on made-up spaces."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nni_knas import Learner


def space(n=200, seed=0):
    """A panel in which the score says nothing and the statistic b everything."""
    rng = np.random.default_rng(seed)
    panel = pd.DataFrame(rng.standard_normal((n, 4)), columns=['score', 'a', 'b', 'c'], index=[f'net {i}' for i in range(n)])
    return panel, panel['b'] * 3 + 70


def test_leaves_a_prior_that_is_wrong():
    panel, truth = space()
    learner = Learner(panel)
    for _ in range(20):
        (label,) = learner.ask(1)
        learner.tell(label, truth[label])
    told = [label for label in panel.index if learner.reason(label)]
    assert len(told) == 20 and truth[told].max() >= truth.nlargest(3).min()
    assert learner.weights()['meaning']['b'] == 'more of it is better here'


def test_none_twice_and_all_at_the_end():
    panel, _ = space(30)
    learner = Learner(panel)
    asked = learner.ask(10) + learner.ask(25)
    assert sorted(asked) == sorted(panel.index) and learner.ask(1) == []


@pytest.mark.parametrize('mode', ['up', None])
def test_modes(mode):
    with pytest.raises(ValueError, match=r"^optimize_mode is 'maximize' or 'minimize', not"):
        Learner(space()[0], optimize_mode=mode)
