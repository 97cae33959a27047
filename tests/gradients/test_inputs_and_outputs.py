"""Networks of many kinds of inputs, outputs and targets, and what cannot be scored."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import reference
import torch
from layers import CLASSES, NORMALIZATIONS, OUTPUTS, SCORES, Lambda, assert_reference, batch_of, kernel_of, two_layers
from nni.nas.hub.pytorch import DARTS
from torch import nn
from torch.nn import functional as F

from nni_knas.gradients import MisfitError, ScoringError, seeded


@pytest.mark.parametrize('kind', OUTPUTS)
def test_outputs(kind):
    network = two_layers(lambda first, second, x: OUTPUTS[kind](second(first(x).tanh()), first(x)))
    plain = two_layers(lambda first, second, x: second(first(x).tanh()))
    x, y = batch_of(6, 8)
    assert_reference(network, x, y)
    for score in SCORES:
        assert kernel_of(x, y, score).score(network) == pytest.approx(kernel_of(x, y, score).score(plain), rel=1e-10)


def test_output_object_with_logits():
    network = two_layers(lambda first, second, x: SimpleNamespace(hidden=x, logits=second(first(x).tanh())))
    plain = two_layers(lambda first, second, x: second(first(x).tanh()))
    x, y = batch_of(6, 8)
    for score in SCORES:
        assert kernel_of(x, y, score).score(network) == pytest.approx(kernel_of(x, y, score).score(plain), rel=1e-10)


def test_own_loss_receives_all_outputs():
    def with_auxiliary(outputs, targets):
        return F.cross_entropy(outputs[0], targets) + 0.4 * outputs[1].square().mean()

    network = two_layers(lambda first, second, x: (second(first(x).tanh()), first(x)))
    x, y = batch_of(6, 8)
    assert_reference(network, x, y, loss=with_auxiliary)
    assert kernel_of(x, y, loss=with_auxiliary).score(network) != pytest.approx(kernel_of(x, y).score(network), rel=1e-3)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_auxiliary_head_of_darts(normalization):
    with seeded(1):
        space = DARTS(width=4, num_cells=3, dataset='cifar')
        sample = {}
        space.random(sample)
        network = DARTS.frozen_factory(sample)(width=4, num_cells=3, dataset='cifar', auxiliary_loss=True).double()
    x, y = batch_of(2, 3, 32, 32)
    assert isinstance(network.train()(x), tuple)
    assert_reference(network, x, y, normalization, scores=['mgm'])


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_tuple_and_dict_inputs(normalization):
    def forward(first, second, x, scale=None):
        return second(first(x).tanh() * scale)

    network = two_layers(forward)
    x, y = batch_of(6, 8)
    scale = batch_of(6, 10, seed=1)[0]
    assert_reference(network, (x, scale), y, normalization)
    assert_reference(network, {'scale': scale, 'x': x}, y, normalization)


def test_network_that_takes_a_tuple_or_a_dict_as_one_argument():
    class Paired(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 10), nn.Linear(10, CLASSES)

        def forward(self, pair):
            x, scale = pair.values() if isinstance(pair, dict) else pair
            return self.second(self.first(x).tanh() * scale)

    with seeded(4):
        network = Paired().double()
    x, y = batch_of(6, 8)
    scale = batch_of(6, 10, seed=1)[0]
    plain = two_layers(lambda first, second, x, scale: second(first(x).tanh() * scale))
    for score in SCORES:
        expected = kernel_of((x, scale), y, score).score(plain)
        assert kernel_of((x, scale), y, score).score(network) == pytest.approx(expected, rel=1e-10)
        assert kernel_of({'x': x, 'scale': scale}, y, score).score(network) == pytest.approx(expected, rel=1e-10)


def test_targets_of_several_parts():
    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets['class']) + F.mse_loss(outputs[:, :1], targets['value'])

    x, y = batch_of(6, 8)
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    assert_reference(network, x, {'class': y, 'value': batch_of(6, 1, seed=1)[0]}, loss=loss)


def test_classes_along_a_sequence():
    x, _ = batch_of(6, 3, 8)
    network = two_layers(lambda first, second, x: second(first(x).tanh()).transpose(1, 2))
    assert_reference(network, x, torch.arange(18).reshape(6, 3) % CLASSES)


def test_class_probabilities_as_targets():
    x, _ = batch_of(6, 8)
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    assert_reference(network, x, batch_of(6, CLASSES, seed=1)[0].softmax(1))


@pytest.mark.parametrize('score', SCORES)
def test_ignored_targets_have_zero_gradients(score):
    x, y = batch_of(6, 8)
    y[4:] = -100
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    expected = reference.SCORES[score](network, x, y, loss=nn.CrossEntropyLoss(reduction='sum'))
    assert expected != 0
    assert kernel_of(x, y, score).score(network) == pytest.approx(expected, rel=1e-6)


# What cannot be scored.


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize(
    'build',
    [
        lambda: nn.Flatten(),
        lambda: nn.Sequential(nn.Linear(8, 10), nn.Linear(10, CLASSES)).requires_grad_(False),
        lambda: Lambda(lambda layer, x: layer(x).detach(), nn.Linear(8, 10)),
        lambda: Lambda(lambda layer, x: x, nn.Linear(8, 10)),
    ],
    ids=['no parameters', 'all frozen', 'detached', 'unused'],
)
def test_no_gradient(score, build):
    with pytest.raises(ScoringError, match='no parameter'):
        kernel_of(*batch_of(6, 8), score).score(build())


@pytest.mark.parametrize('score', ['mgm-sampled', 'half-covariance'])
def test_no_tensor_of_fifty_entries(score):
    with pytest.raises(ScoringError, match='no parameter tensor of at least 50 entries receives a gradient'):
        kernel_of(*batch_of(6, 8), score).score(nn.Linear(8, CLASSES).double())


def test_batch_norm_of_one_sample_with_batch_statistics():
    network = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.Linear(10, CLASSES)).double()
    x, y = batch_of(1, 8)
    with pytest.raises(ValueError) as of_torch:
        network(x)
    with pytest.raises(MisfitError) as caught:
        kernel_of(x, y, normalization='batch').score(network)
    assert str(caught.value) == f'the network cannot take inputs of shape 1x8 (float64): {of_torch.value}'
