"""Several networks in one pass have the gradients and traces that each has by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nni_knas.gradients import Apart, Fork, Gradients, Minibatch, pass_together, undisturbed
from nni_knas.gradients.layers import weight_gradients
from nni_knas.gradients.scoring_mode import ScoringMode

N = 3
IMAGES, LABELS = torch.randn(N, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2])


class Zeros(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class Twice(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))


class Rows(nn.Module):
    """Layers that see pixels as rows: several of a sample, or with a dimension of their own."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.linear, self.of_rows = (
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x):
        rows = self.linear(self.norm(x.movedim(1, -1)))
        return self.of_rows(rows.flatten(0, 2)).reshape(rows.shape).movedim(-1, 1)


def options(channels=4):
    return [
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=2, bias=False)),
        nn.Sequential(nn.BatchNorm2d(channels), nn.AvgPool2d(3, 1, 1)),
        nn.Identity(),
        nn.GroupNorm(2, channels),
        Twice(channels),
        Rows(channels),
    ]


def by_itself(net, minibatch):
    with undisturbed(net):
        gradients = Gradients(net, minibatch)
        gradients.tracing = True
        return {id(gradients.parameters[name]): g for name, g in gradients.mean().items()}, gradients.traces()


def together(net, minibatch, networks, **settings):
    with undisturbed(net):
        return pass_together(Gradients(net, minibatch, **settings), networks)


def alike(one, other, tolerance):
    mean, traces = one
    assert mean.keys() == other.mean.keys()
    size = sum(float(g.norm()) for g in mean.values())  # some are zero but for rounding: that of a bias before a BatchNorm
    assert all(close(mean[key], other.mean[key], tolerance, size) for key in mean)
    assert len(traces) == len(other.traces)
    for mine, its in zip(traces, other.traces):
        assert mine.units == its.units
        assert close(mine.features, its.features, tolerance)
        assert (mine.gradients is None) == (its.gradients is None)
        assert mine.gradients is None or close(mine.gradients, its.gradients, tolerance)
    return True


def close(a, b, tolerance, size=0.0):
    return a.shape == b.shape and (a - b).norm() <= tolerance * max(float(a.norm()), size, 1e-3)


choices = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(choices, st.booleans())
def test_each_has_what_it_has_by_itself(chosen, double):
    torch.manual_seed(len(chosen))
    firsts, seconds = options(), options()
    stem, norm, head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def row(first, second):
        """The second place stands twice."""
        return nn.Sequential(stem, norm, first, second, nn.ReLU(), second, nn.Flatten(), head)

    ways = Fork(firsts, [a for a, _ in chosen]), Fork(seconds, [b for _, b in chosen])
    dtype = torch.float64 if double else torch.float32
    minibatch = Minibatch(IMAGES.to(dtype), LABELS)
    shares = together(row(*ways).to(dtype), minibatch, len(chosen))
    for (a, b), share in zip(chosen, shares):
        assert alike(by_itself(row(firsts[a], seconds[b]).to(dtype), minibatch), share, 1e-10 if double else 1e-4)


def test_a_fork_in_a_fork():
    torch.manual_seed(0)
    inner, outer = options(), nn.Conv2d(4, 4, 1)
    fork = Fork([nn.Sequential(outer, Fork(inner, [1, 5, 6, 6])), nn.Identity()], [0, 1, 0, 0])
    tail = nn.AdaptiveAvgPool2d(2)
    shares = together(
        nn.Sequential(nn.Conv2d(3, 4, 1), fork, tail, nn.Flatten(), nn.Linear(16, 3)), Minibatch(IMAGES, LABELS), 4
    )
    assert id(outer.weight) not in shares[1].mean
    assert all(id(outer.weight) in shares[number].mean for number in (0, 2, 3))
    assert [len(share.traces) for share in shares] == [4, 2, 4, 4]
    assert torch.equal(shares[2].mean[id(outer.weight)], shares[3].mean[id(outer.weight)])


def test_what_is_frozen_has_no_gradient_and_stays_frozen():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Fork([nn.ReLU(), nn.Tanh()], [0, 1]), nn.Flatten(), nn.Linear(64, 3))
    net[0].requires_grad_(False)
    shares = together(net, Minibatch(IMAGES, LABELS), 2)
    assert all(share.mean.keys() == {id(net[3].weight), id(net[3].bias)} for share in shares)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_an_explosion_stays_with_its_network():
    class Explodes(nn.Module):
        def forward(self, x):
            return x * float('inf')

    head = nn.Linear(108, 3)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), Fork([nn.Identity(), Explodes()], [0, 1, 0]), nn.Flatten(), head)
    first, second, third = (share.mean[id(head.weight)] for share in together(net, Minibatch(IMAGES, LABELS), 3))
    assert torch.isfinite(first).all() and torch.equal(first, third) and not torch.isfinite(second).all()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x):
        rows = x.flatten(2).mT
        return self.attention(rows, rows, rows)[0].mT.reshape(x.shape)


class Turned(nn.Module):
    """Its choice is given channels first."""

    def __init__(self):
        super().__init__()
        self.fork = Fork([nn.Identity(), nn.Tanh()], [0, 1])

    def forward(self, x):
        return self.fork(x.transpose(0, 1)).transpose(0, 1)


class WritesOver(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        y = x + 1
        z = self.layer(y)
        y.mul_(2)
        return z


@pytest.mark.parametrize(
    ('middle', 'why'),
    [
        (Fork([nn.Identity(), Zeros()], [0, 1]), 'no gradient through'),
        (nn.Sequential(Attention(), Fork([nn.Identity(), nn.Tanh()], [0, 1])), 'than is known'),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode='circular'), 'than is known'),
        (Turned(), 'something else than samples'),
        (WritesOver(), 'written over'),
    ],
)
def test_what_cannot_be_shared_is_said(middle, why):
    with pytest.raises(Apart, match=why):
        together(nn.Sequential(nn.Conv2d(3, 3, 1), middle, nn.Flatten(), nn.Linear(108, 3)), Minibatch(IMAGES, LABELS), 2)


@pytest.mark.parametrize('settings', [{'normalization': 'batch'}, {'micro_batch': 2}])
def test_samples_that_are_coupled_or_in_parts_are_not_repeated(settings):
    with pytest.raises(Apart, match='coupled'):
        together(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)), Minibatch(IMAGES, LABELS), 2, **settings)


def test_what_is_no_number_has_no_gradient():
    with pytest.raises(Apart, match='no numbers'):
        together(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)), Minibatch((IMAGES > 0).float().long(), LABELS), 2)


@pytest.mark.parametrize(
    'layer', [nn.Conv1d(4, 6, 3, stride=2), nn.Conv2d(4, 6, 3, groups=2), nn.Linear(5, 2), nn.GroupNorm(2, 4)]
)
def test_weights_gradients_by_one_call_are_those_one_by_one(layer):
    """The one call is what a GPU is given."""
    shape = {nn.Conv2d: (5, 2, 4, 7, 7), nn.Conv1d: (5, 2, 4, 9)}.get(type(layer), (5, 2, 4, 5))
    inputs = torch.randn(*shape, dtype=torch.float64)
    layer.double()
    arrived = torch.stack([torch.randn_like(layer(part)) for part in inputs])
    with ScoringMode('sample', 2):
        pairs = zip(*(weight_gradients(layer, inputs, arrived, one_by_one=each) for each in (True, False)))
        for (p, one), (same, other) in pairs:
            assert p is same
            assert F.l1_loss(one, other) < 1e-12
