"""Regression: the loss is what trains, and the lowest error wins."""

from __future__ import annotations

import logging

import nni
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, DataLoader, Regression
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear
from nni.nas.space import SimplifiedModelSpace
from searches import search
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from nni_knas import KNAS, GradientKernelEvaluator

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
TARGETS = {
    'n x 1': X[:, :1] - X[:, 1:2] ** 2,
    'n': X[:, 0] - X[:, 1] ** 2,
    'n x 3': torch.stack([X[:, 0], X[:, 1] ** 2, X[:, 2] * X[:, 3]], 1),
}


class Curves(ModelSpace):
    """Small networks with as many outputs as there are values."""

    def __init__(self, outputs=1, flat=False):
        super().__init__()
        width = nni.choice('width', [2, 8, 32])
        self.first = MutableLinear(4, width)
        self.middle = LayerChoice([nn.ReLU(), nn.Tanh()], label='middle')
        self.last = MutableLinear(width, outputs)
        self.flat = flat

    def forward(self, x):
        outputs = self.last(self.middle(self.first(x)))
        return outputs[:, 0] if self.flat else outputs


def regression(targets, of=Regression, **options):
    data = TensorDataset(X, targets)
    return of(
        train_dataloaders=DataLoader(data, batch_size=16),
        val_dataloaders=DataLoader(data, batch_size=64),
        max_epochs=3,
        learning_rate=0.03,
        accelerator='cpu',
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        **options,
    )


def space_for(name):
    return Curves(3 if name == 'n x 3' else 1, flat=name == 'n')


def staged(kernel, evaluator, space, **options):
    """A strategy that is ready to run."""
    strategy = KNAS(kernel, 6, 2, **options)
    strategy.initialize(SimplifiedModelSpace.from_model(space, evaluator), SequentialExecutionEngine())
    return strategy


@pytest.mark.parametrize('name', TARGETS)
def test_the_lowest_error_wins(name, tmp_path):
    strategy = KNAS(GradientKernelEvaluator((X, TARGETS[name])), 6, 3)
    experiment = search(strategy, tmp_path, space=space_for(name), evaluator=regression(TARGETS[name]))
    run = strategy.open_run()
    trained = run.ranking().metric
    assert run.optimize_mode == 'minimize' and run.metric_name == 'mean squared error'
    assert len(trained) == 3 and trained.iloc[0] == trained.min() < trained.max()
    best = run.record.frame().set_index('candidate').metric.idxmin()
    assert next(iter(strategy.list_models())).sample == run.record.get(int(best)).sample
    assert len(experiment.export_top_models(top_k=1)) == 1
    assert strategy.kernel.settings()['loss'].startswith('MSELoss')
    assert run.sessions()[-1].about['asked']['loss'].startswith('MSELoss')
    assert run.sessions()[-1].about['asked']['optimize_mode'] == 'minimize'


class TestLoss:
    @pytest.mark.parametrize('name', TARGETS)
    def test_scores_are_those_of_the_squared_error(self, name):
        network, targets = space_for(name).freeze({'width': 8, 'middle': 0}), TARGETS[name]
        own = GradientKernelEvaluator((X, targets), loss=lambda o, t: ((o - t.reshape(o.shape)) ** 2).mean())
        suggested = GradientKernelEvaluator((X, targets))
        told = GradientKernelEvaluator((X, targets)).for_evaluator(regression(targets))
        expected = own.score(network)
        assert suggested.score(network) == pytest.approx(expected, rel=1e-5) == told.score(network)

    def test_what_is_taken_is_told(self, caplog):
        GradientKernelEvaluator((X, TARGETS['n'])).score(space_for('n').freeze({'width': 8, 'middle': 0}))
        assert 'no loss was given: networks are scored by the mean squared error' in caplog.text

    def test_of_the_evaluator(self, caplog):
        targets = TARGETS['n x 1']
        with caplog.at_level(logging.INFO):
            strategy = staged(GradientKernelEvaluator((X, targets)), regression(targets, criterion=nn.L1Loss), Curves())
        assert strategy.kernel.settings()['loss'].startswith('L1Loss')
        assert 'scored by the mean absolute error' in caplog.text and 'no loss was given' not in caplog.text

    def test_of_the_user_wins(self):
        kernel = GradientKernelEvaluator((X, TARGETS['n x 1']), loss=F.smooth_l1_loss)
        assert staged(kernel, regression(TARGETS['n x 1']), Curves()).kernel is kernel

    def test_values_that_do_not_fit_outputs(self):
        kernel = GradientKernelEvaluator((X, TARGETS['n x 1']))
        with pytest.raises(ValueError, match='a sample has 3 outputs and 1 targets'):
            staged(kernel, regression(TARGETS['n x 1']), Curves(3))

    def test_plain_cross_entropy_is_the_default(self):
        kernel = GradientKernelEvaluator((X, torch.arange(64) % 3))
        strategy = staged(kernel, regression(torch.arange(64) % 3, Classification, num_classes=3), Curves(3))
        assert strategy.kernel.settings()['loss'] == 'cross-entropy'
        assert strategy.kernel.used_loss is None

    def test_probabilities_are_of_classes(self, caplog):
        soft = torch.softmax(TARGETS['n x 3'], 1)
        assert GradientKernelEvaluator((X, soft)).used_loss is None and caplog.text == ''
        told = GradientKernelEvaluator((X, TARGETS['n x 3'])).for_evaluator(regression(soft, Classification, num_classes=3))
        assert told.used_loss is None


