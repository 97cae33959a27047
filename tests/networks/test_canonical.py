"""Samples of one network have one canonical sample, whose network is theirs to the last bit."""

from __future__ import annotations

from typing import ClassVar

import nni
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear, Repeat
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from torch import nn

from nni_knas.networks import Canonical, build_network, encode_sample
from nni_knas.spaces import FunctionSpace


def options():
    return [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh()), nn.Identity()]


class Deep(ModelSpace):
    """Choices of blocks beyond the depth are not used."""

    def __init__(self):
        super().__init__()
        width = nni.choice('width', [4, 6])
        self.first = MutableLinear(4, width)
        self.blocks = Repeat(lambda i: LayerChoice([nn.ReLU(), nn.Tanh()], label=f'op{i}'), (1, 3), label='depth')
        self.last = MutableLinear(width, 3)

    def forward(self, x):
        return self.last(self.blocks(self.first(x)))


class DeepList(ModelSpace):
    """The same with blocks that are made beforehand."""

    def __init__(self):
        super().__init__()
        blocks = [LayerChoice([nn.Linear(4, 4), nn.Tanh()], label=f'op{i}') for i in range(3)]
        self.blocks = Repeat(blocks, (1, 3), label='depth')

    def forward(self, x):
        return self.blocks(x)


class Nested(ModelSpace):
    """Choices within options, in three levels, and one label in two of them."""

    def __init__(self):
        super().__init__()
        inner = nn.Sequential(LayerChoice(options(), label='innermost'), nn.ReLU())
        middle = nn.Sequential(LayerChoice([inner, nn.Tanh()], label='inner'), nn.Linear(4, 4))
        other = nn.Sequential(LayerChoice(options(), label='both'), LayerChoice(options(), label='other'))
        third = nn.Sequential(LayerChoice(options(), label='both'))
        self.outer = LayerChoice([middle, other, third], label='outer')

    def forward(self, x):
        return self.outer(x)


class Inspecting(ModelSpace):
    """Looks at a layer that does nothing else: its choice is used."""

    def __init__(self):
        super().__init__()
        self.looked_at = LayerChoice([nn.ReLU(), nn.Identity()], label='looked at')
        self.scale = 2.0 if isinstance(self.looked_at, nn.Identity) else 1.0
        self.blocks = Repeat(lambda i: LayerChoice(options(), label=f'op{i}'), (1, 2), label='depth')

    def forward(self, x):
        return self.blocks(x) * self.scale


def build(parameters):
    """The second activation is looked at where there is one."""
    layers = [nn.Linear(4, 4), {'relu': nn.ReLU, 'tanh': nn.Tanh}[parameters['first']]()]
    if parameters['depth'] == 2:
        layers += [nn.Linear(4, 4), {'relu': nn.ReLU, 'tanh': nn.Tanh}[parameters['second']]()]
    return nn.Sequential(*layers)


class Keeping(nn.Module):
    def __init__(self, parameters):
        super().__init__()
        self.parameters_, self.layer = parameters, nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) * (2 if self.parameters_['second'] == 'tanh' else 1)


def build_keeping(parameters):
    """Looks at the parameters when it runs."""
    return Keeping(parameters)


def build_all(parameters):
    """Looks at all of them."""
    return build({**parameters}) if sorted(parameters) else nn.Identity()


CHOICES = {
    'depth': {'_type': 'choice', '_value': [1, 2]},
    'first': {'_type': 'choice', '_value': ['relu', 'tanh']},
    'second': {'_type': 'choice', '_value': ['relu', 'tanh']},
}


def of_function(name):
    return FunctionSpace(f'{__name__}:{name}', CHOICES)


SPACES = {
    'Deep': (Deep, 2 * (2 + 4 + 8)),
    'DeepList': (DeepList, 2 + 4 + 8),
    'Nested': (Nested, 3 + 1 + 9 + 3),
    'Inspecting': (Inspecting, 2 * (3 + 9)),
    'function': (lambda: of_function('build'), 2 + 4),
    'keeping': (lambda: of_function('build_keeping'), 8),
    'all': (lambda: of_function('build_all'), 8),
}


def same(one, other, inputs):
    assert str(one) == str(other)
    a, b = one.state_dict(), other.state_dict()
    assert [*a] == [*b] and all(map(torch.equal, a.values(), b.values()))
    assert torch.equal(one(inputs), other(inputs))


def samples(space):
    return [dict(model.sample) for model in space.grid()]


@pytest.mark.parametrize('name', SPACES)
def test_a_sample_for_each_network(name):
    """No two that differ have one, and its network is theirs."""
    make, networks = SPACES[name]
    space, inputs = SimplifiedModelSpace.from_model(make()), torch.randn(5, 4)
    canonical = Canonical(space)
    found = set()
    for sample in samples(space):
        one = canonical.sample(sample)
        assert space.contains(one) and canonical.sample(one) == one
        same(build_network(space.freeze(sample), 3), build_network(space.freeze(one), 3), inputs)
        found.add(encode_sample(one))
    assert len(found) == networks


def test_it_does_not_depend_on_the_order():
    space = SimplifiedModelSpace.from_model(Deep())
    forth, back = Canonical(space), Canonical(space)
    expected = [forth.sample(sample) for sample in samples(space)]
    assert [back.sample(sample) for sample in reversed(samples(space))] == expected[::-1]


def test_hyper_parameters_stay():
    evaluator = FunctionalEvaluator(print, learning_rate=nni.choice('learning_rate', [0.1, 0.2]))
    space = SimplifiedModelSpace.from_model(Deep(), evaluator)
    canonical = Canonical(space)
    assert len({encode_sample(canonical.sample(sample)) for sample in samples(space)}) == 2 * SPACES['Deep'][1]


def test_in_raw_format():
    space = RawFormatModelSpace.from_model(Deep())
    canonical = Canonical(space)
    assert len({encode_sample(canonical.sample(sample)) for sample in samples(space)}) == SPACES['Deep'][1]


def test_where_construction_cannot_be_seen_samples_stay(monkeypatch):
    """Of a graph, and of a space that takes the sample past the constructor's context."""

    class Hidden(Deep):
        hidden: ClassVar[dict] = {}

        def __init__(self):
            super().__init__()
            self.scale = 2.0 if self.hidden.get('op2') == 1 else 1.0

    space = SimplifiedModelSpace.from_model(Hidden())
    freeze = space.freeze

    def noting(sample):
        Hidden.hidden.update(sample)
        return freeze(sample)

    monkeypatch.setattr(space, 'freeze', noting)
    canonical = Canonical(space)
    assert all(canonical.sample(sample) is sample for sample in samples(space))


CELLS = SimplifiedModelSpace.from_model(NasBench201(stem_out_channels=4, num_modules_per_stack=1))
IN_CELLS = Canonical(CELLS)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_where_all_is_used_samples_stay(seed):
    sample = CELLS.random(random_state=np.random.RandomState(seed)).sample
    assert IN_CELLS.sample(sample) is sample


NESTED = SimplifiedModelSpace.from_model(Nested())
IN_NESTED = Canonical(NESTED)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_random_pairs(one, other):
    """Two samples have one canonical sample exactly where what is printed of their networks is the same."""
    pair = [dict(NESTED.random(random_state=np.random.RandomState(seed)).sample) for seed in (one, other)]
    texts = {str(build_network(NESTED.freeze(sample), 0)) for sample in pair}
    assert len({encode_sample(IN_NESTED.sample(sample)) for sample in pair}) == len(texts)
