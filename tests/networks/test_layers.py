"""Networks whose layers have a stream of weights each: the same alone as after others, and of the same distribution."""

from __future__ import annotations

import functools

import nni
import numpy as np
import pytest
import torch
from hub import SPACES, images
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.hub.pytorch import DARTS
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from torch import nn

from nni_knas.networks import build_network, constructed, construction, random_models
from nni_knas.networks.builder import NetworkBuilder, are_alike
from nni_knas.networks.layers import Layers

DEAR = ('NasBench101', 'DARTS', 'ENAS', 'PNAS', 'AmoebaNet', 'NASNet', 'MobileNetV3Space', 'ProxylessNAS', 'ShuffleNetSpace')


@functools.cache
def space_of(name):
    build, arguments, _ = SPACES[name]
    return SimplifiedModelSpace.from_model(build(**arguments))


@pytest.fixture
def all_are_dear(monkeypatch):
    monkeypatch.setattr(construction, 'LAYERS', 1)


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(one, other):
    return [*one] == [*other] and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize('name', DEAR)
def test_as_alone(name, all_are_dear):
    """The network of a candidate is the same after others, and after what scoring does with them."""
    builder = NetworkBuilder(space_of(name), 3)
    models = random_models(space_of(name), 3, seed=1)
    inputs, labels = images(name)
    kept = set()
    for model in [*models, models[0]]:
        network, alone = builder.network(model.sample), build_network(model, 3)
        assert are_alike(network, alone) and str(network) == str(alone)
        assert len([*network.modules()]) == len([*alone.modules()])  # no layer stands in two places
        assert len([*network.parameters()]) == len([*alone.parameters()])
        pointers = {parameter.data_ptr() for parameter in network.parameters()}
        nn.functional.cross_entropy(network.eval()(inputs.float()), labels).backward()
        network.train().zero_grad()
        again, kept = kept & pointers, kept | pointers
    assert builder._dear and builder._layered._sound and again


def test_other_weights_in_each_layer():
    """Layers of one kind do not share their weights, and another seed gives others."""
    [model] = random_models(SimplifiedModelSpace.from_model(DARTS(width=4, num_cells=3, dataset='cifar')), 1, seed=0)
    one, other = build_network(model, 0), build_network(model, 1)
    drawn = [p.detach() for p in one.parameters() if p.dim() == 4]
    assert len({tuple(p.flatten().tolist()) for p in drawn}) == len(drawn) > 20
    assert not any(torch.equal(a, b) for a, b in zip(drawn, (p for p in other.parameters() if p.dim() == 4)))


def test_the_distribution_is_nnis():
    """Mean, deviation and range of each layer's weights over several seeds are those under NNI's own construction."""
    [model] = random_models(SimplifiedModelSpace.from_model(DARTS(width=8, num_cells=3, dataset='cifar')), 1, seed=0)
    ours, theirs = ([build(model, seed) for seed in range(8)] for build in (build_network, constructed))
    names = [name for name, p in ours[0].named_parameters() if p.dim() == 4]
    for name in names:
        a, b = (torch.stack([n.get_parameter(name).detach().flatten() for n in each]) for each in (ours, theirs))
        assert a.abs().max() <= 1.01 * b.abs().max() + 0.1 * b.std()  # both are uniform
        assert abs(a.std() / b.std() - 1) < 6 / np.sqrt(a.numel())
        assert abs(a.mean()) < 6 * b.std() / np.sqrt(a.numel())


def test_batch_normalisation_is_as_it_was_made():
    [model] = random_models(space_of('DARTS'), 1, seed=0)
    for layer in build_network(model, 0).modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.running_mean, torch.zeros_like(layer.running_mean))
            assert torch.equal(layer.weight, torch.ones_like(layer.weight)) and layer.num_batches_tracked == 0


@settings(max_examples=4, deadline=None)
@given(st.permutations(range(4)), st.sampled_from(['DARTS', 'PNAS', 'ProxylessNAS']))
def test_the_order_of_candidates_does_not_matter(order, name):
    space = space_of(name)
    builder, models = NetworkBuilder(space, 0), random_models(space, 4, seed=3)
    for i in order:
        assert equal(weights(builder.network(models[i].sample)), alone(name, i))


@functools.cache
def alone(name, i):
    return weights(build_network(random_models(space_of(name), 4, seed=3)[i], 0))


def test_little_memory_changes_nothing():
    space = space_of('DARTS')
    builder = NetworkBuilder(space, 0)
    builder._layered._layers.capacity = 20_000
    models = random_models(space, 4, seed=5)
    for model in 2 * models:
        assert equal(weights(builder.network(model.sample)), weights(build_network(model, 0)))
        assert builder._layered._layers._size <= 20_000


