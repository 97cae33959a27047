"""Candidates that are scored together where a search scores them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nni.nas.space import SimplifiedModelSpace
from spaces import FaultySpace, Many, tiny_kernel

from nni_knas.engine import Scorer, Task, Workers
from nni_knas.engine.process import InProcess
from nni_knas.kernel import together


def scorer_of(space, most, **options):
    return Scorer(tiny_kernel(together=most), SimplifiedModelSpace.from_model(space()), **options)


def verdicts_of(scorer, tasks):
    placement = InProcess()
    placement.start(scorer, None)
    for task in tasks:
        placement.put(task)
    found = []
    while len(found) < len(tasks):
        found += placement.get()
    return found


def tasks_of(space, count, quick=False):
    space = SimplifiedModelSpace.from_model(space())
    random_state = np.random.RandomState(count)
    return [Task(number, dict(space.random(random_state=random_state).sample), quick) for number in range(1, count + 1)]


@pytest.mark.parametrize(('space', 'bounds'), [(Many, {}), (Many, {'parameters': 100}), (FaultySpace, {})])
def test_verdicts_are_those_of_one_by_one(space, bounds):
    tasks = tasks_of(space, 20) + tasks_of(space, 5, quick=True)
    alone = verdicts_of(scorer_of(space, 1, constraints=bounds), tasks)
    for (task, verdict), (same, expected) in zip(verdicts_of(scorer_of(space, 8, constraints=bounds), tasks), alone):
        assert task is same
        assert (verdict.reason, verdict.filtered, verdict.costs) == (expected.reason, expected.filtered, expected.costs)
        assert (verdict.score is None) == (expected.score is None) and (verdict.panel is None) == (expected.panel is None)
        assert verdict.score is None or math.isclose(verdict.score, expected.score, rel_tol=1e-5)
    if bounds:
        assert 0 < sum(verdict.filtered for _, verdict in alone) < len(tasks)


def test_the_same_candidates_in_the_same_order_have_the_same_scores_to_the_last_bit():
    tasks = tasks_of(Many, 11)
    once, again = (
        [(verdict.score, verdict.panel) for _, verdict in verdicts_of(scorer_of(Many, 4), tasks)] for _ in range(2)
    )
    assert once == again


def test_quick_ones_and_full_ones_do_not_share_a_pass(monkeypatch):
    seen, shared = [], together.pass_together
    monkeypatch.setattr(together, 'pass_together', lambda g, networks: (seen.append(networks), shared(g, networks))[1])
    verdicts_of(scorer_of(Many, 4), [*tasks_of(Many, 6), *tasks_of(Many, 3, quick=True)])
    assert seen == [4, 2, 3]


def test_other_placements_say_that_they_do_not():
    with pytest.raises(ValueError, match='together=4 is for scoring in the searching process: take placement="process"'):
        Workers(1).start(scorer_of(Many, 4), None)
