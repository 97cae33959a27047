"""The learner of a record: what it is told, and what stands for that which is known at little effort alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nni_knas.record import Record, keys
from nni_knas.runs import learner_of, pool_of
from nni_knas.runs.learning import expected_in_full


@pytest.fixture
def record():
    """Eight candidates with scores 1 to 8, the last one the best."""
    record = Record(None)
    record.set_meta(keys.KERNEL, json.dumps({'seed': 3}))
    for number in range(1, 9):
        panel = {'size': float(number % 3), 'depth': float(number)}
        record.add_scored({'n': number}, '', float(number), 0.1, panel=panel, costs={'flops': float(number)})
    return record


class TestExpectedInFull:
    def test_is_on_the_line(self):
        assert expected_in_full([1, 2, 4], [-3, -5, -9], [0, 3]) == pytest.approx([-1, -7])

    def test_of_positive_ones_by_their_logarithms(self):
        assert expected_in_full([1, 10, 100], [2, 200, 20000], [1000]) == pytest.approx([2e6])

    def test_that_does_not_change_with_effort(self):
        assert expected_in_full([5, 7, 9], [5, 7, 9], [8, 6]) == pytest.approx([8, 6])

    def test_where_the_quick_one_says_nothing(self):
        assert expected_in_full([1, 1, 1], [2, 4, 6], [1, 5]) == pytest.approx([48 ** (1 / 3)] * 2)

    def test_too_few_have_both(self):
        assert np.isnan(expected_in_full([1, np.nan, 3], [1, 2, 3], [4])).all()

    def test_one_that_has_none(self):
        expected = expected_in_full([1, 2, 4], [2, 4, 8], [np.nan, 3])
        assert np.isnan(expected[0]) and expected[1] == pytest.approx(6)


class TestPool:
    def test_best_score_first_with_ranks(self, record):
        record.exclude([8])
        pool = pool_of(record)
        assert pool.index.tolist() == [7, 6, 5, 4, 3, 2, 1] and pool['rank'].tolist() == list(range(1, 8))

    def test_within_a_space(self, record):
        pool = pool_of(record, within=lambda sample: sample['n'] < 3)
        assert pool.index.tolist() == [2, 1] and pool['rank'].tolist() == [1, 2]

    def test_of_a_front_and_those_that_were_begun(self, record):
        record.add_result(4, 0.5)
        assert set(pool_of(record, ('flops', 2)).index) >= {4} and len(pool_of(record, ('flops', 2))) == 3


class TestLearner:
    def test_asks_for_the_best_by_score(self, record):
        assert learner_of(record, pool_of(record)).ask(1) == [8]

    def test_what_was_trained_or_is_in_training_is_not_asked_for(self, record):
        record.add_result(8, 0.5)
        record.start_training(7)
        record.start_training(6)
        record.set_metric(6, 0.25)  # its end is on the way
        record.start_training(5)
        record.end_training(5, 1.0, 'it is broken')
        learner = learner_of(record, pool_of(record))
        assert sorted(learner.ask(8)) == [1, 2, 3, 4]

    def test_the_same_record_the_same_expectations(self, record):
        for number in (8, 1, 5):
            record.add_result(number, -float(number))
        one, other = (learner_of(record, pool_of(record)) for _ in range(2))
        assert one.predictions().equals(other.predictions()) and one.ask(3) == other.ask(3)

    def test_minimised(self, record):
        for number in (8, 1, 5):
            record.add_result(number, float(number))
        up = learner_of(record, pool_of(record)).predictions()['mean']
        record.set_meta(keys.OPTIMIZE_MODE, 'minimize')
        down = learner_of(record, pool_of(record)).predictions()['mean']
        assert up[8] > up[1] and down[8] < down[1]

    def test_costs_that_the_search_has_measured_count(self, record):
        assert 'flops' not in learner_of(record, pool_of(record)).weights().index
        record.set_meta(keys.KERNEL, json.dumps({'seed': 3, 'constraints': {'flops': 100}, 'front': None}))
        assert 'flops' in learner_of(record, pool_of(record)).weights().index

    def test_without_panels_by_score(self):
        record = Record(None)
        for score in (1.0, 3.0, 2.0):
            record.add_scored({'n': score}, '', score, 0.1)
        assert learner_of(record, pool_of(record)).ask(3) == [2, 3, 1]

    def test_quick_ones_are_compared_with_those_in_full(self):
        """What is full is many times what is quick: the two do not compare as they are."""
        record, quick = Record(None), [1.0, 2.0, 3.0, 7.5, 5.0, 6.0, 7.0, 8.0]
        for number, score in enumerate(quick, 1):
            record.add_screened({'n': number}, str(number), score, 0.1, panel={'x': score})
        for number in (8, 7, 6, 5):
            record.rate(number, 100.0 * number, None, 0.1, {'x': 10.0 * number})
        assert learner_of(record, pool_of(record)).ask(8) == [8, 4, 7, 6, 5, 3, 2, 1]