class TestOneLogit:
    LABELS = (X[:, 0] > 0).long()

    @pytest.mark.parametrize('flat', [True, False])
    @pytest.mark.parametrize('labels', [LABELS, LABELS.float(), LABELS[:, None], LABELS[:, None].float(), LABELS.bool()])
    @pytest.mark.parametrize('score', ['gradient-norm', 'gram-entropy'])
    def test_is_binary_cross_entropy(self, labels, flat, score):
        network = Curves(1, flat).freeze({'width': 8, 'middle': 0})
        expected = GradientKernelEvaluator(
            (X, labels), score, loss=lambda o, t: F.binary_cross_entropy_with_logits(o, t.reshape(o.shape).to(o.dtype))
        ).score(network)
        assert GradientKernelEvaluator((X, labels), score).score(network) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize('score', ['gradient-norm', 'gram-entropy'])
    def test_of_more_classes_is_refused(self, score):
        kernel = GradientKernelEvaluator((X, torch.arange(64) % 3), score)
        with pytest.raises(ValueError, match='the network has one output, which tells the classes 0 and 1 apart'):
            kernel.score(Curves().freeze({'width': 8, 'middle': 0}))


class TestMode:
    def mode(self, evaluator, **options):
        return staged(GradientKernelEvaluator((X, TARGETS['n x 1'])), evaluator, Curves(), **options)

    def test_one_asked_for_wins(self, caplog):
        strategy = self.mode(regression(TARGETS['n x 1']), optimize_mode='maximize')
        assert strategy.open_run().optimize_mode == 'maximize'
        assert 'the worst network will rank first' in caplog.text

    def test_nothing_is_known_of_a_function(self):
        assert self.mode(FunctionalEvaluator(report_loss)).open_run().optimize_mode == 'maximize'

    def test_a_metric_that_was_reported_as_a_loss(self, tmp_path, caplog):
        kernel = GradientKernelEvaluator((X, TARGETS['n x 1']))
        search(KNAS(kernel, 3, 1), tmp_path, space=Curves(), evaluator=FunctionalEvaluator(report_loss))
        assert 'The metric that was reported is the val_loss, and the highest counts as the best' in caplog.text


def report_loss(network):
    nni.report_final_result({'default': 0.5, 'val_loss': 0.5})


@pytest.mark.parametrize('placement', ['process', pytest.param('workers', marks=pytest.mark.slow)])
def test_the_loss_travels(placement, tmp_path):
    kernel = GradientKernelEvaluator((X, TARGETS['n x 3']))
    strategy = KNAS(kernel, 6, 0, placement=placement)
    search(strategy, tmp_path, space=Curves(3), evaluator=regression(TARGETS['n x 3'], criterion=nn.HuberLoss))
    expected = GradientKernelEvaluator((X, TARGETS['n x 3']), loss=nn.HuberLoss())
    again = KNAS(expected, 6, 0)
    search(again, tmp_path / 'b', space=Curves(3), evaluator=FunctionalEvaluator(report_loss))
    assert strategy.scores().score.tolist() == again.scores().score.tolist()
