"""Costs of networks against what can be computed by hand, and their constraints."""

from __future__ import annotations

import copy
import itertools
import math
import time

import pytest
import torch
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from torch import nn
from torch.nn import functional as F

from nni_knas.networks.candidates import random_models
from nni_knas.networks.construction import build_network
from nni_knas.networks.costs import COSTS, check_constraints, measure

EXACT = ('parameters', 'flops', 'memory')


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    )


def test_a_sequential_network_by_hand():
    costs = measure(convolutions(), torch.randn(1, 3, 8, 8), EXACT)
    first, second, last = 3 * 4 * 9, 4 // 2 * 8 * 9 + 8, 128 * 5 + 5
    assert costs['parameters'] == first + 2 * 4 + second + last
    assert costs['flops'] == 2 * (first * 64 + (second - 8) * 16 + 128 * 5)
    weights = 4 * costs['parameters'] + 4 * 2 * 4 + 8  # with BatchNorm's statistics, and its counter of 8 bytes
    image, hidden = 4 * 3 * 64, 4 * 4 * 64
    assert costs['memory'] == weights + image + 2 * hidden  # BatchNorm has its input and output at a time, ReLU but one
    assert list(costs) == list(EXACT)


@pytest.mark.parametrize(
    'widths, peak',
    [
        ((10, 100, 10), 4 * (10 + 100 + 10)),  # the sample is there to the end
        ((10, 100, 200, 10), 4 * (10 + 100 + 200)),
        ((1000, 10, 10), 4 * (1000 + 10 + 10)),
    ],
)
def test_memory_of_layers_one_after_the_other(widths, peak):
    network = nn.Sequential(*[nn.Linear(a, b) for a, b in itertools.pairwise(widths)])
    weights = sum(4 * (a * b + b) for a, b in itertools.pairwise(widths))
    assert measure(network, torch.randn(1, widths[0]), ['memory']) == {'memory': weights + peak}


class Residual(nn.Module):
    def forward(self, x):
        y = x.view(10, 10).t().reshape(-1)  # a copy
        z = torch.relu(y)
        del y
        views = [z.view(1, 100), z[:50], z.unsqueeze(0).expand(7, 100)]
        return views[0] + x


def test_memory_of_what_is_kept_and_of_views():
    assert measure(Residual(), torch.randn(1, 100), EXACT) == {'parameters': 0, 'flops': 0, 'memory': 4 * 100 * 3}


def test_shared_weights_count_once():
    network = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    network[2].weight = network[0].weight
    costs = measure(network, torch.randn(1, 5), EXACT)
    assert costs == {'parameters': 25 + 10, 'flops': 2 * 50, 'memory': 4 * 35 + 4 * 15}


@pytest.mark.parametrize(
    'network, flops',
    [
        (nn.LSTM(8, 8, batch_first=True), 2 * 5 * 2 * 8 * 32),
        (nn.GRU(8, 8, batch_first=True), 2 * 5 * 2 * 8 * 24),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2 * (5 * 4 * 64 + 5 * 2 * 8 * 16 + 2 * 5 * 5 * 8)),
    ],
)
def test_layers_that_torch_runs_as_one_operation_are_counted(network, flops):
    costs = measure(network, torch.randn(1, 5, 8), EXACT)
    assert costs['flops'] == flops
    assert costs['memory'] > 4 * costs['parameters'] + 2 * 4 * 40


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8))

    def forward(self, first, second=None):
        return F.linear(first, second) @ self.weight if second is not None else first @ self.weight


def test_matrix_times_vector():
    assert measure(Product(), torch.randn(1, 8), ['flops']) == {'flops': 16}


@pytest.mark.parametrize(
    'sample', [(torch.randn(1, 8), torch.randn(8, 8)), {'first': torch.randn(1, 8), 'second': torch.randn(8, 8)}]
)
def test_several_inputs(sample):
    assert measure(Product(), sample, EXACT) == {'parameters': 8, 'flops': 2 * (64 + 8), 'memory': 4 * (8 + 8 + 64 + 8 + 1)}


