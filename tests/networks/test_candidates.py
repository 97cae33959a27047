"""Candidates: their samples as texts, and their networks with the same weights wherever they are built."""

from __future__ import annotations

import random
from collections import Counter

import nni
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableConv2d, MutableLinear
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from torch import nn
from undisturbed import CLASSES, X, Y, assert_equal

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import ScoringError
from nni_knas.networks.candidates import architecture_of, decode_sample, encode_sample
from nni_knas.networks.construction import build_network

choices = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
nested = st.recursive(choices, lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner), st.just(())))
samples = st.dictionaries(st.text(max_size=5), nested, max_size=5)


@given(samples)
def test_samples_are_read_back_as_they_were_written(sample):
    text = encode_sample(sample)
    again = decode_sample(text)
    assert again == sample
    assert repr(again) == repr({key: sample[key] for key in again})  # 1, True and 1.0 are equal, but not the same
    assert encode_sample(dict(reversed(sample.items()))) == text


@given(samples, samples)
def test_different_samples_have_different_texts(first, second):
    same = repr(sorted(first.items(), key=lambda item: item[0])) == repr(sorted(second.items(), key=lambda item: item[0]))
    assert (encode_sample(first) == encode_sample(second)) == same


def test_numpy_scalars_become_numbers():
    sample = {'width': np.int64(8), 'rate': np.float64(0.5), 'wide': np.bool_(True), 'name': np.str_('a')}
    assert decode_sample(encode_sample(sample)) == {'width': 8, 'rate': 0.5, 'wide': True, 'name': 'a'}


@pytest.mark.parametrize('wrong', [nn.Linear(1, 1), {1, 2}, np.zeros(2), lambda: 1], ids=lambda wrong: type(wrong).__name__)
def test_choices_that_cannot_be_written(wrong):
    with pytest.raises(TypeError, match='choices have to be numbers, strings, booleans, None, or lists and tuples'):
        encode_sample({'op': wrong})


def test_architecture_is_the_sample_without_hyper_parameters():
    assert architecture_of({'a': 1, 'rate': 0.1}, {'rate'}) == {'a': 1}


@nni.trace
class Space(ModelSpace):
    def __init__(self):
        super().__init__()
        width = nni.choice('width', [4, 8])
        self.op = LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)], label='op')
        self.conv = MutableConv2d(3, width, 3)
        self.head = MutableLinear(width, CLASSES)

    def forward(self, x):
        return self.head(self.conv(self.op(x)).relu().mean((2, 3)))


def model(kind, sample):
    evaluator = FunctionalEvaluator(lambda network: 0)
    return kind.from_model(Space(), evaluator).freeze(sample)


SAMPLES = [{'width': width, 'op': op} for width in (4, 8) for op in (0, 1)]


@pytest.mark.parametrize('sample', SAMPLES, ids=str)
def test_weights_are_the_same_in_all_formats(sample):
    simplified = build_network(model(SimplifiedModelSpace, sample), 3).state_dict()
    raw = build_network(model(RawFormatModelSpace, sample), 3).state_dict()
    assert Counter(simplified.keys()) == Counter(raw.keys())
    assert_equal(dict(simplified), dict(raw))


@pytest.mark.parametrize('kind', [SimplifiedModelSpace, RawFormatModelSpace])
def test_weights_depend_on_seed_and_architecture_alone(kind):
    spaces = [kind.from_model(Space(), FunctionalEvaluator(lambda network: 0)) for _ in range(2)]
    torch.manual_seed(1)
    forth = [build_network(spaces[0].freeze(sample), 3) for sample in SAMPLES]
    torch.manual_seed(2)
    back = [build_network(spaces[1].freeze(sample), 3) for sample in reversed(SAMPLES)][::-1]
    for a, b in zip(forth, back):
        assert_equal(dict(a.state_dict()), dict(b.state_dict()))
    other = build_network(spaces[0].freeze(SAMPLES[0]), 4)
    assert not torch.equal(other.head.weight, forth[0].head.weight)
    assert not torch.equal(forth[0].op.weight, forth[1].op.weight)
    assert torch.equal(forth[0].head.weight, forth[1].head.weight)  # candidates that have a layer in common have its weights


def test_candidates_have_weights_of_their_own():
    space = RawFormatModelSpace.from_model(Space(), FunctionalEvaluator(lambda network: 0))
    first = build_network(space.freeze(SAMPLES[0]), 3)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    second = build_network(space.freeze(SAMPLES[0]), 3)
    with torch.no_grad():
        for p in second.parameters():
            p.add_(1)
    assert_equal(before, dict(first.state_dict()))


def test_building_leaves_the_random_state():
    frozen = model(SimplifiedModelSpace, SAMPLES[0])
    state = torch.get_rng_state(), random.getstate()
    build_network(frozen, 3)
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]


def test_score_as_an_evaluator_is_the_score_of_the_built_network():
    kernel = GradientKernelEvaluator((X.float(), Y), seed=3)
    frozen = SimplifiedModelSpace.from_model(Space(), kernel).freeze(SAMPLES[0])
    assert kernel._execute(frozen) == kernel.score(build_network(frozen, 3))


def test_lazy_layers_get_a_sentence():
    network = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(ScoringError, match='lazy layers that do not know their shapes'):
        GradientKernelEvaluator((torch.randn(4, 5), torch.randint(0, 3, (4,)))).score(network)
    network(torch.randn(4, 5))
    assert GradientKernelEvaluator((torch.randn(4, 5), torch.randint(0, 3, (4,)))).score(network) > 0
