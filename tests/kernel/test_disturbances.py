"""GradientKernelEvaluator leaves networks as they were found."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from undisturbed import SCORES, Everything, X, Y, assert_equal, assert_undisturbed, everything, photograph, small_network

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import MisfitError, seeded
from nni_knas.scores import Score


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('found', ['mixed', 'training', 'evaluation'])
def test_network_is_left_as_it_was(score, normalization, found):
    network = everything()
    if found != 'mixed':
        network.train(found == 'training')
    kernel = GradientKernelEvaluator((X, Y), score, normalization=normalization)
    with assert_undisturbed(network):
        first = kernel.score(network)
    with assert_undisturbed(network):
        assert kernel.score(network) == first
    with assert_undisturbed(network):
        kernel.check(network)


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize('score', SCORES)
def test_mode_that_the_network_is_found_in_does_not_matter(score, normalization):
    network = everything()
    network.norm.running_var.fill_(5)
    kernel = GradientKernelEvaluator((X, Y), score, normalization=normalization)
    assert kernel.score(network.train()) == kernel.score(network.eval()) != 0


def test_disturbances_would_be_seen():
    """The check of the tests above finds what one pass in training mode changes."""
    network = everything()
    before = photograph(network)
    F.cross_entropy(network.train()(X), Y).backward()
    after = photograph(network)
    for name in (
        'norm.running_mean',
        'norm.num_batches_tracked',
        'instance.running_var',
        '.steps',
        '.replaced',
        '.nothing',
        '.not_saved',
        'table.weight',
        'normed.parametrizations.weight.0._u',
    ):
        with pytest.raises(AssertionError):
            assert_equal(before['values'][name], after['values'][name])
    for part in ('grads', 'random', 'modes'):
        with pytest.raises(AssertionError):
            assert_equal(before[part], after[part])


class Failing(Everything):
    """Fails in its n-th forward pass, after all layers."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.passes = 0

    def forward(self, x):
        out = super().forward(x)
        self.passes += 1
        if self.passes == self.number:
            raise KeyError('a fault of the network')
        return out


@pytest.mark.parametrize(
    ('score', 'micro_batch', 'number'),
    [('mgm', None, 1), ('mgm', 2, 2), ('half-covariance', None, 1), ('half-covariance', None, 3)],
)
def test_network_is_left_as_it_was_by_a_failure_in_the_middle(score, micro_batch, number):
    network = Failing(number).double()
    network.norm.eval()
    kernel = GradientKernelEvaluator((X, Y), score, micro_batch=micro_batch)
    with assert_undisturbed(network), pytest.raises(KeyError, match='a fault of the network'):
        kernel.score(network)


def test_network_is_left_as_it_was_by_a_failing_loss_or_score():
    class Fails(Score):
        name = 'fails'

        def __call__(self, gradients):
            gradients.mean()
            gradients.per_sample()
            raise ZeroDivisionError

    def bad_loss(outputs, targets):
        raise ZeroDivisionError

    network = everything()
    with assert_undisturbed(network), pytest.raises(ZeroDivisionError):
        GradientKernelEvaluator((X, Y), Fails()).score(network)
    with assert_undisturbed(network), pytest.raises(MisfitError):
        GradientKernelEvaluator((X, Y), loss=bad_loss).score(network)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize('score', SCORES)
def test_scoring_within_no_grad(score, mode):
    network = everything()
    expected = GradientKernelEvaluator((X, Y), score).score(network)
    kernel = GradientKernelEvaluator((X, Y), score)
    with mode(), assert_undisturbed(network):
        kernel.check(network)
        assert kernel.score(network) == expected
    assert kernel.score(network) == expected


def test_minibatch_that_was_drawn_in_inference_mode():
    kernel = GradientKernelEvaluator((X, Y), batch_size=4)
    with torch.inference_mode():
        drawn = kernel.minibatch
    assert kernel.minibatch is drawn
    assert kernel.score(small_network()) == GradientKernelEvaluator((X, Y), batch_size=4).score(small_network())


def test_training_goes_on_after_scoring():
    def train(kernel):
        network = everything()
        optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1, momentum=0.9)
        with seeded(3):
            for _ in range(3):
                if kernel:
                    kernel.score(network)
                optimiser.zero_grad()
                F.cross_entropy(network(X), Y).backward()
                optimiser.step()
        return network.state_dict()

    for score in SCORES:
        assert_equal(train(GradientKernelEvaluator((X, Y), score)), train(None))
