"""Choices of the architecture beside the statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nni_knas import Learner

KINDS = np.array(['conv', 'pool', 'skip', 'none'])


def space(seed):
    """A panel that says nothing, four choices, and metrics that the first two of them make."""
    rng = np.random.default_rng(seed)
    panel = pd.DataFrame(rng.standard_normal((250, 3)), columns=['score', 'a', 'b'])
    codes = rng.integers(0, 4, (250, 4))
    metrics = 2.0 * (codes[:, 0] == 2) + 1.5 * (codes[:, 1] == 1) + 0.3 * rng.standard_normal(250)
    choices = pd.DataFrame(KINDS[codes]).add_prefix('op ').astype('category')
    return panel, choices, pd.Series(metrics)


def asked(panel, metrics, count=20):
    learner, labels = Learner(panel), []
    for _ in range(count):
        labels += learner.ask(1)
        learner.tell(labels[-1], metrics[labels[-1]])
    return labels


def test_are_learnt():
    with_choices, without = [], []
    for seed in range(4):
        panel, choices, metrics = space(seed)
        found = metrics.rank(ascending=False)
        with_choices.append(found[asked(panel.join(choices), metrics)].min())
        without.append(found[asked(panel, metrics)].min())
    assert np.mean(with_choices) < 0.5 * np.mean(without)


def test_are_no_names():
    panel, choices, metrics = space(0)
    other = dict(zip(KINDS, np.random.default_rng(0).permutation([7, 0, 3, 1]), strict=True))
    renamed = choices.apply(lambda column: column.map(other)).astype('category')
    assert asked(panel.join(renamed), metrics, 8) == asked(panel.join(choices), metrics, 8)


def test_say_nothing_before_metrics_are_told():
    panel, choices, _ = space(0)
    expected = Learner(panel.join(choices)).predictions()['mean']
    assert expected.corr(panel.score, 'spearman') > 0.99
    assert Learner(panel.join(choices)).ask(1) == [panel.score.idxmax()]


def test_one_that_all_have_made_is_none():
    panel, _, metrics = space(0)
    same = panel.assign(op=pd.Categorical(['conv'] * len(panel)))
    assert asked(same, metrics, 8) == asked(panel, metrics, 8)


def test_one_that_is_missing_is_a_choice_of_its_own():
    panel, choices, metrics = space(0)
    missing = choices.where(choices != 'none').astype('category')
    assert asked(panel.join(missing), metrics, 8) == asked(panel.join(choices), metrics, 8)


def test_have_no_weight_but_statistics_have():
    panel, choices, metrics = space(0)
    learner = Learner(panel.join(choices))
    learner.tell(3, metrics[3])
    assert [*learner.weights().index] == [*panel.columns]


def test_alone_with_a_prior():
    _, choices, metrics = space(0)
    learner = Learner(choices, prior=metrics)
    assert learner.ask(1) == [metrics.idxmax()] and learner.weights().empty


def test_words_are_no_statistics():
    panel, choices, _ = space(0)
    with pytest.raises(ValueError, match=r"'op 0'.*type category"):
        Learner(panel.join(choices.astype(object)))
