"""Adaptive effort and identical networks: all candidates are scored quickly, the best in full, and each network once."""

from __future__ import annotations

import copy

import nni
import numpy as np
import pandas as pd
import pytest
import torch
from clocks import Clock
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import Random, RegularizedEvolution
from placements import MadeUp
from searches import explore, report, run
from spaces import BadLayer, LoggedMGM, TinySpace, lines, tiny_kernel, write_line
from torch import nn

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.engine import Placement, Scorer, Verdict, Workers, engine
from nni_knas.engine.placement import Task
from nni_knas.engine.workers import _Event
from nni_knas.networks.candidates import hyper_parameters_of
from nni_knas.networks.identity import Identity
from nni_knas.record import Record
from nni_knas.search import coarse, fine
from nni_knas.search import strategy as strategy_module

IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def image_kernel(classes=10, images=IMAGES, **options):
    return GradientKernelEvaluator((images, torch.arange(len(images)) % classes), **options)


def cells():
    return NasBench201(num_labels=10, stem_out_channels=4, num_modules_per_stack=1)


def without_times(strategy):
    return strategy.scores().drop(columns=['seconds', 'training_seconds', 'training_kwh'])


def by_candidate(strategy):
    return strategy.scores().set_index('candidate').sort_index()


@pytest.fixture(scope='module')
def full():
    return run(cells(), image_kernel(), effort='full')


@pytest.fixture(scope='module')
def adaptive():
    return run(cells(), image_kernel())


@pytest.fixture(scope='module')
def by_mgm():
    return run(cells(), image_kernel(score='mgm'))


class TestSearch:
    def test_full_scores_are_those_of_a_full_search(self, full, adaptive):
        expected, found = by_candidate(full), by_candidate(adaptive)
        assert list(found.index) == list(range(1, 121))
        assert list(found.architecture) == list(expected.architecture)
        scored = found.score.notna()
        assert (found.score[scored] == expected.score[scored]).all()
        assert 5 <= scored.sum() < 60 and expected.score.notna().all()

    def test_all_have_a_quick_score(self, full, adaptive):
        assert full.scores().quick.isna().all()
        assert adaptive.scores().quick.notna().all()
        kernel, scorer = image_kernel().quick(), Scorer(image_kernel(), SimplifiedModelSpace.from_model(cells()))
        for row in adaptive.scores().iloc[[0, 50, 119]].itertuples():
            assert kernel.score(scorer.build(row.architecture)) == row.quick

    def test_the_best_are_found(self, full, adaptive):
        best, found = (set(strategy.scores().candidate.iloc[:5]) for strategy in (full, adaptive))
        assert len(best - found) <= 1

    def test_ranking_and_training(self, adaptive):
        scores = adaptive.scores()
        count = scores.score.notna().sum()
        assert list(scores.status) == ['trained'] * 5 + ['scored'] * (count - 5) + ['screened'] * (120 - count)
        assert scores.score.iloc[:count].is_monotonic_decreasing and scores.quick.iloc[count:].is_monotonic_decreasing
        assert scores.metric.notna().sum() == 5

    @pytest.mark.parametrize('merge', [False, True])
    def test_in_workers_the_same_to_the_last_bit(self, adaptive, merge, forked_workers):
        here = run(cells(), image_kernel(), merge_identical=True) if merge else adaptive
        there = run(cells(), image_kernel(), merge_identical=merge, workers=2)
        pd.testing.assert_frame_equal(without_times(here), without_times(there), check_exact=True)

    def test_an_explorer_learns_from_quick_scores(self):
        told = []

        class Listening(RegularizedEvolution):
            def _training_end_callback(self, event):
                told.append(event.model.metric)
                super()._training_end_callback(event)

        strategy = run(cells(), image_kernel(), explorer=Listening(population_size=16, sample_size=4), ahead=8)
        assert told == list(by_candidate(strategy).quick[:len(told)]) and len(told) > 100


