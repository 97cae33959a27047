"""Networks from a skeleton are the networks that NNI constructs, to the last bit."""

from __future__ import annotations

import itertools
import time

import nni
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.hub.pytorch import DARTS, NasBench201
from nni.nas.nn.pytorch import InputChoice, LayerChoice, ModelSpace, MutableLinear, Repeat
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from spaces import TinySpace
from torch import nn

from nni_knas.networks.builder import NetworkBuilder
from nni_knas.networks.construction import build_network


def options():
    return [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh()), nn.Identity()]


class Plain(ModelSpace):
    def __init__(self):
        super().__init__()
        self.first = LayerChoice(options(), label='first')
        self.second = LayerChoice(dict(zip('abc', options())), label='second')
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


class Nested(ModelSpace):
    """A choice within an option of another, and one label that is used twice."""

    def __init__(self):
        super().__init__()
        self.outer = LayerChoice(
            [nn.Sequential(nn.Linear(4, 4), LayerChoice(options(), label='inner')), nn.ReLU()], label='outer'
        )
        self.again = LayerChoice([nn.Linear(4, 4, bias=False), nn.Linear(4, 4)], label='outer')

    def forward(self, x):
        return self.again(self.outer(x))


class Repeated(ModelSpace):
    """A block that is copied with the choice in it, and a number of copies that is chosen."""

    def __init__(self):
        super().__init__()
        self.blocks = Repeat(nn.Sequential(LayerChoice(options(), label='op'), nn.ReLU()), (1, 3), label='depth')
        self.rest = Repeat(lambda i: LayerChoice(options(), label=f'rest_{i}'), 2)

    def forward(self, x):
        return self.rest(self.blocks(x))


class Structural(ModelSpace):
    """Choices of width and inputs beside a choice of layer."""

    def __init__(self):
        super().__init__()
        width = nni.choice('width', [4, 6])
        self.wide = MutableLinear(4, width)
        self.back = MutableLinear(width, 4)
        self.op = LayerChoice(options(), label='op')
        self.source = InputChoice(2, 1, label='source')

    def forward(self, x):
        y = self.back(self.wide(x))
        return self.op(self.source([x, y]))


class Inspecting(ModelSpace):
    """Its constructor looks at the layer that was chosen."""

    def __init__(self):
        super().__init__()
        self.op = LayerChoice(options(), label='op')
        self.scale = 2.0 if isinstance(self.op, nn.Identity) else 1.0

    def forward(self, x):
        return self.op(x) * self.scale


class Initialising(ModelSpace):
    """Its constructor draws the weights of the chosen layers again."""

    def __init__(self):
        super().__init__()
        self.op = LayerChoice(options(), label='op')
        self.head = nn.Linear(4, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight)

    def forward(self, x):
        return self.head(self.op(x))


class Sharing(ModelSpace):
    """One layer is an option of two choices."""

    def __init__(self):
        super().__init__()
        shared = nn.Linear(4, 4)
        self.one = LayerChoice([shared, nn.Identity()], label='one')
        self.other = LayerChoice([shared, nn.ReLU()], label='other')

    def forward(self, x):
        return self.other(self.one(x))


class Listing(ModelSpace):
    """Keeps the chosen layer in a list of its own, too."""

    def __init__(self):
        super().__init__()
        self.op = LayerChoice(options(), label='op')
        self.all = [self.op]

    def forward(self, x):
        return self.all[0](x)


def same(one, other, inputs):
    assert str(one) == str(other)
    for kind in ('named_parameters', 'named_buffers'):
        a, b = dict(getattr(one, kind)()), dict(getattr(other, kind)())
        assert [*a] == [*b]
        assert all(torch.equal(a[name], b[name]) and a[name].requires_grad == b[name].requires_grad for name in a)
    assert torch.equal(one(inputs), other(inputs))
    return True


def samples(space):
    return [dict(model.sample) for model in space.grid()]


FORMATS = {'simplified': SimplifiedModelSpace, 'raw': RawFormatModelSpace}
SPACES = [Plain, Nested, Repeated, Structural, Inspecting, Initialising, Sharing, Listing, TinySpace]


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize('kind', SPACES, ids=lambda kind: kind.__name__)
def test_networks_are_those_that_nni_constructs(kind, name):
    space = FORMATS[name].from_model(kind(), FunctionalEvaluator(lambda network: 0))
    builder = NetworkBuilder(space, 3)
    inputs = torch.randn(5, 6 if kind is TinySpace else 4)
    order = np.random.RandomState(0).permutation(2 * samples(space))
    for sample in order:
        assert same(builder.network(sample), build_network(space.freeze(sample), 3), inputs)


