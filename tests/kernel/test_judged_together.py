"""Candidates judged together have the judgements that each has by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from spaces import FaultySpace, Many, TinySpace, vectors
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import SCORES
from nni_knas.kernel import Judgement, Together, together
from nni_knas.networks import NetworkBuilder
from nni_knas.scores import get_score

IMAGES = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3


class Cells(NasBench201):
    def __init__(self):
        super().__init__(stem_out_channels=4, num_modules_per_stack=1, num_labels=3)


class Nested(ModelSpace):
    """A choice within an option of another, one label that is used twice, and layers of several kinds."""

    def __init__(self):
        super().__init__()
        inner = LayerChoice([nn.Linear(6, 6), nn.LayerNorm(6), nn.Identity()], label='inner')
        self.outer = LayerChoice([nn.Sequential(nn.Linear(6, 6), inner), nn.ReLU()], label='outer')
        self.again = LayerChoice([nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6)], label='outer')
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.again(self.outer(x)))


class Coupled(nn.Module):
    def forward(self, x):
        return x - 0.5 * x.mean(0)


class Coupling(ModelSpace):
    """One of its options looks at all samples."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = LayerChoice([nn.ReLU(), nn.Tanh(), nn.Sigmoid()], label='second')
        self.third = LayerChoice([nn.ReLU(), Coupled()], label='third')
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.third(self.second(self.first(x))))


def setting(space, data, most=8, double=False, **options):
    kernel = GradientKernelEvaluator(data, batch_size=6, device='cpu', together=most, **options)
    builder = NetworkBuilder(SimplifiedModelSpace.from_model(space()), 0, prepare=nn.Module.double if double else None)
    return kernel, builder


def judged(kernel, builder, samples):
    for sample in samples:
        builder.network(sample)
    return Together(kernel, builder).judge(samples)


def alone(kernel, builder, samples):
    return [kernel.judge(builder.network(sample)) for sample in samples]


def drawn(space, count):
    space = SimplifiedModelSpace.from_model(space())
    random_state = np.random.RandomState(count)
    return [dict(space.random(random_state=random_state).sample) for _ in range(count)]


def same(one: Judgement, other: Judgement, tolerance):
    if isinstance(one.score, Exception):
        return (type(one.score), str(one.score)) == (type(other.score), str(other.score))
    numbers, others = {'': one.score, **one.panel}, {'': other.score, **other.panel}
    return numbers.keys() == others.keys() and all(
        math.isclose(numbers[name], others[name], rel_tol=tolerance, abs_tol=tolerance) for name in numbers
    )


@pytest.fixture
def passes(monkeypatch):
    """How many networks went through each shared pass."""
    seen = []

    def counted(gradients, networks):
        seen.append(networks)
        return shared(gradients, networks)

    shared = together.pass_together
    monkeypatch.setattr(together, 'pass_together', counted)
    return seen


SPACES = [(Cells, IMAGES), (Nested, vectors()), (Many, vectors()), (TinySpace, vectors())]


@pytest.mark.parametrize(('space', 'data'), SPACES)
@settings(max_examples=6, deadline=None)
@given(count=st.integers(1, 12), most=st.integers(2, 8), double=st.booleans(), seed=st.integers(0, 99))
def test_score_and_panel_are_those_by_itself(space, data, count, most, double, seed):
    kernel, builder = setting(space, data, most, double, seed=seed)
    samples = drawn(space, count)
    pairs = zip(judged(kernel, builder, samples), alone(kernel, builder, samples))
    assert all(same(one, other, 1e-9 if double else 1e-4) for one, other in pairs)


def test_they_do_share_passes(passes):
    kernel, builder = setting(Cells, IMAGES, 4)
    judged(kernel, builder, drawn(Cells, 10))
    assert passes == [4, 4, 2]


@pytest.mark.parametrize('score', SCORES)
def test_every_score_is_that_by_itself(score):
    """Those that need passes of their own take them by themselves."""
    if get_score(score).least_samples > 6:
        pytest.skip('it needs more samples')
    kernel, builder = setting(Cells, IMAGES, score=score)
    samples = drawn(Cells, 3)
    pairs = zip(judged(kernel, builder, samples), alone(kernel, builder, samples))
    assert all(same(one, other, 1e-4) for one, other in pairs)


def test_the_failure_of_one_is_its_own(passes):
    kernel, builder = setting(FaultySpace, vectors())
    samples = [
        {'middle': middle, 'last': i % 3}
        for i, middle in enumerate(['relu', 'raises', 'identity', 'nan', 'relu', 'misfit', 'identity', 'relu'])
    ]
    found, expected = judged(kernel, builder, samples), alone(kernel, builder, samples)
    assert all(same(one, other, 1e-4) for one, other in zip(found, expected))
    assert [isinstance(each.score, Exception) for each in found] == [False, True, False, True, False, True, False, False]
    assert passes == [8, 4, 2, 2, 4, 2, 2]


def test_an_option_that_couples_samples_is_seen_and_kept_apart():
    kernel, builder = setting(Coupling, vectors())
    samples = [{'second': second, 'third': third} for third in (0, 1) for second in (0, 1, 2)]
    found, expected = judged(kernel, builder, samples), alone(kernel, builder, samples)
    assert all(same(one, other, 1e-4) for one, other in zip(found, expected))
    assert found[3:] == expected[3:]


class CoupledThroughout(Coupling):
    def forward(self, x):
        x = self.second(self.first(x))
        return self.last(self.third(x + x.mean(0)))


def test_where_all_couple_samples_passes_are_no_longer_shared(passes):
    kernel, builder = setting(CoupledThroughout, vectors(), 4)
    samples = [{'second': number % 3, 'third': 0} for number in range(20)]
    assert judged(kernel, builder, samples) == alone(kernel, builder, samples)
    assert passes == [4, 4, 4]


@pytest.mark.parametrize('options', [{'normalization': 'batch'}, {'micro_batch': 2}])
def test_a_kernel_that_cannot_share_judges_each_by_itself(options):
    kernel, builder = setting(Cells, IMAGES, **options)
    samples = drawn(Cells, 3)
    assert judged(kernel, builder, samples) == alone(kernel, builder, samples)


def test_where_memory_runs_out_fewer_share_a_pass(monkeypatch, passes):
    def limited(gradients, networks):
        counted = together_before(gradients, networks)
        if networks > 2:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return counted

    together_before = together.pass_together
    monkeypatch.setattr(together, 'pass_together', limited)
    kernel, builder = setting(Many, vectors(), 8)
    samples = drawn(Many, 16)
    pairs = zip(judged(kernel, builder, samples), alone(kernel, builder, samples))
    assert all(same(one, other, 1e-4) for one, other in pairs)
    assert passes == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]


def test_nothing_is_left_of_it():
    kernel, builder = setting(Cells, IMAGES)
    samples = drawn(Cells, 4)
    before = [{name: value.clone() for name, value in builder.network(sample).state_dict().items()} for sample in samples]
    state = torch.get_rng_state()
    judged(kernel, builder, samples)
    assert torch.equal(torch.get_rng_state(), state)
    for sample, values in zip(samples, before):
        network = builder.network(sample)
        assert network.state_dict().keys() == values.keys()
        assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in network.parameters())
        assert not any(module._forward_hooks for module in network.modules())


def test_how_many_is_said_by_the_settings():
    assert setting(Cells, IMAGES, 8)[0].settings()['together'] == 8
    assert 'together' not in setting(Cells, IMAGES, 1)[0].settings()
    with pytest.raises(ValueError, match='together is 0: it has to be a number of candidates, 1 or more'):
        setting(Cells, IMAGES, 0)