def table(strategy):
    return [(c.id, c.sample, c.quick, c.score, c.status, c.metric) for c in strategy._opened_record().explored()]


EXPLORERS = {'random': lambda: Random(dedup=False, seed=3),
             'evolution': lambda: RegularizedEvolution(population_size=20, sample_size=5, mutation_prob=0.4, seed=3)}


class TestResume:
    @pytest.mark.parametrize('name', EXPLORERS)
    # In the quick phase; in the midst of a batch that is scored in full; in several of them; at the end of one.
    @pytest.mark.parametrize('stops', [[70], [155], [40, 115, 3, 17], [166], [150]])
    def test_goes_on_as_if_nothing_had_happened(self, name, stops, tmp_path):
        whole, placements = MadeUp(1), [MadeUp(10 + i, dies_after=stop) for i, stop in enumerate(stops)]
        expected = explore(whole, explorer=EXPLORERS[name]())
        for placement in placements:
            with pytest.raises(KeyboardInterrupt):
                explore(placement, tmp_path / 'record', explorer=EXPLORERS[name]())
        placements.append(MadeUp(20))
        resumed = explore(placements[-1], tmp_path / 'record', explorer=EXPLORERS[name]())
        assert table(resumed) == table(expected)
        scored = [each for placement in placements for each in placement.scored]
        assert sorted(scored) == sorted(whole.scored)  # and so nothing twice
        assert 16 * 2 <= len(scored) - 150 < 120

    @pytest.mark.parametrize('calls', [60, 125])
    def test_scores_of_networks(self, by_mgm, calls, tmp_path):
        class Dying(LoggedMGM):
            def __call__(self, gradients):
                if len(lines(self.log)) == calls:
                    write_line(self.log, 'dies')
                    raise KeyboardInterrupt
                return super().__call__(gradients)

        log, record = str(tmp_path / 'log'), tmp_path / 'record'
        with pytest.raises(KeyboardInterrupt):
            run(cells(), image_kernel(score=Dying(log)), record=record)
        resumed = run(cells(), image_kernel(score=Dying(log)), record=record)
        scores = resumed.scores()
        assert len(lines(log)) - 1 == 120 + scores.score.notna().sum()
        pd.testing.assert_frame_equal(without_times(resumed), without_times(by_mgm), check_exact=True)

    def test_a_finished_run_starts_nothing(self, tmp_path):
        class Unwilling(Placement):
            def start(self, scorer, engine):
                raise AssertionError('there is nothing to do')

        before = explore(MadeUp(), tmp_path / 'record')
        assert table(explore(Unwilling(), tmp_path / 'record')) == table(before)
        assert table(explore(Unwilling(), tmp_path / 'record', top_k=3)) == table(before)

    def test_a_larger_top_k_scores_what_is_missing(self, tmp_path):
        first, second, whole = MadeUp(1), MadeUp(2), MadeUp(3)
        explore(first, tmp_path / 'record', top_k=5)
        resumed = explore(second, tmp_path / 'record', top_k=25)
        explore(whole, top_k=25)
        assert second.scored and not any(quick for _, quick in second.scored)
        assert not set(first.scored) & set(second.scored)
        assert set(whole.scored) <= set(first.scored) | set(second.scored)
        assert (resumed.scores().status.iloc[:25] == 'trained').all()

    def test_more_candidates(self, tmp_path):
        first, second = MadeUp(1), MadeUp(2)
        explore(first, tmp_path / 'record', candidates=120)
        resumed = explore(second, tmp_path / 'record', candidates=200)
        assert len(resumed.scores()) == 200 and resumed.scores().quick.notna().all()
        assert not set(first.scored) & set(second.scored)

    def test_top_k_zero_scores_nothing_in_full(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            explore(MadeUp(1, dies_after=70), tmp_path / 'record')
        second = MadeUp(2)
        explore(second, tmp_path / 'record', top_k=0)
        assert len(second.scored) == 80 and all(quick for _, quick in second.scored)
        explore(second, tmp_path / 'record')
        assert not all(quick for _, quick in second.scored)

    def test_with_full_effort_is_refused(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            explore(MadeUp(1, dies_after=70), tmp_path / 'record')
        with pytest.raises(ValueError, match='cannot be taken up with effort="full"'):
            explore(MadeUp(), tmp_path / 'record', effort='full')

    def test_what_began_in_full_goes_on_in_full(self, tmp_path):
        explore(MadeUp(1), tmp_path / 'record', candidates=60)
        resumed = explore(MadeUp(2), tmp_path / 'record', candidates=150)
        assert resumed.scores().score.notna().sum() == 150 and resumed.scores().quick.isna().all()


class Large(ModelSpace):
    """Takes no images smaller than 32 pixels."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, bias=False), nn.Identity()],
                                                label=f'layer{i}') for i in range(5))
        self.last = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x.flatten(1))


class TestFullEffort:
    """Where adaptive effort is not worth it, or cannot be."""

    @pytest.mark.parametrize(('space', 'kernel', 'candidates', 'top_k'), [
        (cells, image_kernel, 99, 5),
        (cells, image_kernel, 100, 0),
        (cells, image_kernel, 100, 26),
        (cells, lambda: image_kernel(images=IMAGES[:3], batch_size=3), 100, 5),
        (Large, image_kernel, 100, 5),
    ], ids=['few candidates', 'no training', 'large top_k', 'small minibatch', 'large images'])
    def test_all_are_scored_in_full(self, space, kernel, candidates, top_k):
        scores = run(space(), kernel(), candidates, top_k, placement=MadeUp()).scores()
        assert len(scores) == candidates and scores.quick.isna().all() and scores.score.notna().all()

    def test_just_enough(self):
        assert run(cells(), image_kernel(), 100, 5, placement=MadeUp()).scores().quick.notna().all()

    def test_a_space_of_few(self):
        with pytest.warns(UserWarning, match='only 27 candidates'):
            strategy = run(TinySpace(), tiny_kernel(), 100, 5)
        assert strategy.scores().quick.isna().all() and strategy.scores().score.notna().all()

    def test_unknown_effort(self):
        with pytest.raises(ValueError, match=r"unknown effort 'half': it is \"adaptive\" or \"full\""):
            KNAS(tiny_kernel(), effort='half')


class Choosy(nn.Module):
    """A layer that takes images of some sizes alone, and multiplies them."""

    def __init__(self, least, most, times=1.0):
        super().__init__()
        self.least, self.most, self.times = least, most, times

    def forward(self, x):
        if not self.least <= x.shape[-1] <= self.most:
            raise RuntimeError(f'no images of {x.shape[-1]} pixels, please')
        return self.times * x


class Faulty(ModelSpace):
    """Some of its 192 architectures fail always, some for small images, some for large ones."""

    def __init__(self):
        super().__init__()
        self.first = LayerChoice([nn.Conv2d(3, 4, size, padding=size // 2, bias=bias) for size in (1, 3, 5, 7)
                                  for bias in (False, True)], label='first')
        self.middle = LayerChoice({'relu': nn.ReLU(), 'tanh': nn.Tanh(), 'elu': nn.ELU(), 'gelu': nn.GELU(),
                                   'raises': BadLayer('raises'), 'nan': BadLayer('nan'),
                                   'only large': Choosy(32, 99), 'only small': Choosy(1, 16, 0.1)}, label='middle')
        self.last = LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3, bias=False),
                                 nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))], label='last')

    def forward(self, x):
        return self.last(self.middle(self.first(x)).mean((2, 3)))


@pytest.fixture(scope='module')
def scores():
    scores = run(Faulty(), image_kernel(classes=3), 160, 12).scores()
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

        placement._worker = lambda place: Dying()
        placement._pool = [Dying()]
        for quick in (True, False):
            placement._waiting.append(Task(1, {}, quick))
            for _ in range(2):
                assert not placement._verdicts
                placement._feed()
                placement._pool[0].tasks = type(placement._waiting)(placement._pool[0].tasks)
                placement._take(_Event(placement._pool[0], 'end'))
            [(task, verdict)] = placement._verdicts
            assert task.quick == quick and verdict.reason == 'it killed two worker processes (signal 9)'
            placement._verdicts.clear()


class TestTime:
    def test_over_in_the_quick_phase(self, tmp_path):
        placement = MadeUp(1, tires_after=70)
        scores = explore(placement, tmp_path / 'record').scores()
        assert 70 <= len(scores) < 75 and scores.score.isna().all()
        assert list(scores.status.iloc[:10]) == ['trained'] * 10 and scores.quick.is_monotonic_decreasing
        assert all(task.quick for task in placement.too_late)  # nothing is asked for when the time is over

    def test_over_in_the_full_phase(self, tmp_path):
        scores = explore(MadeUp(1, tires_after=154), tmp_path / 'record').scores()
        count = scores.score.notna().sum()
        assert 4 <= count < 10 and scores.score.iloc[:count].notna().all()
        assert list(scores.status.iloc[:11]) == ['trained'] * 10 + ['screened']  # the best quick ones fill up

    @pytest.mark.parametrize('tires_after', [70, 154, 170])
    def test_more_time_makes_up_for_it(self, tires_after, tmp_path):
        whole, first, second = MadeUp(1), MadeUp(1, tires_after=tires_after), MadeUp(2)
        expected = explore(whole)
        explore(first, tmp_path / 'record')
        resumed = explore(second, tmp_path / 'record')
        assert not set(first.scored) & set(second.scored)
        assert set(whole.scored) == set(first.scored) | set(second.scored)
        columns = ['candidate', 'quick', 'score']
        pd.testing.assert_frame_equal(resumed.scores()[columns], expected.scores()[columns], check_exact=True)
        assert (resumed.scores().status.iloc[:10] == 'trained').all()

    @pytest.mark.parametrize(('seconds', 'quick', 'full'), [(50, 80, 0), (20, 120, 6)], ids=['quick', 'full'])
    def test_of_the_experiment(self, seconds, quick, full, tmp_path, monkeypatch):
        clock = Clock().rules(monkeypatch, coarse, engine, fine, strategy_module)

        class Slow(LoggedMGM):
            """Full scores take long."""

            def __call__(self, gradients):
                clock.sleep(seconds if gradients.minibatch.size == 2 else 300)
                return super().__call__(gradients)

        strategy = KNAS(image_kernel(score=Slow(str(tmp_path / 'log'))), 120, 5)
        experiment = NasExperiment(cells(), FunctionalEvaluator(report), strategy,
                                   NasExperimentConfig('sequential', 'simplified'))
        experiment.config.experiment_working_directory = str(tmp_path)
        experiment.config.max_experiment_duration = '4000s'
        experiment.run()
        experiment.stop()
        scores = strategy.scores()
        assert scores.metric.isna().all()  # no time is left for training
        assert (len(scores), scores.score.notna().sum()) == (quick, full)


class Sums(ModelSpace):
    """The sum of four branches, in any order: 256 architectures of 35 networks, three of which learn nothing."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(LayerChoice({'conv1': nn.Conv2d(3, 3, 1), 'conv3': nn.Conv2d(3, 3, 3, padding=1),
                                                   'skip': nn.Identity(), 'pool': nn.AvgPool2d(3, 1, 1)}, label=f'branch{i}')
                                      for i in range(4))
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        return self.last(torch.relu(sum(branch(x) for branch in self.branches)).mean((2, 3)))


