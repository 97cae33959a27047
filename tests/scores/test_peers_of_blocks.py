"""AZ-NAS's parts against the slow, obvious way, and the blocks that they find in a network."""

from __future__ import annotations

import math

import pytest
import reference_peers
import torch
from hub import built, images
from hypothesis import given
from hypothesis import strategies as st
from peer_networks import CLASSES, LABELS, NETWORKS, Lambda, network_and_inputs, normal, score
from small_benchmarks import small_nats
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import NotApplicable, ScoringError, seeded
from nni_knas.scores.peers.az_nas import _covariance, _moments
from nni_knas.scores.peers.az_trainability import _folded
from nni_knas.scores.peers.blocks import blocks_of
from nni_knas.scores.peers.first_entries import _by_samples, jacobian_of_first_entries
from nni_knas.scores.peers.vkdnw import _entropy_of_deciles

AZ = list(reference_peers.AZ)
BLOCKS = {  # by name, with the dimension of the channels in one sample's output
    'convolutions': {'0': 0, '3.0': 0},
    'convolutions over time': {'0': 0},
    'transformer': {'parts.0.layers.0': 1, 'parts.0.layers.1': 1},
    'LSTM': {'parts.0': 1},
    'fully connected': {'0': 0, '3': 0},
    'tokens': {'parts.2': 1},
}
OF_HUB = {
    'NasBench201': ['stem', *(f'cells.{i}' for i in range(5)), 'classifier'],
    'DARTS': ['stem', *(f'stages.{i}.0' for i in range(3)), 'classifier'],
    'NasBench101': ['stem_conv', *(f'features.{i}' for i in (0, 2, 4)), 'classifier'],
    'AutoformerSpace': ['patch_embed', *(f'blocks.{i}' for i in range(3)), 'head'],
}


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
@pytest.mark.parametrize(
    ('kind', 'name'), [(kind, name) for kind in NETWORKS for name in AZ if len(BLOCKS[kind]) > 1 or name == AZ[0]]
)
def test_scores_are_those_of_the_reference(kind, name, normalization):
    network, inputs = network_and_inputs(kind)
    coupled = normalization == 'batch' and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    expected = reference_peers.AZ[name](network, inputs, BLOCKS[kind], 'batch' if coupled else 'sample')
    assert math.isfinite(expected) and expected != 0
    assert score(name, network, inputs, normalization=normalization) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize('name', AZ)
@pytest.mark.parametrize('space', ['NasBench201', 'DARTS'])
def test_scores_of_cells_are_those_of_the_reference(space, name):
    network, (x, y) = built(space), images(space, 4)
    if space == 'NasBench201':  # that of the hub hands on what it gets
        cell = '|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|'
        network = small_nats(10).network(cell, 0).double()
    expected = reference_peers.AZ[name](network, x, dict.fromkeys(OF_HUB[space][:-1], 0))
    assert score(name, network, x, y) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize('space', list(OF_HUB))
def test_blocks_of_the_hub(space):
    network = built(space)
    names = {module: name for name, module in network.named_modules()}
    assert [names[block] for block in blocks_of(network)] == OF_HUB[space]


def test_chains_in_chains():
    block = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)]
    network = nn.Sequential(block[0], nn.Sequential(*block[1:]), nn.ReLU(), nn.Linear(2, 2))
    assert blocks_of(network) == [*block, network[3]]


@pytest.mark.parametrize('kind', [kind for kind, blocks in BLOCKS.items() if len(blocks) == 1])
def test_networks_of_one_block(kind):
    network, inputs = network_and_inputs(kind)
    with pytest.raises(NotApplicable, match='n/a: the network has no two blocks to compare'):
        score('az-progressivity', network, inputs)
    with pytest.raises(NotApplicable, match='n/a: the network has no two blocks in a row whose positions match'):
        score('az-trainability', network, inputs)


def test_networks_without_blocks():
    network = Lambda(lambda norm, x: norm(x), nn.LayerNorm(8)).double()
    for name in ('az-expressivity', 'az-progressivity'):
        with pytest.raises(NotApplicable, match='n/a: the network has no'):
            score(name, network, normal(6, 8))


