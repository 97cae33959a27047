"""How two sentences interact, against loops over their tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.spaces.text_layers import MeanToken
from nni_knas.spaces.text_pairs import MATCHES, PAIRS, QUANTILES, SHARPNESS, RunningNorm, aligned_differences, sides_of

LENGTHS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4)


def pairs_of(lengths, apart, seed=0, width=5):
    """Random tokens of pairs of sentences, and the sentence of each: as an encoder gives them in one or apart."""
    torch.manual_seed(seed)
    longest = max(map(max if apart else sum, lengths))
    if apart:
        rows = [a for a, _ in lengths] + [b for _, b in lengths]
        sentence = torch.tensor([[1] * n + [0] * (longest - n) for n in rows])
    else:
        sentence = torch.tensor([[1] * a + [2] * b + [0] * (longest - a - b) for a, b in lengths])
    return torch.randn(*sentence.shape, width, dtype=torch.float64), sentence


def sentences_of(lengths, tokens, apart):
    """The tokens of the two sentences of each text, as numpy arrays."""
    n = len(lengths)
    for i, (a, b) in enumerate(lengths):
        yield (tokens[i, :a], tokens[i + n, :b]) if apart else (tokens[i, :a], tokens[i, a : a + b])


def cosine(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def difference(x, others):
    weights = np.array([math.exp(SHARPNESS * cosine(x, y)) for y in others])
    aligned = sum(w * y for w, y in zip(weights / weights.sum(), others))
    return (x - aligned).abs()


@pytest.mark.parametrize('apart', [False, True])
@settings(max_examples=25)
@given(lengths=LENGTHS, seed=st.integers(0, 999))
def test_aligned_differences_against_a_loop(apart, lengths, seed):
    tokens, sentence = pairs_of(lengths, apart, seed)
    sides = sides_of(tokens, sentence, apart)
    ours, theirs = aligned_differences(sides)
    for i, (one, other) in enumerate(sentences_of(lengths, tokens, apart)):
        torch.testing.assert_close(ours[i][sides.here[i]], torch.stack([difference(x, other) for x in one]))
        torch.testing.assert_close(theirs[i][sides.there[i]], torch.stack([difference(y, one) for y in other]))


@pytest.mark.parametrize('name', ['apart', 'align', 'apart-align'])
def test_pairs_that_are_encoded_apart(name):
    lengths = [(3, 5), (1, 2)]
    tokens, sentence = pairs_of(lengths, True)
    pair = PAIRS[name](5, 4, '').double()
    merged = pair(MeanToken(5), tokens, sentence)
    for i, (one, other) in enumerate(sentences_of(lengths, tokens, True)):
        u, v = one.mean(0), other.mean(0)
        compared = [u, v, (u - v).abs(), u * v]
        aligned = [
            torch.stack([difference(x, b) for x in a]).mean(0)  # of each sentence
            for a, b in ((one, other), (other, one))
        ]
        parts = {'apart': compared, 'align': aligned, 'apart-align': [*compared, *aligned]}[name]
        torch.testing.assert_close(merged[i], pair.merge(torch.cat(parts)))


def numbers_of(one, other):
    """The eleven numbers of one hidden state, by a loop."""
    ours = [max(cosine(x, y) for y in other) for x in one]
    theirs = [max(cosine(x, y) for x in one) for y in other]
    summaries = [[np.mean(values), *np.quantile(values, QUANTILES)] for values in (ours, theirs)]
    return [*summaries[0], *summaries[1], np.mean(ours) * np.mean(theirs)]


@pytest.mark.parametrize('apart', [False, True])
@settings(max_examples=25)
@given(lengths=LENGTHS, seed=st.integers(0, 999))
def test_matches_against_a_loop(apart, lengths, seed):
    given_states = [pairs_of(lengths, apart, seed + i) for i in range(3)]
    match = MATCHES['all'](2, 3).double().eval()
    sentence = given_states[0][1]
    logits = match(tuple(tokens for tokens, _ in given_states), sentence, apart)
    for i in range(len(lengths)):
        numbers = [
            number
            for tokens, _ in given_states[1:]  # the last two
            for number in numbers_of(*list(sentences_of(lengths, tokens, apart))[i])
        ]
        torch.testing.assert_close(logits[i], match.layers(torch.tensor(numbers)[None])[0], rtol=1e-5, atol=1e-7)


def test_nothing_is_added_where_matches_are_not_looked_at():
    tokens, sentence = pairs_of([(2, 3)], True)
    match = MATCHES['none'](7, 2)
    assert not list(match.parameters()) and match((tokens,), sentence, True) == 0


def test_a_running_norm_leaves_numbers_as_they_are_before_a_training():
    norm, x = RunningNorm(3), 5 + 2 * torch.randn(10, 3)
    torch.testing.assert_close(norm.eval()(x), x, rtol=1e-5, atol=1e-5)


def test_a_running_norm_goes_by_all_batches_so_far():
    torch.manual_seed(0)
    norm, batches = RunningNorm(3), [5 + 2 * torch.randn(64, 3) for _ in range(4)]
    for i, batch in enumerate(batches):
        seen = torch.stack(batches[: i + 1])
        expected = (batch - seen.mean((0, 1))) / (seen.var(1).mean(0) + norm.eps).sqrt()
        torch.testing.assert_close(norm.train()(batch), expected)
        torch.testing.assert_close(norm.eval()(batch), expected)  # the same in training as afterwards
    before = norm.running_mean.clone()
    norm.train()(torch.full((1, 3), 1e6))  # a single text has no deviation
    assert torch.equal(norm.running_mean, before)
    norm.reset_parameters()
    torch.testing.assert_close(norm.eval()(batches[0]), batches[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
def test_scoring_does_not_move_a_running_norm(normalization):
    torch.manual_seed(0)
    network = nn.Sequential(RunningNorm(3), nn.Linear(3, 2))
    network.train()(5 + torch.randn(64, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, y = 5 + torch.randn(8, 3), torch.arange(8) % 2
    kernel = GradientKernelEvaluator((x, y), 'mgm', normalization=normalization)
    network.eval()
    expected = torch.autograd.grad(nn.functional.cross_entropy(network(x), y), network[1].weight)[0]
    with kernel.gradients(network.train()) as gradients:
        torch.testing.assert_close(gradients.mean()['1.weight'], expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