def kinds(scores):
    """What makes a network of the space: which branches it has."""
    return scores.architecture.map(lambda sample: tuple(sorted(sample[f'branch{i}'] for i in range(4))))


def rated():
    return FunctionalEvaluator(report, learning_rate=nni.choice('learning_rate', [0.1, 0.2, 0.3]))


class TestIdentical:
    @pytest.mark.parametrize('evaluator', [None, rated], ids=['', 'hyper-parameters'])
    @pytest.mark.parametrize('effort', ['full', 'adaptive'])
    def test_each_network_is_scored_once(self, effort, evaluator, tmp_path):
        log = str(tmp_path / 'log')
        evaluator = evaluator() if evaluator else None
        strategy = run(Sums(), image_kernel(3, score=LoggedMGM(log)), effort=effort, merge_identical=True,
                       evaluator=evaluator)
        scores = by_candidate(strategy)
        space = SimplifiedModelSpace.from_model(Sums(), evaluator)
        identity = Scorer(image_kernel(3), space, hyper_parameters_of(space), merge_identical=True).identity
        networks = scores.architecture.map(identity)
        assert (kinds(scores).groupby(networks).nunique() == 1).all() and networks.nunique() == kinds(scores).nunique() <= 35
        first = ~networks.duplicated()
        assert len(lines(log)) == sum(scores[what][first].notna().sum() for what in ('quick', 'score'))
        assert (scores.seconds[first] > 0).all() and (scores.seconds[~first] == 0).all()
        for what in ('quick', 'score'):
            assert (scores[what].groupby(networks).nunique(dropna=False) == 1).all()
        assert scores['score' if effort == 'full' else 'quick'].notna().all()

    def test_scores_are_those_of_the_first_of_each_network(self):
        merged, single = (by_candidate(run(Sums(), image_kernel(3), effort='full', merge_identical=merge, top_k=0))
                          for merge in (True, False))
        first = ~kinds(merged).duplicated()
        assert (merged.score[first] == single.score[first]).all()
        assert list(merged.architecture) == list(single.architecture)

    def test_twins_of_a_finalist_have_its_score(self):
        scores = run(Sums(), image_kernel(3), merge_identical=True).scores()
        assert scores.score.notna().sum() > kinds(scores)[scores.score.notna()].nunique()
        assert not set(kinds(scores)[scores.score.notna()]) & set(kinds(scores)[scores.score.isna()])
        assert set(scores.status[scores.score.notna()]) == {'scored', 'trained'}

    @pytest.mark.parametrize('effort', ['full', 'adaptive'])
    def test_twins_are_found_in_the_record(self, effort, tmp_path):
        log, options = str(tmp_path / 'log'), dict(effort=effort, merge_identical=True, top_k=2)
        run(Sums(), image_kernel(3, score=LoggedMGM(log)), 130, record=tmp_path / 'record', **options)
        before = len(lines(log))
        resumed = run(Sums(), image_kernel(3, score=LoggedMGM(log)), 250, record=tmp_path / 'record', **options)
        scores = by_candidate(resumed)
        new = sum(scores[what][~kinds(scores).duplicated()].notna().sum() for what in ('quick', 'score')) - before
        assert len(lines(log)) - before == new < 20
        for what in ('quick', 'score'):
            assert (scores[what].groupby(kinds(scores)).nunique(dropna=False) == 1).all()

    def test_interrupted(self, tmp_path):
        class Dying(LoggedMGM):
            def __call__(self, gradients):
                if len(lines(self.log)) in (20, 40):
                    write_line(self.log, 'dies')
                    raise KeyboardInterrupt
                return super().__call__(gradients)

        log, options = str(tmp_path / 'log'), dict(merge_identical=True, record=tmp_path / 'record')
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(Sums(), image_kernel(3, score=Dying(log)), **options)
        resumed = run(Sums(), image_kernel(3, score=Dying(log)), **options)
        expected = run(Sums(), image_kernel(3, score='mgm'), merge_identical=True)
        pd.testing.assert_frame_equal(without_times(resumed), without_times(expected), check_exact=True)

    def test_in_workers(self, forked_workers):
        frames = [without_times(run(Sums(), image_kernel(3), merge_identical=True, evaluator=rated(), **options))
                  for options in ({}, {'workers': 2})]
        pd.testing.assert_frame_equal(*frames, check_exact=True)

    def test_what_cannot_be_told_is_scored_by_itself(self):
        scores = run(Faulty(), image_kernel(3), 99, 0, merge_identical=True).scores()
        middle = scores.architecture.map(lambda sample: sample['middle'])
        assert scores.score[middle.isin(['relu', 'tanh', 'elu', 'gelu'])].notna().all()
        assert scores.score[middle.isin(['raises', 'nan'])].isna().all()
        assert (scores[middle == 'raises'].seconds > 0).all()

    def test_fingerprints_leave_the_random_state_alone(self):
        space = SimplifiedModelSpace.from_model(cells())
        identity = Identity(space, image_kernel().minibatch)
        before = torch.get_rng_state(), copy.deepcopy(np.random.get_state()[1])
        assert identity.fingerprint(space.random(random_state=np.random.RandomState(0)).sample)
        assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


