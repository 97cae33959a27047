"""Adaptive effort: all candidates are scored quickly, and the best in full."""

from __future__ import annotations

import pandas as pd
import pytest
from image_searches import IMAGES, Faulty, by_candidate, cells, image_kernel, without_times
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import RegularizedEvolution
from panels import check_panels
from placements import MadeUp
from searches import explore, run
from spaces import TinySpace, tiny_kernel
from torch import nn

from nni_knas import KNAS
from nni_knas.engine import Scorer, Verdict, Workers
from nni_knas.engine.placement import Task
from nni_knas.engine.workers import _Event


@pytest.fixture(scope='module')
def full():
    return run(cells(), image_kernel(), effort='full')


@pytest.fixture(scope='module')
def adaptive():
    return run(cells(), image_kernel(), choose='rank')


class TestSearch:
    def test_full_scores_are_those_of_a_full_search(self, full, adaptive):
        expected, found = by_candidate(full), by_candidate(adaptive)
        assert list(found.index) == list(range(1, 121))
        assert list(found.architecture) == list(expected.architecture)
        scored = found.score.notna()
        assert (found.score[scored] == expected.score[scored]).all()
        assert 5 <= scored.sum() < 60 and expected.score.notna().all()

    def test_all_have_a_quick_score(self, full, adaptive):
        assert full.scores(all=True).quick.isna().all()
        assert adaptive.scores(all=True).quick.notna().all()
        kernel, scorer = image_kernel().quick(), Scorer(image_kernel(), SimplifiedModelSpace.from_model(cells()))
        for row in adaptive.scores(all=True).iloc[[0, 50, 119]].itertuples():
            assert kernel.score(scorer.build(row.architecture)) == row.quick

    def test_panels_are_those_of_the_pass_of_the_score(self, adaptive):
        check_panels(adaptive, image_kernel(), cells())

    def test_the_best_are_found(self, full, adaptive):
        best, found = (set(strategy.scores(all=True).candidate.iloc[:5]) for strategy in (full, adaptive))
        assert len(best - found) <= 1

    def test_ranking_and_training(self, adaptive):
        scores = adaptive.scores(all=True)
        count = scores.score.notna().sum()
        assert list(scores.status) == ['trained'] * 5 + ['scored'] * (count - 5) + ['screened'] * (120 - count)
        assert scores.score.iloc[:count].is_monotonic_decreasing and scores.quick.iloc[count:].is_monotonic_decreasing
        assert scores.metric.notna().sum() == 5

    @pytest.mark.parametrize('merge', [False, True])
    def test_in_workers_the_same_to_the_last_bit(self, adaptive, merge, forked_workers):
        here = run(cells(), image_kernel(), merge_identical=True, choose='rank') if merge else adaptive
        there = run(cells(), image_kernel(), merge_identical=merge, workers=2, choose='rank')
        pd.testing.assert_frame_equal(without_times(here), without_times(there), check_exact=True)

    def test_an_explorer_learns_from_quick_scores(self):
        told = []

        class Listening(RegularizedEvolution):
            def _training_end_callback(self, event):
                told.append(event.model.metric)
                super()._training_end_callback(event)

        strategy = run(cells(), image_kernel(), explorer=Listening(population_size=16, sample_size=4), ahead=8)
        assert told == list(by_candidate(strategy).quick[: len(told)]) and len(told) > 100


