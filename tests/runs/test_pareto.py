"""Pareto fronts against the definition, and the choice from them."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_knas.runs.pareto import choose, crowding, fronts

number = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3), st.sampled_from([math.nan, math.inf, -math.inf]))
candidates = st.lists(st.tuples(number, number), max_size=40).map(lambda pairs: np.array(pairs).reshape(-1, 2).T)


def dominates(a, b):
    return a[0] >= b[0] and a[1] <= b[1] and (a[0] > b[0] or a[1] < b[1])


def peeled(scores, costs):
    """By the definition: take away those that nobody dominates, again and again."""
    rest = {i: pair for i, pair in enumerate(zip(scores, costs)) if not np.isnan(pair).any()}
    front, level = np.full(len(scores), -1), 0
    while rest:
        best = [i for i, a in rest.items() if not any(dominates(b, a) for b in rest.values())]
        for i in best:
            front[i] = level
            del rest[i]
        level += 1
    return front


@given(candidates)
def test_fronts_are_those_of_the_definition(pairs):
    scores, costs = pairs
    assert fronts(scores, costs).tolist() == peeled(scores, costs).tolist()


@given(candidates, st.integers(0, 45))
def test_choice(pairs, k):
    """Whole fronts from the first on, a part of the last, best score first; their order decides ties only."""
    scores, costs = pairs
    front, chosen = fronts(scores, costs), choose(scores, costs, k)
    usable = np.flatnonzero(front >= 0)
    assert len(chosen) == len(set(chosen.tolist())) == min(k, len(usable))
    assert sorted(front[chosen]) == sorted(front[usable])[:k]
    assert list(chosen) == sorted(chosen, key=lambda i: (-scores[i], costs[i], i))
    swapped = choose(scores[::-1], costs[::-1], k)
    assert sorted(zip(scores[chosen], costs[chosen])) == sorted(zip(scores[::-1][swapped], costs[::-1][swapped]))


def test_the_last_front_is_taken_by_crowding_distance():
    """The ends, then those with the widest gaps around them; the cluster is thinned."""
    scores, costs = np.array([1.0, 5.0, 5.1, 5.2, 8.0, 10.0]), np.array([1.0, 5.0, 5.1, 5.2, 8.0, 10.0])
    expected = [math.inf, 2 * 4.1 / 9, 2 * 0.2 / 9, 2 * 2.9 / 9, 2 * 4.8 / 9, math.inf]
    np.testing.assert_allclose(crowding(scores, costs), expected)
    assert choose(scores, costs, 4).tolist() == [5, 4, 1, 0]
    assert choose(scores, costs, 5).tolist() == [5, 4, 3, 1, 0]


def test_equal_candidates_do_not_crowd_others_out():
    scores, costs = np.array([2.0, 2.0, 2.0, 1.0]), np.array([2.0, 2.0, 2.0, 1.0])
    assert fronts(scores, costs).tolist() == [0, 0, 0, 0]
    assert choose(scores, costs, 2).tolist() == [0, 3]


def test_candidates_without_a_score_or_a_cost_are_never_chosen():
    scores, costs = np.array([math.nan, 1.0, 9.0]), np.array([1.0, 1.0, math.nan])
    assert fronts(scores, costs).tolist() == [-1, 0, -1]
    assert choose(scores, costs, 3).tolist() == [1]


def test_lengths_have_to_agree():
    with pytest.raises(ValueError, match='of one length'):
        fronts([1.0, 2.0], [1.0])


def test_a_whole_benchmark_is_quick():
    random = np.random.default_rng(0)
    scores, costs = random.random(15_625), random.integers(1, 300, 15_625)
    start = time.thread_time()
    assert len(choose(scores, costs, 100)) == 100
    assert time.thread_time() - start < 2