class TestRecord:
    @pytest.fixture
    def record(self):
        """Two networks of two candidates each, two of one each, one that failed quickly."""
        record = Record(None)
        for n, (network, quick) in enumerate([('a', 3.0), ('a', 3.0), ('b', 2.0), ('b', 2.0), ('', 5.0), ('', 4.0),
                                              ('', None)]):
            record.add_screened({'n': n}, network or f'{{"n": {n}}}', quick, 1.0)
        return record

    def test_networks(self, record):
        assert list(record.networks()) == [(1, 3.0, None, False), (3, 2.0, None, False), (5, 5.0, None, False),
                                           (6, 4.0, None, False), (7, None, None, False)]
        record.rate(1, 0.5, None, 2.0)
        record.rate(6, None, 'no luck', 2.0)
        assert [(number, score) for number, _, score, finished in record.networks() if finished] == [(1, 0.5), (6, None)]

    def test_rate(self, record):
        record.rate(1, 0.5, None, 2.0)
        record.rate(3, None, 'no luck', 2.0)
        record.rate(5, 0.7, None, 2.0)
        rows = [(c.score, c.status, c.reason, c.seconds) for c in record.explored()]
        assert rows == [(0.5, 'scored', None, 3.0), (0.5, 'scored', None, 1.0), (None, 'failed', 'no luck', 3.0),
                        (None, 'failed', 'no luck', 1.0), (0.7, 'scored', None, 3.0), (None, 'screened', None, 1.0),
                        (None, 'screened', None, 1.0)]

    def test_best(self, record):
        assert [c.id for c in record.best(10)] == [5, 6, 1, 2, 3, 4]
        record.rate(3, 0.5, None, 2.0)
        record.rate(5, None, 'no luck', 2.0)
        record.rate(7, 0.1, None, 2.0)
        assert [c.id for c in record.best(10)] == [3, 4, 7, 6, 1, 2]
        assert [c.id for c in record.best(2)] == [3, 4]
        assert [c.rated for c in record.best(4)] == [0.5, 0.5, 0.1, 4.0]
        assert list(record.frame().candidate) == [3, 4, 7, 6, 1, 2, 5]
        assert record.best_score() == 0.5

    def test_failed_ones_come_last(self, record):
        record.rate(5, None, 'no luck', 2.0)
        assert list(record.frame().candidate) == [6, 1, 2, 3, 4, 7, 5]

    def test_stopped_training(self, record):
        record.rate(5, 0.7, None, 2.0)
        for number in (5, 6):
            record.start_training(number)
            record.stop_training(number)
        assert [record.get(number).status for number in (5, 6)] == ['scored', 'screened']

    def test_one_that_was_trained_by_its_quick_score_gets_a_full_one(self, record):
        """It keeps what came of its training."""
        record.start_training(6)
        record.set_metric(6, 0.9)
        record.end_training(6, 10.0)
        assert (6, 4.0, None, False) in record.networks()
        record.rate(6, 0.3, None, 2.0)
        assert record.get(6)[3:9] == (0.3, 3.0, 'trained', None, 0.9, 10.0)
        assert (6, 4.0, 0.3, True) in record.networks()