class Large(ModelSpace):
    """Takes no images smaller than 32 pixels."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, bias=False), nn.Identity()], label=f'layer{i}')
            for i in range(5)
        )
        self.last = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x.flatten(1))


class TestFullEffort:
    """Where adaptive effort is not worth it, or cannot be."""

    @pytest.mark.parametrize(
        ('space', 'kernel', 'candidates', 'top_k'),
        [
            (cells, image_kernel, 99, 5),
            (cells, image_kernel, 100, 0),
            (cells, image_kernel, 100, 26),
            (cells, lambda: image_kernel(images=IMAGES[:3], batch_size=3), 100, 5),
            (Large, image_kernel, 100, 5),
        ],
        ids=['few candidates', 'no training', 'large top_k', 'small minibatch', 'large images'],
    )
    def test_all_are_scored_in_full(self, space, kernel, candidates, top_k):
        scores = run(space(), kernel(), candidates, top_k, placement=MadeUp()).scores(all=True)
        assert len(scores) == candidates and scores.quick.isna().all() and scores.score.notna().all()

    def test_just_enough(self):
        assert run(cells(), image_kernel(), 100, 5, placement=MadeUp()).scores(all=True).quick.notna().all()

    def test_a_space_of_few(self):
        with pytest.warns(UserWarning, match='only 27 candidates'):
            strategy = run(TinySpace(), tiny_kernel(), 100, 5)
        assert strategy.scores(all=True).quick.isna().all() and strategy.scores(all=True).score.notna().all()

    def test_unknown_effort(self):
        with pytest.raises(ValueError, match=r"unknown effort 'half': it is \"adaptive\" or \"full\""):
            KNAS(tiny_kernel(), effort='half')


@pytest.fixture(scope='module')
def scores():
    scores = run(Faulty(), image_kernel(classes=3), 160, 12).scores(all=True)
    return scores.assign(middle=scores.architecture.map(lambda sample: sample['middle']))


class TestFailures:
    def test_those_that_fail_always_fail_for_their_reason(self, scores):
        for middle, reason in (('raises', 'this layer is broken'), ('nan', 'not finite')):
            faulty = scores[scores.middle == middle]
            assert len(faulty) > 5 and set(faulty.status) == {'failed'}
            assert faulty.quick.isna().all() and faulty.score.isna().all() and faulty.reason.str.contains(reason).all()

    def test_those_that_fail_quickly_alone_are_scored(self, scores):
        lucky = scores[scores.middle == 'only large']
        assert len(lucky) > 5 and set(lucky.status) <= {'scored', 'trained'}
        assert lucky.quick.isna().all() and lucky.score.notna().all() and lucky.reason.isna().all()

    def test_those_that_fail_in_full_alone_have_failed_where_they_were_tried(self, scores):
        unlucky = scores[scores.middle == 'only small']
        assert unlucky.quick.notna().all() and set(unlucky.status) == {'failed', 'screened'}
        assert unlucky.reason[unlucky.status == 'failed'].str.contains('no images of 32 pixels').all()
        assert unlucky.reason[unlucky.status == 'screened'].isna().all()

    def test_they_rank_last_and_are_never_trained(self, scores):
        assert (scores.status == 'trained').sum() == 12
        assert set(scores.status.iloc[-20:]) == {'failed'}
        assert (scores.reason.notna() == (scores.status == 'failed')).all()
        assert scores[scores.status == 'screened'].index.min() > scores[scores.score.notna()].index.max()

    def test_a_search_of_failures_alone(self):
        class Broken(MadeUp):
            def judge(self, task):
                return Verdict(None, 'it is broken', 0.25)

        with pytest.raises(RuntimeError, match=r'none of the 150 candidates could be scored.*150 of 150\): it is broken'):
            explore(Broken())

    def test_a_candidate_that_kills_workers_in_both_phases_fails(self):
        placement = Workers(1)

        class Dying:
            place, ready = 0, True

            def __init__(self):
                self.tasks = []

            def kill(self, patience):
                return 'signal 9'

            def give(self, task):
                self.tasks.append(task)

        placement._start_worker = lambda place: Dying()
        placement._pool = [Dying()]
        for quick in (True, False):
            placement._waiting.append(Task(1, {}, quick))
            for _ in range(2):
                assert not placement._verdicts
                placement._feed_workers()
                placement._pool[0].tasks = type(placement._waiting)(placement._pool[0].tasks)
                placement._handle_event(_Event(placement._pool[0], 'end'))
            [(task, verdict)] = placement._verdicts
            assert task.quick == quick and verdict.reason == 'it killed two worker processes (signal 9)'
            placement._verdicts.clear()
