"""The search from end to end on NNI's sequential engine, with spaces small enough to know what has to come out."""

from __future__ import annotations

import copy
import sqlite3

import nni
import numpy as np
import pandas as pd
import pytest
import torch
from clocks import Clock
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear, MutableReLU, MutableReLU6
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from nni.nas.strategy import TPE, GridSearch, PolicyBasedRL, Random, RegularizedEvolution
from nni.nas.strategy.base import Strategy
from searches import search
from spaces import FaultySpace, LoggedMGM, TinySpace, lines, tiny_kernel, train, vector_dataset, vectors
from torch import nn

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.engine import engine as engine_module
from nni_knas.networks.construction import build_network
from nni_knas.record import record_path
from nni_knas.search import coarse, fine
from nni_knas.search import strategy as strategy_module

EXPLORERS = {
    'default': lambda: None,
    'random': lambda: Random(seed=1),
    'grid': lambda: GridSearch(seed=1),
    'evolution': lambda: RegularizedEvolution(population_size=5, sample_size=3, mutation_prob=0.5, seed=1),
    'tpe': lambda: TPE(seed=1),
    'rl': lambda: PolicyBasedRL(samples_per_update=5),
}


class TestSearch:
    def test_scores_all_and_trains_the_best(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=12, top_k=3, choose='rank')
        experiment = search(strategy, tmp_path)
        scores = strategy.scores(all=True)
        assert list(scores.index) == list(range(1, 13))
        assert scores.score.is_monotonic_decreasing
        assert list(scores.status) == ['trained'] * 3 + ['scored'] * 9
        assert scores.metric.notna().sum() == 3
        assert (scores.seconds > 0).all() and (scores.training_seconds.iloc[:3] > 0).all()
        assert experiment.export_top_models(1, formatter='dict') == [scores.loc[scores.metric.idxmax()].architecture]

    def test_scores_are_those_of_the_kernel(self, tmp_path):
        strategy = KNAS(tiny_kernel(seed=7), candidates=6, top_k=0)
        search(strategy, tmp_path)
        space = SimplifiedModelSpace.from_model(TinySpace())
        for row in strategy.scores(all=True).itertuples():
            network = build_network(space.freeze(row.architecture), seed=7)
            assert tiny_kernel(seed=7).score(network) == row.score

    @pytest.mark.parametrize('name', EXPLORERS)
    def test_any_multi_trial_strategy_explores(self, name, tmp_path):
        if name == 'rl':
            pytest.importorskip('tianshou')
            pytest.importorskip('gym')
        strategy = KNAS(tiny_kernel(), candidates=10, top_k=2, explorer=EXPLORERS[name]())
        search(strategy, tmp_path)
        scores = strategy.scores(all=True)
        assert len(scores) == 10
        assert scores.architecture.map(str).nunique() == 10
        assert scores.status.value_counts().to_dict() == {'scored': 8, 'trained': 2}

    def test_an_explorer_of_ones_own(self, tmp_path):
        class Widest(Strategy):
            def _run(self):
                for model in self.model_space.grid():
                    if model.sample['width'] == 16 and self.wait_for_resource():
                        self.engine.submit_models(model)

        strategy = KNAS(tiny_kernel(), candidates=20, top_k=1, explorer=Widest())
        search(strategy, tmp_path)
        assert [sample['width'] for sample in strategy.scores(all=True).architecture] == [16] * 9

    def test_evolution_climbs(self, tmp_path):
        """It finds better scores than those that it begins with: it is told the scores, and maximises them."""
        gains = []
        for seed in range(8):
            kernel = tiny_kernel()
            kernel.score = lambda network: (
                sum(isinstance(layer, nn.ReLU) for layer in (network.inner, network.outer)) + network.first.out_features / 8
            )
            explorer = RegularizedEvolution(population_size=4, sample_size=4, mutation_prob=0.3, seed=seed)
            strategy = KNAS(kernel, candidates=12, top_k=0, explorer=explorer, ahead=2)
            search(strategy, tmp_path / str(seed))
            order = strategy.scores(all=True).sort_values('candidate').score
            gains.append(order.iloc[6:].mean() - order.iloc[:4].mean())
        assert np.mean(gains) > 0.3, gains

    def test_tpe_climbs(self, tmp_path):
        explorer = TPE(seed=0, tpe_args={'n_startup_jobs': 5})
        strategy = KNAS(tiny_kernel(score='mgm'), candidates=18, top_k=0, explorer=explorer, ahead=1)
        search(strategy, tmp_path)
        order = strategy.scores(all=True).sort_values('candidate').score
        assert order.iloc[9:].mean() > order.iloc[:4].mean()

    def test_same_seed_same_scores_whatever_the_order(self, tmp_path):
        frames = []
        for i, explorer in enumerate([Random(seed=1), GridSearch(shuffle=False)]):
            strategy = KNAS(tiny_kernel(), candidates=27, top_k=0, explorer=explorer)
            search(strategy, tmp_path / str(i))
            frames.append(
                {str(sorted(row.architecture.items())): row.score for row in strategy.scores(all=True).itertuples()}
            )
        shared = frames[0].keys() & frames[1].keys()
        assert len(shared) > 20
        assert all(frames[0][key] == frames[1][key] for key in shared)

    def test_two_runs_are_the_same(self, tmp_path):
        def run(folder):
            torch.manual_seed(np.random.randint(1000))
            strategy = KNAS(tiny_kernel(), candidates=8, top_k=0)
            search(strategy, tmp_path / folder)
            return strategy.scores(all=True).drop(columns='seconds')

        pd.testing.assert_frame_equal(run('a'), run('b'))

    def test_global_random_state_is_left_alone(self, tmp_path):
        space = TinySpace()
        torch.manual_seed(3)
        np.random.seed(3)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        explorer = RegularizedEvolution(population_size=3, sample_size=2)
        search(KNAS(tiny_kernel(), candidates=5, top_k=0, explorer=explorer), tmp_path, space=space)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()

    def test_top_k_zero_trains_nothing(self, tmp_path):
        log = tmp_path / 'log'
        experiment = search(
            KNAS(tiny_kernel(), candidates=5, top_k=0), tmp_path, evaluator=FunctionalEvaluator(train, log=str(log))
        )
        assert lines(log) == []
        assert experiment.export_top_models(1) == []

    def test_evaluator_sees_the_model_as_without_us(self, tmp_path):
        def evaluate(network):
            model = nni.get_current_parameter()
            assert isinstance(model, SimplifiedModelSpace)
            assert isinstance(model.evaluator, FunctionalEvaluator)
            nni.report_final_result({'default': 1.0, 'loss': 2.0})

        strategy = KNAS(tiny_kernel(), candidates=4, top_k=2)
        search(strategy, tmp_path, evaluator=FunctionalEvaluator(evaluate))
        assert list(strategy.scores(all=True).metric.iloc[:2]) == [1.0, 1.0]

    def test_lightning_evaluator_trains_each_model(self, tmp_path):
        """NNI's Lightning evaluators go on counting epochs from one model to the next in one process."""
        loader = DataLoader(nni.trace(vector_dataset)(), batch_size=5)
        evaluator = Classification(
            num_classes=3,
            max_epochs=2,
            train_dataloaders=loader,
            val_dataloaders=loader,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        strategy = KNAS(tiny_kernel(), candidates=4, top_k=3)
        experiment = search(strategy, tmp_path, evaluator=evaluator)
        assert strategy.scores(all=True).metric.notna().sum() == 3
        assert len(list((tmp_path / experiment.id).glob('knas/weights/*.pt'))) == 3  # kept where training changed them

    def test_graph_format(self, tmp_path):
        strategy = KNAS(GradientKernelEvaluator((torch.randn(6, 4), torch.arange(6) % 2)), candidates=3, top_k=1)
        config = NasExperimentConfig('sequential', 'graph')
        config.model_format.dummy_input = [1, 4]
        config.experiment_working_directory = str(tmp_path)
        evaluator = FunctionalEvaluator(lambda network: nni.report_final_result(1.0))
        experiment = NasExperiment(GraphSpace(), evaluator, strategy, config)
        with pytest.warns(UserWarning, match='only 2 candidates'):
            experiment.run()
        experiment.stop()
        assert list(strategy.scores(all=True).status) == ['trained', 'scored']

    def test_raw_format(self, tmp_path):
        """The raw format copies weights of one supernet; candidates are initialised by themselves all the same."""
        frames = []
        for model_format in ('simplified', 'raw'):
            strategy = KNAS(tiny_kernel(), candidates=6, top_k=1)
            search(strategy, tmp_path / model_format, format=model_format)
            frames.append(strategy.scores(all=True)[['score', 'architecture']])
        pd.testing.assert_frame_equal(*frames)


class GraphSpace(ModelSpace):
    def __init__(self):
        super().__init__()
        self.first = MutableLinear(4, 5)
        self.activation = LayerChoice([MutableReLU(), MutableReLU6()], label='activation')
        self.last = MutableLinear(5, 2)

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


class TestHyperParameters:
    def test_are_searched_with_the_architecture(self, tmp_path):
        rates = []

        def evaluate(network, learning_rate):
            rates.append(learning_rate)
            nni.report_final_result(learning_rate)

        evaluator = FunctionalEvaluator(evaluate, learning_rate=nni.choice('learning_rate', [0.1, 0.2, 0.3]))
        strategy = KNAS(tiny_kernel(), candidates=30, top_k=6)
        experiment = search(strategy, tmp_path, evaluator=evaluator)
        assert set(rates) <= {0.1, 0.2, 0.3} and len(rates) == 6
        best = experiment.export_top_models(1)[0]
        assert best.metric == best.sample['learning_rate'] == max(rates)

    def test_do_not_change_the_score(self, tmp_path):
        log = tmp_path / 'log'
        evaluator = FunctionalEvaluator(train, learning_rate=nni.choice('learning_rate', [0.1, 0.2, 0.3]))
        strategy = KNAS(tiny_kernel(score=LoggedMGM(str(log))), candidates=60, top_k=0)
        search(strategy, tmp_path, evaluator=evaluator)
        scores = strategy.scores(all=True)
        architecture = scores.architecture.map(lambda sample: str({**sample, 'learning_rate': None}))
        assert (scores.groupby(architecture).score.nunique() == 1).all()
        assert len(lines(log)) == architecture.nunique() < 60


class TestBudget:
    def test_max_trial_number(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=8, top_k=5, choose='rank')
        search(strategy, tmp_path, max_trial_number=2)
        assert list(strategy.scores(all=True).status.iloc[:3]) == ['trained', 'trained', 'scored']

    @pytest.fixture
    def clock(self, monkeypatch):
        return Clock().rules(monkeypatch, strategy_module, coarse, fine, engine_module)

    def test_max_experiment_duration_ends_the_coarse_stage(self, clock, tmp_path):
        class Slow(LoggedMGM):
            def __call__(self, gradients):
                clock.sleep(0.25)
                return super().__call__(gradients)

        strategy = KNAS(tiny_kernel(score=Slow(str(tmp_path / 'log'))), candidates=27, top_k=5)
        search(strategy, tmp_path, max_experiment_duration='1s')
        assert list(strategy.scores(all=True).status) == ['scored'] * 4

    def test_max_experiment_duration_ends_the_fine_stage(self, clock, tmp_path):
        def evaluate(network):
            clock.sleep(1.5)
            train(network)

        strategy = KNAS(tiny_kernel(), candidates=8, top_k=8, choose='rank')
        search(strategy, tmp_path, evaluator=FunctionalEvaluator(evaluate), max_experiment_duration='2s')
        assert list(strategy.scores(all=True).status) == ['trained'] * 2 + ['scored'] * 6


class TestExport:
    def test_after_the_experiment_has_stopped(self, tmp_path):
        experiment = search(KNAS(tiny_kernel(), candidates=8, top_k=3), tmp_path)
        models = experiment.export_top_models(3)
        assert [model.status for model in models] == [ModelStatus.Trained] * 3
        metrics = [model.metric for model in models]
        assert metrics == sorted(metrics, reverse=True)
        inputs, targets = vectors()
        network = experiment.export_top_models(1, formatter='instance')[0]
        loss = nn.functional.cross_entropy(network(inputs), targets).item()
        assert -loss >= metrics[0]  # it has the trained weights, a step further than the loss that was reported

    def test_from_a_new_experiment_object(self, tmp_path):
        first = search(KNAS(tiny_kernel(), candidates=8, top_k=3), tmp_path)
        config = NasExperimentConfig('sequential', 'simplified')
        config.experiment_working_directory = str(tmp_path)
        again = NasExperiment(TinySpace(), FunctionalEvaluator(train), KNAS(tiny_kernel(), 8, 3), config, id=first.id)
        assert again.export_top_models(3, formatter='dict') == first.export_top_models(3, formatter='dict')

    def test_before_any_run(self):
        with pytest.raises(RuntimeError, match='has not run yet'):
            KNAS(tiny_kernel(), 8, 3).scores(all=True)

    def test_without_weights(self, tmp_path):
        experiment = search(KNAS(tiny_kernel(), candidates=4, top_k=1, keep_weights=False), tmp_path)
        assert list((tmp_path / experiment.id / 'knas').glob('weights/*')) == []
        assert isinstance(experiment.export_top_models(1, formatter='instance')[0], nn.Module)


class TestFaults:
    def test_faulty_candidates_are_recorded_and_never_trained(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=15, top_k=15)
        search(strategy, tmp_path, space=FaultySpace())
        scores = strategy.scores(all=True)
        assert len(scores) == 15
        faulty = scores.architecture.map(lambda sample: sample['middle'] in ('raises', 'nan', 'misfit'))
        assert faulty.sum() == 9
        assert (scores.status[faulty] == 'failed').all() and (scores.status[~faulty] == 'trained').all()
        assert not faulty.iloc[:6].any()  # failed ones rank last
        reasons = scores[faulty].reason.groupby(scores[faulty].architecture.map(lambda sample: sample['middle'])).first()
        assert 'this layer is broken' in reasons['raises']
        assert 'a gradient is not finite: the network explodes' in reasons['nan']
        assert 'cannot take inputs of shape 16x6' in reasons['misfit']

    def test_all_candidates_faulty(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=9, top_k=2)
        with pytest.raises(RuntimeError, match=r'none of the 9 candidates could be scored.*3 of 9'):
            search(strategy, tmp_path, space=FaultySpace(good=False))
        assert list(strategy.scores(all=True).status) == ['failed'] * 9

    def test_training_that_fails_is_recorded_and_the_others_go_on(self, tmp_path):
        def evaluate(network):
            if isinstance(network.inner, nn.Tanh):
                raise RuntimeError('no luck')
            nni.report_final_result(1.0)

        strategy = KNAS(tiny_kernel(), candidates=27, top_k=27)
        search(strategy, tmp_path, evaluator=FunctionalEvaluator(evaluate))
        scores = strategy.scores(all=True)
        unlucky = scores.architecture.map(lambda sample: sample['inner'] == 'tanh')
        assert set(scores.status[unlucky]) == {'training-failed'}
        assert set(scores.status[~unlucky]) == {'trained'}
        assert scores.reason[unlucky].str.fullmatch(r'RuntimeError: no luck in test_strategy.py, line \d+').all()

    def test_all_trainings_fail(self, tmp_path):
        with pytest.raises(RuntimeError, match=r'none of the 2 best candidates could be trained.*training is broken'):
            search(KNAS(tiny_kernel(), 5, 2), tmp_path, evaluator=FunctionalEvaluator(train, fails=True))

    def test_a_space_smaller_than_candidates(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=100, top_k=1)
        with pytest.warns(UserWarning, match='only 27 candidates, fewer than the 100'):
            search(strategy, tmp_path)
        assert len(strategy.scores(all=True)) == 27
        assert strategy.scores(all=True).architecture.map(str).nunique() == 27


class TestRecord:
    def test_is_in_the_experiments_directory(self, tmp_path):
        experiment = search(KNAS(tiny_kernel(), 5, 2), tmp_path)
        with sqlite3.connect(record_path(tmp_path / experiment.id)) as connection:
            statuses = connection.execute('SELECT status, COUNT(*) FROM candidates GROUP BY status').fetchall()
        assert dict(statuses) == {'scored': 3, 'trained': 2}

    def test_is_written_the_moment_something_is_known(self, tmp_path):
        seen = []

        class Peeking(LoggedMGM):
            def __call__(self, gradients):
                [path] = tmp_path.glob('*/knas/record.sqlite')
                with sqlite3.connect(path) as connection:
                    seen.append(connection.execute('SELECT COUNT(*) FROM candidates').fetchone()[0])
                return super().__call__(gradients)

        search(KNAS(tiny_kernel(score=Peeking(str(tmp_path / 'log'))), 5, 0), tmp_path)
        assert seen == [0, 1, 2, 3, 4]

    def test_without_an_experiment(self):
        from nni.nas.execution import SequentialExecutionEngine

        strategy = KNAS(tiny_kernel(), 6, 2)
        strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
        assert list(strategy.scores(all=True).status.iloc[:2]) == ['trained', 'trained']
        assert len(list(strategy.list_models())) == 2


def test_a_strategy_can_be_copied_before_it_runs():
    assert copy.deepcopy(KNAS(tiny_kernel(), 5, 2)).request.top_k == 2


class TestChoice:
    """Which candidates are trained, and which is the winner."""

    def test_constraints(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=12, top_k=2, constraints={'parameters': 100})
        search(strategy, tmp_path)
        scores = strategy.scores(all=True)
        filtered = scores[scores.status == 'filtered']
        assert len(scores) - len(filtered) == 12 and (scores.parameters[scores.score.notna()] <= 100).all()
        assert len(filtered) and (filtered.parameters > 100).all() and filtered.score.isna().all()
        assert filtered.reason.str.contains('is above 100').all()

    def test_front(self, tmp_path):
        """The best are taken from the front, not by score alone; it is found again by comparing all pairs."""
        strategy = KNAS(tiny_kernel(), candidates=27, top_k=3, front='parameters')
        search(strategy, tmp_path)
        scores = strategy.scores(all=True)
        best = [
            row.candidate
            for row in scores.itertuples()
            if not any(
                (
                    other.score >= row.score
                    and other.parameters <= row.parameters
                    and (other.score > row.score or other.parameters < row.parameters)
                )
                for other in scores.itertuples()
            )
        ]
        front = strategy.pareto(all=True)
        assert sorted(front.candidate) == sorted(best) and front.parameters.is_monotonic_increasing
        trained = scores[scores.status == 'trained']
        assert len(trained) == 3 and set(trained.candidate) <= set(best)
        assert open_run(tmp_path / strategy._folder.name).pareto(all=True).equals(front)

    @pytest.mark.parametrize('mode', ['maximize', 'minimize'])
    def test_optimize_mode(self, mode, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=6, top_k=3, optimize_mode=mode)
        experiment = search(strategy, tmp_path)
        metrics = strategy.scores(all=True).metric.dropna()
        best = metrics.max() if mode == 'maximize' else metrics.min()
        run = open_run(tmp_path / experiment.id)
        assert run.metric == best and metrics.nunique() > 1
        [model] = experiment.export_top_models(1)
        assert model.metric == best
        assert [model.metric for model in strategy.list_models()] == sorted(metrics, reverse=mode == 'maximize')

    @pytest.mark.parametrize(
        'arguments, sentence',
        [
            ({'constraints': {'flop': 1}}, 'flops'),
            ({'constraints': {'flops': 0}}, 'flops'),
            ({'front': 'size'}, "unknown front 'size'"),
            ({'optimize_mode': 'max'}, "unknown optimize_mode 'max'"),
        ],
    )
    def test_mistakes(self, arguments, sentence):
        with pytest.raises(ValueError, match=sentence):
            KNAS(tiny_kernel(), **arguments)

    def test_nothing_meets_the_constraints(self, tmp_path):
        strategy = KNAS(tiny_kernel(), candidates=5, constraints={'parameters': 10}, top_k=1)
        with pytest.raises(RuntimeError, match=r'all cost more than the constraints allow, for example: .* is above 10'):
            search(strategy, tmp_path)
