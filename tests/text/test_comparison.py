"""Classifiers against each other: paired differences, their intervals, and the table."""

from __future__ import annotations

import numpy as np
import pytest

from nni_knas.text import Contender, comparison_table, paired_difference


def drawn(share, seeds, texts, seed, common=0.0):
    """Right with a probability; a part of the texts is as easy for all seeds."""
    random = np.random.default_rng(seed)
    shared = random.random(texts) < share
    return np.where(random.random((seeds, texts)) < common, shared, random.random((seeds, texts)) < share).astype(int)


def test_by_hand():
    one, other = [[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 0, 0, 0], [0, 0, 0, 0]]
    found = paired_difference(one, other, [1, 1, 1, 1])
    assert found.mean == pytest.approx((2 + 3 - 1 - 0) / 8) and found.low < found.mean < found.high
    back = paired_difference(other, one, [1, 1, 1, 1])
    assert back == pytest.approx([-found.mean, -found.high, -found.low])


def test_what_is_the_same_for_each_seed_goes_with_each():
    one, other = drawn(0.7, 5, 50, 0), drawn(0.6, 1, 50, 1)
    repeated = np.repeat(other, 5, axis=0)
    assert paired_difference(one, other, [1] * 50) == paired_difference(one, repeated, [1] * 50)


def test_against_drawing_one_after_the_other():
    one, other = drawn(0.75, 5, 60, 2, 0.5), drawn(0.65, 5, 60, 3, 0.5)
    random, means = np.random.default_rng(0), []
    for _ in range(4000):
        seeds, texts = random.integers(0, 5, 5), random.integers(0, 60, 60)
        means.append((one - other)[np.ix_(seeds, texts)].mean())
    found = paired_difference(one, other, [1] * 60)
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.012)


def test_the_interval_holds_the_true_difference():
    held = 0
    for trial in range(60):
        one, other = drawn(0.7, 5, 100, 2 * trial, 0.6), drawn(0.6, 5, 100, 2 * trial + 1, 0.6)
        _, low, high = paired_difference(one, other, [1] * 100)
        held += low <= 0.1 <= high
    assert held >= 54


@pytest.mark.parametrize('one, other', [([[1, 0]], [[1, 0, 1]]), ([[1], [0], [1]], [[1], [0]])])
def test_what_does_not_go_together_gets_one_sentence(one, other):
    with pytest.raises(ValueError, match=r'\(seeds x texts\).*: they have to be of the same seeds and texts'):
        paired_difference(one, other, [1] * len(one[0]))


def test_the_table():
    targets = [0, 1, 1, 0]
    table = comparison_table(
        {'searched': Contender([[0, 1, 1, 0], [0, 1, 1, 1]], 12.3), 'floor': Contender([[0, 1, 0, 1]])}, targets
    )
    header, rule, first, second = table.splitlines()
    assert header.count('|') == rule.count('|') == first.count('|') == second.count('|')
    assert first == '| searched | 87.50 ± 17.68 | 90.00 ± 14.14 |  | 12 |'
    assert second.startswith('| floor | 50.00 | 50.00 | +37.50 [') and second.endswith('] |  |')
