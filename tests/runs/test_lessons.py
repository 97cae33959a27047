"""What is said of a run's trained candidates: what counted, how well the score ranked, and what was expected."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import make
from scipy import stats

from nni_knas.record import Choice, Record, keys
from nni_knas.runs.correlation import rank_correlation
from nni_knas.runs.lessons import lessons_of


def trained_record(metric_of, ranks, candidates=60, mode='maximize', reason='learned'):
    """Candidates whose scores fall with their numbers; their depth is random, and their size rises with the number."""
    record, rng = Record(None), np.random.default_rng(0)
    record.set_meta(keys.KERNEL, json.dumps({'seed': 0}))
    record.set_meta(keys.OPTIMIZE_MODE, mode)
    depths = rng.integers(1, 9, candidates + 1)
    for number in range(1, candidates + 1):
        panel = {'depth': float(depths[number]), 'size': float(number), 'same': 1.0}
        record.add_scored({'n': number}, '', float(-number), 0.1, panel=panel)
    for rank in ranks:
        record.add_choice(Choice(rank, rank, reason, 0.5, 0.25))
        record.start_training(rank)
        record.set_metric(rank, float(metric_of(rank, depths[rank])))
        record.end_training(rank, 1.0)
    return record


EVERYWHERE = range(1, 60, 3)


class TestCorrelation:
    @given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=4, max_size=30))
    def test_is_spearmans_within_its_bounds(self, pairs):
        x, y = zip(*pairs)
        found = rank_correlation(x, y)
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert math.isnan(found.value)
        else:
            assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
            assert -1 <= found.low <= found.value + 1e-8 and found.value - 1e-8 <= found.high <= 1

    def test_bounds_hold_the_truth_as_often_as_they_say(self):
        rng, within = np.random.default_rng(0), 0
        truth = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of normal variables with a correlation of 0.5
        for _ in range(1000):
            x, noise = rng.normal(size=(2, 20))
            found = rank_correlation(x, 0.5 * x + math.sqrt(0.75) * noise)
            within += found.low <= truth <= found.high
        assert 925 <= within <= 975

    def test_of_few_nothing_is_said(self):
        assert math.isnan(rank_correlation([1, 2, 3], [1, 2, 3]).value)


class TestLessons:
    def test_nothing_is_trained(self):
        assert lessons_of(Record(None)) is None and lessons_of(trained_record(None, [])) is None

    def test_the_statistic_that_counts_is_named(self):
        lessons = lessons_of(trained_record(lambda rank, depth: depth, EVERYWHERE))
        assert lessons.weights.index[0] == 'depth' and lessons.known.low['depth'] > 0
        assert 'better' in lessons.weights.meaning['depth'] and 'same' not in lessons.known.index

    @pytest.mark.parametrize('mode, sign', [('maximize', 1), ('minimize', -1)])
    def test_a_score_that_does_not_rank_the_space_is_warned_of(self, mode, sign):
        warned = lessons_of(trained_record(lambda rank, depth: sign * rank, EVERYWHERE, mode=mode))
        assert 'does not rank this space: trust the trained ones' in warned.warning
        assert warned.correlation.value == pytest.approx(-1) and warned.sentence.startswith(
            'Rank correlation of score and metric: -1.00 (between -1.00 and -1.00 with 95 %), of 20 trained.'
        )
        praised = lessons_of(trained_record(lambda rank, depth: -sign * rank, EVERYWHERE, mode=mode))
        assert praised.warning == '' and praised.correlation.value == pytest.approx(1)

    def test_among_the_best_by_score_alone_there_is_no_such_warning(self):
        lessons = lessons_of(trained_record(lambda rank, depth: rank, range(1, 12), reason='score'))
        assert lessons.correlation.value == pytest.approx(-1) and lessons.warning == ''

    def test_of_few_nothing_is_said(self):
        lessons = lessons_of(trained_record(lambda rank, depth: rank, range(1, 4)))
        assert lessons.sentence == 'How well the score ranks this space cannot be said of 3 trained.'
        assert not len(lessons.weights) and lessons.warning == ''

    def test_choices(self):
        choices = lessons_of(trained_record(lambda rank, depth: -rank, [1, 9, 5, 20, 7])).choices
        assert choices.index.tolist() == [1, 2, 3, 4, 5] and choices.candidate.tolist() == [1, 9, 5, 20, 7]
        assert choices.metric.tolist() == [-1, -9, -5, -20, -7] and (choices.predicted == 0.5).all()
        assert choices.correlation.isna().tolist() == [True] * 3 + [False] * 2 and choices.correlation[5] == pytest.approx(1)


def test_of_a_run(tmp_path):
    run = make(tmp_path, learnt=True)
    assert len(run.choices()) == 8 and set(run.choices().reason) == {'score', 'learned'}
    assert run.choices().status.tolist().count('training-failed') == 1
    assert run.lessons().correlation.of == 7
    asked = run.learner().ask(3)
    assert not set(asked) & set(run.choices().candidate)


def test_of_a_run_that_has_none(tmp_path):
    run = make(tmp_path, 0, 0)
    assert run.lessons() is None and not len(run.choices())
    with pytest.raises(LookupError, match='has no candidate with a score yet'):
        run.learner()