def test_formats_agree(all_are_dear):
    build, arguments, _ = SPACES['DARTS']
    sample = random_models(space_of('DARTS'), 1, seed=0)[0].sample
    one, other = (kind.from_model(build(**arguments)).freeze(sample) for kind in (SimplifiedModelSpace, RawFormatModelSpace))
    assert equal(weights(build_network(one, 0)), weights(build_network(other, 0)))


class Block(nn.Module):
    """A layer of a user's: plain arguments, weights from a generator that is not torch's."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(np.random.normal(size=(width, width))).float())

    def forward(self, x):
        return x @ self.weight


class Scaled(Block):
    """Refers to itself, as nothing may that is put into another network."""

    def __init__(self, width):
        super().__init__(width)
        self.product = super().forward

    def forward(self, x):
        return self.product(x)


class Hooked(nn.Linear):
    def __init__(self, width):
        super().__init__(width, width)
        self.register_forward_hook(lambda layer, inputs, output: output * 2)


class Doubling(ModelSpace):
    """Changes the weights of its layers when all of them are there."""

    def __init__(self, kind, change):
        super().__init__()
        self.depth = nni.choice('depth', [1, 2, 3])
        self.add_mutable(self.depth)
        self.layers = nn.Sequential(*(kind(4) for _ in range(nni.mutable.ensure_frozen(self.depth))))
        self.head = LayerChoice([nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(4, 3))], label='head')
        self.last = MutableLinear(3, 3)
        change(self)

    def forward(self, x):
        return self.last(self.head(self.layers(x)))


def nothing(network):
    pass


def double(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)


def draw_again(network):
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)


def freeze_some(network):
    for parameter in network.layers.parameters():
        parameter.requires_grad_(False)


@pytest.mark.parametrize('change', [nothing, double, draw_again, freeze_some])
@pytest.mark.parametrize('kind', [Block, Scaled, Hooked])
def test_spaces_of_ones_own(kind, change, all_are_dear):
    """Whatever a constructor does, a candidate's network is the same as alone."""
    space = SimplifiedModelSpace.from_model(nni.trace(Doubling)(kind, change))
    builder = NetworkBuilder(space, 0)
    inputs = torch.randn(5, 4)
    samples = [{'depth': depth, 'head': head} for depth in (1, 2, 3) for head in (0, 1)]
    for sample in 3 * samples:
        network, alone = builder.network(sample), build_network(space.freeze(sample), 0)
        assert equal(weights(network), weights(alone)) and torch.equal(network(inputs), alone(inputs))
        assert kind is Hooked or are_alike(network, alone)  # each hook has a number of its own
    assert builder._dear
    assert builder._layered._sound == (change is not double and kind is not Hooked)


def test_layers_that_refer_to_themselves_are_not_kept(all_are_dear):
    for kind, kept in ((Block, True), (Scaled, False), (Hooked, False)):
        space = SimplifiedModelSpace.from_model(nni.trace(Doubling)(kind, nothing))
        builder = NetworkBuilder(space, 0)
        networks = [builder.network({'depth': 2, 'head': 0}) for _ in range(3)]
        first, last = (network.layers[0] for network in networks[1:])
        assert (first.weight is last.weight) == kept


def test_what_does_not_pay_has_nnis_weights():
    """A small space, though its structure differs, and one that differs in chosen layers alone."""
    small = SimplifiedModelSpace.from_model(nni.trace(Doubling)(Block, nothing))
    for space in (small, space_of('NasBench201')):
        for model in random_models(space, 3, seed=0):
            assert equal(weights(build_network(model, 5)), weights(constructed(model, 5)))


def test_classes_are_left_as_they_were():
    before = {kind: vars(kind).get('__init__') for kind in (nn.Conv2d, nn.Linear, nn.Module, nn.ReLU, Block)}
    [model] = random_models(space_of('DARTS'), 1, seed=0)
    build_network(model, 0)
    layers = Layers(0)
    with pytest.raises(KeyError):
        construction.construct_by_layers(model, _Failing())
    construction.construct_by_layers(model, layers)
    assert before == {kind: vars(kind).get('__init__') for kind in before}
    assert nn.Conv2d(3, 4, 1).weight.requires_grad


class _Failing(Layers):
    """Its layers cannot be made."""

    def __init__(self):
        super().__init__(0)

    def _fill(self, *arguments):
        raise KeyError('no layer')
