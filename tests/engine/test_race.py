"""How many of the best are missed by those that are not scored in full, as predicted and as counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_knas.engine.race import Race, expected_missed


def population(noise, seed, n=400):
    rng = np.random.default_rng(seed)
    quick = np.sort(rng.normal(size=n))[::-1]
    return quick, 3 * quick + noise * rng.normal(size=n)


def test_nothing_is_missed_where_all_are_scored():
    assert expected_missed([1.0, 2.0], [1.0, 2.0], [], 1) == 0


@pytest.mark.parametrize(('m', 'k'), [(11, 1), (19, 20), (0, 1)])
def test_too_few_say_nothing(m, k):
    assert expected_missed(np.arange(m), np.arange(m), [0.0], k) == math.inf


@pytest.mark.parametrize('noise', [0.3, 1.0, 3.0])
@pytest.mark.parametrize('m', [40, 80, 160])
def test_prediction_is_right_on_average_or_on_the_safe_side(noise, m):
    predicted, counted, k = [], [], 20
    for seed in range(60):
        quick, full = population(noise, seed)
        predicted.append(expected_missed(quick[:m], full[:m], quick[m:], k))
        # Those of the rest that would push their way among the best: above the k-th best known one.
        counted.append((full[m:] > np.sort(full[:m])[-k]).sum())
    assert 0.8 * np.mean(counted) - 0.1 < np.mean(predicted) < 2 * np.mean(counted) + 0.1


def test_more_noise_more_missed():
    missed = [
        expected_missed(quick[:60], full[:60], quick[60:], 20)
        for quick, full in (population(noise, 0) for noise in (0.1, 1, 5))
    ]
    assert missed == sorted(missed) and missed[0] < 1e-3 < missed[-1]


def test_a_quick_score_that_misleads_excludes_nobody():
    quick, full = population(0.5, 1)
    assert expected_missed(quick[:60], -full[:60], quick[60:], 20) > 50


@given(st.integers(0, 10_000), st.floats(0.1, 100), st.floats(-50, 50))
def test_units_do_not_matter(seed, scale, shift):
    quick, full = population(1.0, seed, 100)
    quick, full = quick - 10, full - 40  # not all positive, so no logarithms
    reference = expected_missed(quick[:50], full[:50], quick[50:], 10)
    other = expected_missed(scale * quick[:50], scale * full[:50] - 100 - abs(shift), scale * quick[50:], 10)
    assert other == pytest.approx(reference, rel=1e-6, abs=1e-9)


def test_positive_scores_are_compared_by_their_logarithms():
    quick, full = population(0.5, 2)
    assert expected_missed(np.exp(quick[:60]), np.exp(full[:60]), np.exp(quick[60:]), 20) == pytest.approx(
        expected_missed(quick[:60], full[:60], quick[60:], 20)
    )


@pytest.mark.parametrize('full', [np.ones(20), np.arange(20.0)])
def test_equal_scores(full):
    missed = expected_missed(np.ones(20), full, np.ones(5), 3)
    assert 0 <= missed <= 5


def run(quick, full, k, **options):
    """The candidates that are scored in full."""
    race = Race(dict(enumerate(quick)), k, **options)
    done: list[int] = []
    while batch := race.next():
        assert not set(batch) & set(done) and len(set(batch)) == len(batch)
        for candidate in batch:
            race.add(candidate, full[candidate])
        done += batch
    return done


@pytest.mark.parametrize(('noise', 'most'), [(0.1, 60), (1.0, 250), (3.0, 400)])
def test_a_race_finds_the_best(noise, most):
    found = []
    for seed in range(30):
        quick, full = population(noise, seed)
        done = run(quick, full, 20)
        found.append(len({*np.argsort(-full)[:20]} & {*done}) / 20)
        assert len(done) <= most
    assert np.mean(found) > 0.97


def test_candidates_are_scored_from_the_best_on():
    quick, full = population(1.0, 3)
    order = np.random.RandomState(0).permutation(len(quick))
    done = run(quick[order], full[order], 20)
    assert list(quick[order][done]) == sorted(quick, reverse=True)[: len(done)]


def test_a_candidate_without_a_quick_score_is_scored_first():
    quick = [1.0 * i for i in range(100)]
    quick[3] = quick[50] = None
    full = [i if score is None else score for i, score in enumerate(quick)]
    race = Race(dict(enumerate(quick)), 5)
    assert race.next()[:2] == [3, 50]
    assert {3, 50} < {*run(quick, full, 5)}


def test_failures_do_not_end_a_race():
    quick, full = population(0.1, 4)
    full = [None if i < 30 else score for i, score in enumerate(full)]
    done = run(quick, full, 20)
    assert sum(full[candidate] is not None for candidate in done) >= 20
    assert run(quick, [None] * len(quick), 20) == [*range(len(quick))]


def test_what_is_known_before_is_not_scored_again():
    quick, full = population(1.0, 5)
    race = Race(dict(enumerate(quick)), 20)
    for candidate in range(200):
        race.add(candidate, full[candidate])
    assert not {*race.next()} & {*range(200)}


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=60), st.integers(1, 10), st.integers(0, 99))
def test_every_race_ends(quick, k, seed):
    done = run(quick, np.random.default_rng(seed).normal(size=len(quick)), k, batch=3)
    assert len(done) >= min(k, len(quick))