def test_a_sample_of_another_type_than_the_network():
    assert measure(nn.Linear(8, 2).double(), torch.randn(1, 8), ['memory']) == {'memory': 8 * (18 + 8 + 2)}


def test_the_network_and_the_sample_are_left_as_they_were():
    network = nn.Sequential(nn.ReLU(inplace=True), convolutions(), nn.Dropout())
    network[1][1].eval()
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    sample, random = torch.randn(2, 3, 8, 8), torch.get_rng_state()
    as_it_was = sample.clone()
    costs = measure(network, sample[:1], COSTS)
    assert measure(network, sample[:1].clone(), EXACT) == {name: costs[name] for name in EXACT}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(sample, as_it_was) and torch.equal(random, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled() and torch._C._get_mkldnn_enabled()


def test_the_forward_pass_is_that_of_evaluation():
    class Auxiliary(nn.Linear):
        def forward(self, x):
            assert not torch.is_grad_enabled()
            return (super().forward(x), super().forward(x)) if self.training else super().forward(x)

    assert measure(Auxiliary(4, 4).train(), torch.randn(1, 4), ['flops']) == {'flops': 32}


def test_only_what_is_asked_for_is_measured():
    class Unused(nn.Linear):
        def forward(self, x):
            raise AssertionError

    assert measure(Unused(3, 3), torch.randn(1, 3), ['parameters']) == {'parameters': 12}
    assert measure(Unused(3, 3), torch.randn(1, 3), []) == {}
    with pytest.raises(AssertionError):
        measure(Unused(3, 3), torch.randn(1, 3), ['parameters', 'flops'])


def test_latency_is_in_seconds():
    class Slow(nn.Linear):
        def forward(self, x):
            time.sleep(0.01)
            return super().forward(x)

    assert 0.01 <= measure(Slow(3, 3), torch.randn(1, 3), ['latency'])['latency'] < 0.1
    assert 0 < measure(nn.Linear(3, 3), torch.randn(1, 3), ['latency'])['latency'] < 0.01


def test_networks_of_the_hub_the_same_each_time():
    space = SimplifiedModelSpace.from_model(NasBench201(stem_out_channels=4, num_modules_per_stack=1))
    for model in random_models(space, 3, 0):
        network = build_network(model, 0)
        costs = [measure(network, torch.randn(1, 3, 16, 16), EXACT) for _ in range(2)]
        assert costs[0] == costs[1]
        assert costs[0]['memory'] > 4 * costs[0]['parameters'] and costs[0]['flops'] > costs[0]['parameters']


class TestConstraints:
    def test_are_put_in_order(self):
        constraints = check_constraints({'latency': 0.1, 'parameters': 10})
        assert list(constraints.items()) == [('parameters', 10.0), ('latency', 0.1)]
        assert check_constraints(None) == check_constraints({}) == {}

    @pytest.mark.parametrize(
        'constraints, error, message',
        [
            ({'params': 3}, ValueError, "unknown cost 'params': did you mean 'parameters'\\? There are parameters, flops, "),
            ({'FLOPs': 3}, ValueError, "did you mean 'flops'"),
            (
                {'speed of light': 3},
                ValueError,
                "unknown cost 'speed of light': there are parameters, flops, memory, latency",
            ),
            ({3: 3}, ValueError, 'unknown cost 3'),
            ({'flops': 0}, ValueError, 'the constraint on flops is 0: it has to be a finite number above 0'),
            ({'flops': -1.5}, ValueError, 'is -1.5'),
            ({'flops': math.inf}, ValueError, 'is inf'),
            ({'flops': math.nan}, ValueError, 'is nan'),
            ({'flops': '1e6'}, TypeError, "the constraint on flops is '1e6': it has to be a number above 0"),
            ({'flops': True}, TypeError, 'is True'),
            ([('flops', 3)], TypeError, 'they have to be a dict of upper bounds'),
        ],
    )
    def test_that_cannot_be(self, constraints, error, message):
        with pytest.raises(error, match=message):
            check_constraints(constraints)

    def test_costs_that_there_are_not(self):
        with pytest.raises(ValueError, match='did you mean'):
            measure(nn.Linear(1, 1), torch.randn(1, 1), ['latencies'])