@pytest.mark.parametrize(
    ('kind', 'skeletons'),
    [(Plain, 1), (Nested, 1), (Repeated, 3), (Structural, 4), (TinySpace, 3)],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_a_skeleton_for_each_structure(kind, skeletons):
    space = SimplifiedModelSpace.from_model(kind())
    builder = NetworkBuilder(space, 0)
    first = {id(builder.network(sample)) for sample in samples(space)}
    again = {id(builder.network(sample)) for sample in samples(space)}
    assert len(again) == skeletons and again <= first


@pytest.mark.parametrize('kind', [Inspecting, Initialising, Sharing, Listing], ids=lambda kind: kind.__name__)
def test_spaces_that_do_not_bear_it_are_constructed(kind):
    space = SimplifiedModelSpace.from_model(kind())
    builder = NetworkBuilder(space, 0)
    built = [builder.network(sample) for sample in 2 * samples(space)]
    assert len({id(network) for network in built[len(built) // 2 :]}) == len(built) // 2


def test_the_order_of_candidates_does_not_matter():
    space = SimplifiedModelSpace.from_model(Plain())
    forth, back = NetworkBuilder(space, 1), NetworkBuilder(space, 1)
    weights = {str(sample): [p.clone() for p in forth.network(sample).parameters()] for sample in samples(space)}
    for sample in reversed(samples(space)):
        assert all(map(torch.equal, weights[str(sample)], back.network(sample).parameters()))


def test_another_seed_gives_other_weights():
    space = SimplifiedModelSpace.from_model(Plain())
    sample = samples(space)[0]
    one, other = (NetworkBuilder(space, seed).network(sample) for seed in (1, 2))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_memory_and_patience_are_bounded():
    class Deep(ModelSpace):
        def __init__(self):
            super().__init__()
            self.first = MutableLinear(4, nni.choice('width', [*range(1, 40)]))
            self.op = LayerChoice(options(), label='op')

        def forward(self, x):
            return self.first(x) + self.op(x).sum()

    space = SimplifiedModelSpace.from_model(nni.trace(Deep)())
    builder = NetworkBuilder(space, 0)
    for width in range(1, 40):
        builder.network({'width': width, 'op': 0})
        assert len(builder._skeletons) <= builder.capacity
    assert not builder._skeletons  # no two had a structure in common: nothing is kept any more


def test_a_sample_that_is_none_of_the_space_is_refused_as_by_nni():
    space = SimplifiedModelSpace.from_model(Plain())
    builder = NetworkBuilder(space, 0)
    builder.network({'first': 0, 'second': 'a'})
    for wrong in ({'first': 0}, {'first': 7, 'second': 'a'}):
        with pytest.raises(Exception, match=r'first|second'):
            builder.network(wrong)
    assert isinstance(builder.network({'first': 2, 'second': 'a'}).first, nn.Identity)


def test_nni_is_left_as_it_was():
    create, current = LayerChoice.create_fixed_module, nni.mutable.frozen_context.current
    space = SimplifiedModelSpace.from_model(Plain())
    NetworkBuilder(space, 0).network({'first': 0, 'second': 'a'})
    with pytest.raises(Exception, match='second'):
        NetworkBuilder(space, 0).network({'first': 0})
    assert LayerChoice.create_fixed_module == create and nni.mutable.frozen_context.current is current


CHOICES = {label: mutable.values for label, mutable in NasBench201().simplify().items()}


@settings(max_examples=30)
@given(
    st.lists(
        st.fixed_dictionaries({label: st.sampled_from(values) for label, values in CHOICES.items()}), min_size=1, max_size=6
    )
)
def test_nas_bench_201(chosen):
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 8, 8)
    for sample in chosen:
        assert same(BUILDER.network(sample).train(), build_network(SMALL.freeze(sample), 5).train(), inputs)


SMALL = SimplifiedModelSpace.from_model(NasBench201(stem_out_channels=4, num_modules_per_stack=1))
BUILDER = NetworkBuilder(SMALL, 5)


def test_darts():
    space = SimplifiedModelSpace.from_model(DARTS(width=4, num_cells=3, dataset='cifar'))
    builder = NetworkBuilder(space, 5)
    random_state = np.random.RandomState(0)
    for _ in range(4):
        model = space.random(random_state=random_state)
        one, other = builder.network(model.sample), build_network(model, 5)
        assert same(one.eval(), other.eval(), torch.randn(1, 3, 16, 16))


def test_building_costs_next_to_nothing():
    space = SimplifiedModelSpace.from_model(NasBench201(num_modules_per_stack=2))
    builder = NetworkBuilder(space, 0)
    chosen = [dict(zip(CHOICES, values)) for values in itertools.islice(itertools.product(*CHOICES.values()), 0, None, 2000)]
    for sample in chosen:
        builder.network(sample)
    start = time.thread_time()
    for sample in chosen:
        builder.network(sample)
    built = time.thread_time() - start
    start = time.thread_time()
    for sample in chosen:
        build_network(space.freeze(sample), 0)
    assert built < (time.thread_time() - start) / 20
