"""Candidates are told apart by what their networks compute."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from spaces import FaultySpace, TinySpace
from torch import nn

from nni_knas.gradients import Minibatch
from nni_knas.networks.identity import Identity

NONE, SKIP, CONV1, CONV3, POOL = OPS = ['none', 'skip_connect', 'conv_1x1', 'conv_3x3', 'avg_pool_3x3']

EDGES = ['cell/0_1', 'cell/0_2', 'cell/1_2', 'cell/0_3', 'cell/1_3', 'cell/2_3']
NAS_BENCH_201 = Identity(
    SimplifiedModelSpace.from_model(NasBench201(stem_out_channels=4, num_modules_per_stack=1)),
    Minibatch(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2)),
)


def fingerprint(*ops):
    return NAS_BENCH_201.fingerprint(dict(zip(EDGES, ops)))


def terms(ops):
    """What a cell computes, as a sorted sum: zeros left out, identities passed through, by the definition of the space."""
    chosen, nodes = dict(zip(EDGES, ops)), [(('in', ()),)]
    for node in (1, 2, 3):
        total = []
        for source in range(node):
            op = chosen[f'cell/{source}_{node}']
            if op == 'skip_connect':
                total += nodes[source]
            elif op != 'none' and nodes[source]:
                total.append((op, nodes[source]))
        nodes.append(tuple(sorted(total)))
    return nodes[3]


def shared(ops):
    """Whether a layer's output is used in two ways, which the sum of terms does not tell from two layers."""
    chosen = dict(zip(EDGES, ops))
    return sum(chosen[f'cell/1_{node}'] != 'none' for node in (2, 3)) > 1


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        # An edge to a node that leads nowhere, or from a node that gets nothing.
        ((NONE, CONV1, NONE, CONV3, NONE, NONE), (NONE, NONE, NONE, CONV3, NONE, NONE)),
        ((NONE, NONE, CONV3, SKIP, NONE, CONV1), (NONE, NONE, NONE, SKIP, NONE, NONE)),
        # The same path through another node.
        ((CONV3, NONE, NONE, NONE, SKIP, NONE), (NONE, CONV3, NONE, NONE, NONE, SKIP)),
        ((CONV3, NONE, NONE, NONE, SKIP, NONE), (NONE, NONE, NONE, CONV3, NONE, NONE)),
        ((SKIP, NONE, CONV1, NONE, NONE, CONV3), (CONV1, NONE, CONV3, NONE, NONE, SKIP)),
    ],
    ids=['leads nowhere', 'gets nothing', 'node 1 or 2', 'direct', 'places of two layers'],
)
def test_the_same_network(one, other):
    assert fingerprint(*one) == fingerprint(*other)


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ((CONV3, NONE, NONE, NONE, SKIP, NONE), (CONV1, NONE, NONE, NONE, SKIP, NONE)),
        ((CONV1, NONE, NONE, NONE, CONV3, NONE), (CONV3, NONE, NONE, NONE, CONV1, NONE)),
        ((NONE, NONE, NONE, SKIP, NONE, NONE), (NONE, NONE, NONE, POOL, NONE, NONE)),
        # One layer's output twice, or two layers of one kind: not the same function of the weights.
        ((CONV3, NONE, SKIP, NONE, SKIP, SKIP), (CONV3, CONV3, NONE, NONE, SKIP, SKIP)),
        ((NONE, NONE, NONE, CONV3, NONE, NONE), (SKIP, NONE, NONE, CONV3, CONV3, NONE)),
    ],
    ids=['another layer', 'another order', 'pooling', 'shared or two', 'one or two'],
)
def test_different_networks(one, other):
    assert fingerprint(*one) != fingerprint(*other)


architectures = st.tuples(*[st.sampled_from(OPS)] * 6)


@settings(max_examples=150)
@given(architectures, st.permutations([1, 2]), architectures)
def test_as_the_definition_of_the_space_has_it(one, order, other):
    if not shared(one) and not shared(other):
        assert (fingerprint(*one) == fingerprint(*other)) == (terms(one) == terms(other))


def test_pairs_that_compute_the_same_are_found():
    """Of the architectures with two kinds of layers, all that are the same, and no others."""
    by_terms: dict = {}
    for ops in itertools.product(['none', 'skip_connect', 'conv_1x1'], repeat=6):
        if not shared(ops):
            by_terms.setdefault(terms(ops), set()).add(fingerprint(*ops))
    assert all(len(fingerprints) == 1 for fingerprints in by_terms.values())
    assert len({next(iter(fingerprints)) for fingerprints in by_terms.values()}) == len(by_terms)
    assert len(by_terms) < 100


def test_widths_and_functions_tell_networks_apart():
    identity = Identity(SimplifiedModelSpace.from_model(TinySpace()), Minibatch(torch.randn(3, 6), torch.zeros(3)))
    found = {
        identity.fingerprint({'width': width, 'inner': inner, 'outer': outer})
        for width in (4, 8, 16)
        for inner in ('relu', 'tanh', 'sigmoid')
        for outer in ('relu', 'tanh', 'sigmoid')
    }
    # relu after relu is relu, and so it is after a sigmoid.
    assert len(found) == 27 - 3


def test_networks_that_fail_have_none():
    identity = Identity(SimplifiedModelSpace.from_model(FaultySpace()), Minibatch(torch.randn(3, 6), torch.zeros(3)))
    assert identity.fingerprint({'middle': 'raises', 'last': 0}) is None
    assert identity.fingerprint({'middle': 'identity', 'last': 0}) is not None
    same = [identity.fingerprint({'middle': 'identity', 'last': last}) for last in (0, 1)]
    assert same[0] == same[1] != identity.fingerprint({'middle': 'relu', 'last': 1})


def test_scale_is_told_apart_behind_a_normalisation():
    class Doubling(ModelSpace):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.times = LayerChoice([nn.Identity(), Twice()], label='times')
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(self.times(self.first(x))).mean((2, 3))

    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    identity = Identity(SimplifiedModelSpace.from_model(Doubling()), Minibatch(torch.randn(3, 3, 8, 8), torch.zeros(3)))
    assert identity.fingerprint({'times': 0}) != identity.fingerprint({'times': 1})


def test_outputs_that_are_not_finite_tell_nothing():
    class Exploding(ModelSpace):
        def __init__(self):
            super().__init__()
            self.op = LayerChoice([Logarithm(), Root()], label='op')
            self.last = nn.Linear(6, 3)

        def forward(self, x):
            return self.last(self.op(x))

    class Logarithm(nn.Module):
        def forward(self, x):
            return torch.log(-x.abs())

    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(-1 - x.abs())

    identity = Identity(SimplifiedModelSpace.from_model(Exploding()), Minibatch(torch.randn(3, 6), torch.zeros(3)))
    assert identity.fingerprint({'op': 0}) is None is identity.fingerprint({'op': 1})


def test_images_are_compared_at_their_own_size():
    class Resizing(ModelSpace):
        def __init__(self):
            super().__init__()
            self.op = LayerChoice([nn.Identity(), nn.AdaptiveAvgPool2d(16)], label='op')
            self.conv = nn.Conv2d(3, 4, 3, stride=2)

        def forward(self, x):
            return self.conv(self.op(x)).mean((2, 3))

    identity = Identity(SimplifiedModelSpace.from_model(Resizing()), Minibatch(torch.randn(3, 3, 32, 32), torch.zeros(3)))
    assert identity.fingerprint({'op': 0}) != identity.fingerprint({'op': 1})
