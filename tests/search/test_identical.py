"""Networks that are identical are scored once."""

from __future__ import annotations

import copy

import nni
import numpy as np
import pandas as pd
import pytest
import torch
from image_searches import Faulty, by_candidate, cells, image_kernel, without_times
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, Repeat
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import Random, RegularizedEvolution
from searches import report, run
from spaces import LoggedMGM, lines, write_line
from torch import nn

from nni_knas.basics.names import PANEL
from nni_knas.engine import Scorer
from nni_knas.networks.candidates import hyper_parameters_of
from nni_knas.networks.identity import Identity


class Sums(ModelSpace):
    """The sum of four branches, in any order: 256 architectures of 35 networks, three of which learn nothing."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(
            LayerChoice(
                {
                    'conv1': nn.Conv2d(3, 3, 1),
                    'conv3': nn.Conv2d(3, 3, 3, padding=1),
                    'skip': nn.Identity(),
                    'pool': nn.AvgPool2d(3, 1, 1),
                },
                label=f'branch{i}',
            )
            for i in range(4)
        )
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        return self.last(torch.relu(sum(branch(x) for branch in self.branches)).mean((2, 3)))


class Deep(ModelSpace):
    """One to three layers: 81 samples of 39 networks."""

    def __init__(self):
        super().__init__()
        self.layers = Repeat(
            lambda i: LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()], label=f'layer{i}'),
            (1, 3),
            label='depth',
        )
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        return self.last(torch.relu(self.layers(x)).mean((2, 3)))


def used(scores):
    """What is used of each sample of the space."""
    return scores.architecture.map(lambda sample: tuple(sample[f'layer{i}'] for i in range(sample['depth'])))


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
        strategy = run(
            Sums(), image_kernel(3, score=LoggedMGM(log)), effort=effort, merge_identical=True, evaluator=evaluator
        )
        scores = by_candidate(strategy)
        space = SimplifiedModelSpace.from_model(Sums(), evaluator)
        identity = Scorer(image_kernel(3), space, hyper_parameters_of(space), merge_identical=True).identity
        networks = scores.architecture.map(identity)
        assert (kinds(scores).groupby(networks).nunique() == 1).all() and networks.nunique() == kinds(scores).nunique() <= 35
        first = ~networks.duplicated()
        assert len(lines(log)) == sum(scores[what][first].notna().sum() for what in ('quick', 'score'))
        assert (scores.seconds[first] > 0).all() and (scores.seconds[~first] == 0).all()
        panels = without_times(strategy).set_index('candidate').sort_index()[list(PANEL)]
        assert panels.notna().all(axis=None)
        for what in (scores.quick, scores.score, *(panels[name] for name in PANEL)):
            assert (what.groupby(networks).nunique(dropna=False) == 1).all()
        assert scores['score' if effort == 'full' else 'quick'].notna().all()

    def test_scores_are_those_of_the_first_of_each_network(self):
        merged, single = (
            by_candidate(run(Sums(), image_kernel(3), effort='full', merge_identical=merge, top_k=0))
            for merge in (True, False)
        )
        first = ~kinds(merged).duplicated()
        assert (merged.score[first] == single.score[first]).all()
        assert list(merged.architecture) == list(single.architecture)

    def test_twins_of_a_finalist_have_its_score(self):
        scores = run(Sums(), image_kernel(3), merge_identical=True).scores(all=True)
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
        frames = [
            without_times(run(Sums(), image_kernel(3), merge_identical=True, evaluator=rated(), **options))
            for options in ({}, {'workers': 2})
        ]
        pd.testing.assert_frame_equal(*frames, check_exact=True)

    def test_what_cannot_be_told_is_scored_by_itself(self):
        scores = run(Faulty(), image_kernel(3), 99, 0, merge_identical=True).scores(all=True)
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


class TestUnusedChoices:
    @pytest.mark.parametrize('explorer', [Random, lambda: RegularizedEvolution(population_size=8, sample_size=4, seed=0)])
    def test_candidates_are_different_networks(self, explorer):
        scores = run(Deep(), image_kernel(3), 30, 2, explorer=explorer()).scores()
        assert len(scores) == used(scores).nunique() == 30

    def test_all_of_a_space(self):
        with pytest.warns(UserWarning, match='only 81 candidates'):
            scores = run(Deep(), image_kernel(3), 100, 2).scores()
        assert len(scores) == used(scores).nunique() == 39

    def test_everywhere(self, forked_workers):
        frames = [without_times(run(Deep(), image_kernel(3), 30, 2, **options)) for options in ({}, {'workers': 2})]
        pd.testing.assert_frame_equal(*frames, check_exact=True)

    def test_hyper_parameters_count(self):
        scores = run(Deep(), image_kernel(3), 60, 2, evaluator=rated()).scores()
        assert used(scores).nunique() <= 39 and scores.architecture.map(str).nunique() == 60

    def test_a_record_with_samples_as_they_came(self, tmp_path, monkeypatch):
        log = str(tmp_path / 'log')
        kernel = image_kernel(3, score=LoggedMGM(log))
        with monkeypatch.context() as patch:
            patch.setattr(Scorer, 'canonical', lambda self, sample: sample)
            before = run(Deep(), kernel, 30, 2, record=tmp_path / 'record').scores()
        assert used(before).nunique() < 30
        after = run(Deep(), kernel, 30, 2, record=tmp_path / 'record').scores()
        assert len(lines(log)) == 30 and list(after.score) == list(before.score)

    @pytest.mark.parametrize(
        'explorer', [lambda: Random(seed=0), lambda: RegularizedEvolution(population_size=8, sample_size=4, seed=0)]
    )
    def test_interrupted(self, explorer, tmp_path, frequent_checkpoints):
        class Dying(LoggedMGM):
            def __call__(self, gradients):
                if len(lines(self.log)) in (10, 20):
                    write_line(self.log, 'dies')
                    raise KeyboardInterrupt
                return super().__call__(gradients)

        log = str(tmp_path / 'log')
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(Deep(), image_kernel(3, score=Dying(log)), 30, 2, explorer=explorer(), record=tmp_path / 'record')
        resumed = run(Deep(), image_kernel(3, score=Dying(log)), 30, 2, explorer=explorer(), record=tmp_path / 'record')
        expected = run(Deep(), image_kernel(3, score='mgm'), 30, 2, explorer=explorer())
        pd.testing.assert_frame_equal(without_times(resumed), without_times(expected), check_exact=True)
        assert len(lines(log)) == 30 + 2