class Part(nn.Module):
    """A block that multiplies."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.inner = factor, nn.Identity()

    def forward(self, x):
        return self.inner(self.factor * x)


def chain(*factors):
    with seeded(0):
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 1)),
            *(Part(factor) for factor in factors),
            nn.Flatten(),
            nn.Linear(64, CLASSES),
        ).double()


def test_trainability_of_blocks_that_multiply():
    x = normal(6, 3, 4, 4)
    steady, small = (score('az-trainability', chain(factor, factor), x) for factor in (0.999, 0.1))
    assert small < steady <= 1e-6
    # signs are uncorrelated but for chance, so that the norm is the factor times a little more than 1
    assert 2 - 0.2 - 1 / 0.1 < small < 2 - 0.1 - 1 / 0.2
    with pytest.raises(ScoringError, match='a block passes on just what it gets: nothing in it can be trained'):
        score('az-trainability', chain(0.5, 1.0), x)


def test_blocks_that_gradients_do_not_pass_are_the_worst():
    network = nn.Sequential(*(nn.Linear(8, 8) for _ in range(2)), nn.Linear(8, CLASSES)).double()
    network[1].weight.data.zero_()
    assert score('az-trainability', network, normal(6, 8)) == pytest.approx(2 - 1e6)


def test_constant_features_have_no_entropy():
    network, x = chain(0.0, 2.0), normal(6, 3, 4, 4)
    alone = score('az-expressivity', nn.Sequential(network[0], Part(1.0), *network[3:]), x)
    assert score('az-expressivity', network, x) == pytest.approx(alone / 2)  # of the convolution, and none of two blocks
    assert score('az-progressivity', network, x) == pytest.approx(-alone / 2)


@given(st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99), st.floats(-1e3, 1e3))
def test_covariances_of_parts_are_that_of_the_whole(channels, sizes, seed, shift):
    rows = shift + normal(sum(sizes), channels, seed=seed)
    whole = torch.cov(rows.T, correction=0).reshape(channels, channels)
    found = _covariance([_moments(part) for part in rows.split(sizes)])
    assert torch.allclose(found, whole, atol=1e-9)


def test_folded_maps():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    folded = _folded(x, (2, 2))
    assert folded.shape == (2, 3 * 2 * 3, 2, 2)
    assert set(folded[1, :, 0, 1].tolist()) == set(x[1, :, :2, 3:].flatten().tolist())
    unshuffled = nn.PixelUnshuffle(2)(x)
    again = _folded(x, (2, 3))
    assert sorted(map(tuple, again.flatten(2)[0].tolist())) == sorted(map(tuple, unshuffled.flatten(2)[0].tolist()))
    assert _folded(x, (3, 2)) is None and _folded(x, (4,)) is None


# VKDNW.


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=20), st.floats(1e-6, 1e6))
def test_entropy_of_deciles_has_its_bounds_and_no_scale(values, scale):
    values = torch.tensor(values, dtype=torch.float64).sort()[0]
    found = _entropy_of_deciles(values)
    assert -1e-12 <= found <= math.log(9) + 1e-12
    assert _entropy_of_deciles(scale * values) == pytest.approx(found, abs=1e-9)


def test_entropy_of_deciles_by_hand():
    assert _entropy_of_deciles(torch.full((7,), 3.0)) == pytest.approx(math.log(9))
    assert _entropy_of_deciles(torch.zeros(7)) == _entropy_of_deciles(torch.tensor([-1e-18, -1e-19])) == 0
    values = torch.arange(11.0)  # deciles 1 to 9
    assert _entropy_of_deciles(values) == pytest.approx(-sum(k / 45 * math.log(k / 45) for k in range(1, 10)))


@pytest.mark.parametrize('space', ['NasBench101', 'NasBench201', 'DARTS', 'MobileNetV3Space'])
@pytest.mark.parametrize('micro_batch', [None, 2])
def test_jacobians_by_layers_are_those_by_samples(space, micro_batch):
    kernel = GradientKernelEvaluator(images(space), micro_batch=micro_batch)
    with kernel.gradients(built(space)) as gradients:
        by_layers = jacobian_of_first_entries(gradients, 2)
        by_samples = torch.stack([_by_samples(gradients, number) for number in range(2)], 1)
    assert by_layers.shape == (3, 2, len(gradients.parameters)) and (by_layers != 0).any()
    torch.testing.assert_close(by_layers, by_samples, rtol=1e-7, atol=1e-12)


def test_jacobians_of_networks_whose_layers_see_tokens():
    network, inputs = network_and_inputs('convolutions')
    network[6] = nn.Sequential(nn.Unflatten(1, (6, 6)), nn.Linear(6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4)).double()
    with GradientKernelEvaluator((inputs, LABELS % 4)).gradients(network) as gradients:
        found = jacobian_of_first_entries(gradients, 4)
        assert torch.equal(found[:, 3], _by_samples(gradients, 3))


def test_vkdnw_is_of_classifiers():
    network, inputs = network_and_inputs('fully connected')
    with pytest.raises(ScoringError, match='predictions of a classifier with cross-entropy only'):
        score('vkdnw', network, inputs, normal(6, CLASSES), loss=nn.MSELoss())


def test_more_layers_come_first():
    network, inputs = network_and_inputs('fully connected')
    deeper = nn.Sequential(nn.Linear(8, 8, bias=False), *network).double()
    shallow, deep = (score('vkdnw', each, inputs, LABELS) for each in (network, deeper))
    assert 8 <= shallow <= 9 <= deep <= 10


def test_blocks_beside_each_other_are_no_pair():
    with seeded(0):
        layers = [nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)]
    network = Lambda(lambda a, b, c, d, x: d(c((a(x) + b(x)).tanh()).mean(1)), *layers).double()
    assert -5 < score('az-trainability', network, normal(6, 4, 8)) < 0  # a pair without a gradient has -1e6
    network = Lambda(lambda a, b, d, x: d((a(x) + b(x)).mean(1)), *layers[:2], layers[3]).double()
    with pytest.raises(NotApplicable, match='n/a: the network has no two blocks in a row'):
        score('az-trainability', network, normal(6, 4, 8))
