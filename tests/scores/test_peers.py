"""Published scores beside this project's own: against the slow, obvious way, on networks of all kinds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference_peers
import torch
from hub import built, images
from hypothesis import given
from hypothesis import strategies as st
from peer_networks import CLASSES, LABELS, NETWORKS, Lambda, network_and_inputs, normal, score
from torch import nn
from torch.nn import functional as F
from undisturbed import X, Y, assert_undisturbed, everything

from nni_knas.gradients import NotApplicable, ScoringError
from nni_knas.scores.peers.naswot import _correlations
from nni_knas.scores.peers.swap import _count_columns

RECTIFIED = ['naswot', 'swap', 'linear-regions']
AZ = list(reference_peers.AZ)
EVERY = list(reference_peers.PEERS)
FLAT = [name for name in EVERY if name not in ('meco', 'az-complexity')]
KINDS = {kind: EVERY if kind == 'convolutions' else FLAT for kind in NETWORKS}


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize(('kind', 'name'), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_scores_are_those_of_the_reference(kind, name, normalization):
    network, inputs = network_and_inputs(kind)
    coupled = normalization == 'batch' and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    expected = reference_peers.PEERS[name](network, inputs, 'batch' if coupled else 'sample')
    assert np.isfinite(expected)
    with assert_undisturbed(network):
        found = score(name, network, inputs, normalization=normalization)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('name', EVERY)
def test_scores_of_a_cell_are_those_of_the_reference(name):
    network, (x, y) = built('NasBench201'), images('NasBench201', 4)
    expected = reference_peers.PEERS[name](network, x)
    assert score(name, network, x, y) == pytest.approx(expected, rel=1e-9)
    assert expected != 0


@pytest.mark.parametrize('name', [*EVERY, *AZ])
def test_micro_batches_give_the_same(name):
    network, inputs = network_and_inputs('convolutions')
    for normalization in ('sample', 'batch'):
        whole, parts = (score(name, network, inputs, normalization=normalization, micro_batch=size) for size in (None, 4))
        assert parts == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize('name', [*EVERY, *AZ])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_networks_are_left_as_they_were(name, dtype):
    network = everything().to(dtype)
    with assert_undisturbed(network):
        try:
            score(name, network, X.to(dtype), Y)
        except NotApplicable:
            assert name in (*RECTIFIED, 'meco', 'az-progressivity', 'az-trainability')


def test_weights_come_back_from_a_pass_that_fails():
    def fail(linear, x):
        raise ValueError('no way')

    network = Lambda(fail, nn.Linear(8, CLASSES))
    with assert_undisturbed(network), pytest.raises(ValueError, match='no way'):
        score('synflow', network, normal(6, 8).float())


# What a score does not apply to, and what has no score.


@pytest.mark.parametrize('name', RECTIFIED)
def test_networks_without_rectifiers(name):
    network = nn.Sequential(nn.Linear(8, 9), nn.GELU(), nn.Hardtanh(), nn.Linear(9, CLASSES)).double()
    with pytest.raises(NotApplicable, match='n/a: the network has no ReLU'):
        score(name, network, normal(6, 8))


@pytest.mark.parametrize('kind', ['transformer', 'LSTM', 'fully connected', 'tokens'])
def test_networks_without_feature_maps(kind):
    network, inputs = network_and_inputs(kind)
    with pytest.raises(NotApplicable, match='n/a: the network has no feature maps'):
        score('meco', network, inputs)


def test_outputs_that_do_not_depend_on_the_inputs():
    network = Lambda(lambda linear, x: linear(0 * x.detach()), nn.Linear(8, CLASSES)).double()
    with pytest.raises(ScoringError, match='the outputs do not depend on the inputs'):
        score('jacob-cov', network, normal(6, 8))
    network = Lambda(lambda linear, x: linear(x * (x[:, :1] > 0)), nn.Linear(8, CLASSES)).double()
    with pytest.raises(ScoringError, match='the outputs of a sample do not depend on its inputs'):
        score('jacob-cov', network, normal(6, 8))


def test_samples_that_are_the_same():
    network, x = network_and_inputs('fully connected')
    same = x[:1].repeat(6, 1)
    with pytest.raises(ScoringError, match='the patterns of the ReLUs do not tell the samples apart'):
        score('naswot', network, same)
    assert score('linear-regions', network, same) == 1
    assert score('swap', network, same) == 2  # on for all, off for all
    assert -6e5 < score('jacob-cov', network, same) < -4.9e5  # five of the six eigenvalues are zero


def test_flow_that_overflows():
    network = nn.Sequential(*(nn.Linear(8, 8) for _ in range(40)), nn.Linear(8, CLASSES))
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(1e10)
    with pytest.raises(ScoringError, match='the flow through the absolute weights is not finite'):
        score('synflow', network, normal(6, 8).float())
    with pytest.raises(ScoringError, match='no parameter of two dimensions or more receives a gradient'):
        score('synflow', Lambda(lambda norm, x: norm(x), nn.LayerNorm(8)), normal(6, 8).float())


def test_rows_one_by_one_have_no_patterns():
    network = Lambda(lambda linear, x: torch.stack([linear(F.relu(row)) for row in x]), nn.Linear(8, CLASSES)).double()
    with pytest.raises(ScoringError, match='a ReLU sees the samples one by one'):
        score('swap', network, normal(6, 8)[:5].repeat(2, 1)[:7], LABELS.repeat(2)[:7])


# By hand.


@pytest.mark.parametrize(
    'rectify',
    [F.relu, torch.relu, lambda x: x.relu(), lambda x: x.clone().relu_(), lambda x: F.relu(x.clone(), True), F.relu6],
)
def test_rectifiers_that_are_functions(rectify):
    network = Lambda(lambda linear, x: linear(rectify(x)), nn.Linear(3, CLASSES)).double()
    x = torch.tensor([[1.0, -1, 2], [-1, -1, 3], [1, 1, 1]], dtype=torch.float64)
    assert score('swap', network, x, LABELS[:3]) == 3
    assert score('linear-regions', network, x, LABELS[:3]) == 3
    kernel = torch.tensor([[3.0, 2, 2], [2, 3, 1], [2, 1, 3]])
    assert score('naswot', network, x, LABELS[:3]) == pytest.approx(float(kernel.logdet()))


def test_samples_may_be_the_second_dimension():
    network = Lambda(lambda linear, x: linear(F.relu(x.transpose(0, 1))).mean(0), nn.Linear(3, CLASSES)).double()
    x = normal(4, 5, 3)
    patterns = {tuple(row) for row in (x > 0).flatten(1).T.tolist()}
    assert score('swap', network, x, LABELS[:4]) == len(patterns)


def test_synflow_by_hand():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, -2], [3, 4]]))
        network[0].bias.copy_(torch.tensor([-1.0, 0]))
        network[1].running_mean.fill_(7)
        network[3].weight.copy_(torch.tensor([[-1.0, 1], [2, 0]]))
        network[3].bias.fill_(-9)
    # hidden (4, 7); gradients of the hidden ones (3, 1)
    expected = (1 + 2) * 3 + (3 + 4) * 1 + (1 + 2) * 4 + 1 * 7
    assert score('synflow', network, torch.randn(2, 2), LABELS[:2]) == expected


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=70).map(lambda rows: rows))
def test_columns_are_counted(rows):
    width = min(map(len, rows))
    bits = torch.tensor([row[:width] for row in rows])
    assert _count_columns([bits[:, :1], bits[:, 1:]]) == len(set(zip(*bits.tolist())))


def test_columns_of_many_samples_are_counted():
    bits = torch.zeros(130, 300, dtype=torch.bool)
    for column, row in itertools.product(range(129), repeat=2):
        bits[row, column] = row == column
    assert _count_columns([bits]) == 130


@given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 99), st.sampled_from([1e-30, 1.0, 1e30]))
def test_correlations_have_no_scale(rows, columns, seed, scale):
    matrix = normal(rows, columns, seed=seed)
    expected = np.atleast_2d(np.corrcoef(matrix.numpy()))
    assert np.allclose(_correlations((matrix * scale).float()).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize('name', [*EVERY, *AZ])
def test_targets_are_not_read(name):
    network, inputs = network_and_inputs('convolutions')
    assert score(name, network, inputs) == score(name, network, inputs, LABELS.flip(0))


@pytest.mark.parametrize('name', EVERY)
def test_bounds(name):
    network, inputs = network_and_inputs('convolutions')
    value = score(name, network, inputs)
    units = 6 * 36 + 4 * 9
    low, high = {
        'az-complexity': (1, math.inf),
        'jacob-cov': (-6e5, -6),
        'linear-regions': (1, 6),
        'meco': (0, 12),
        'naswot': (-math.inf, 6 * math.log(units)),
        'swap': (1, 64),
        'synflow': (0, math.inf),
        'vkdnw': (10, 11),
    }[name]
    assert low <= value <= high
