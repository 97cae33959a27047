"""FlexiBERT's layers against other ways to compute the same, and its number of parameters against the table's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft
from torch import nn

from nni_knas.benchmark.spaces import flexibert
from nni_knas.benchmark.spaces.flexibert import FlexiBert
from nni_knas.benchmark.spaces.flexibert_layers import FeedForward, Residual, mixing

HIDDEN, HEADS, LENGTH = 8, 2, 5


@pytest.fixture(autouse=True)
def doubles():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def states_of(length=LENGTH, there=(5, 3)):
    """Random states, and which tokens are there."""
    return torch.randn(len(there), length, HIDDEN), torch.arange(length)[None] < torch.tensor(there)[:, None]


def heads_of(states, heads=HEADS):
    return np.stack(np.split(states.detach().numpy(), heads, axis=-1), axis=1)


def joined(heads):
    return np.concatenate(list(np.moveaxis(heads, 1, 0)), axis=-1)


def count(network):
    return sum(p.numel() for p in network.parameters())


def by_hand(query, key, value, there):
    """Attention of each head, token by token."""
    outputs = np.zeros_like(value)
    for n, head, token in np.ndindex(*value.shape[:3]):
        weights = np.exp(query[n, head, token] @ key[n, head].T / np.sqrt(query.shape[-1])) * there[n].numpy()
        outputs[n, head, token] = weights / weights.sum() @ value[n, head]
    return outputs


class TestTransforms:
    def test_cosine(self):
        """The transform of SciPy, over tokens and over the width of each head."""
        mix, (states, there) = mixing('LT', 'DCT', HIDDEN, HEADS), states_of()
        heads = heads_of(mix.linear(states))
        expected = joined(fft.dct(fft.dct(heads, axis=-1), axis=-2))
        assert np.allclose(mix(states, there).detach(), expected)

    def test_fourier(self):
        mix, (states, there) = mixing('LT', 'DFT', HIDDEN, HEADS), states_of()
        expected = joined(np.fft.fft2(heads_of(mix.linear(states)), axes=(-2, -1)).real)
        assert np.allclose(mix(states, there).detach(), expected)

    @pytest.mark.parametrize('kind', ['DCT', 'DFT'])
    def test_heads_do_not_mix(self, kind):
        mix, (states, there) = mixing('LT', kind, HIDDEN, HEADS), states_of()
        nn.init.eye_(mix.linear.weight)
        changed = states.clone()
        changed[..., HIDDEN // HEADS :] += 1
        first, second = (mix(each, there)[..., : HIDDEN // HEADS] for each in (states, changed))
        assert torch.equal(first, second)


class TestAttention:
    @pytest.mark.parametrize('parameter', ['SDP', 'WMA'])
    def test_by_hand(self, parameter):
        layer, (states, there) = mixing('SA', parameter, HIDDEN, HEADS), states_of()
        mix = layer.mix
        query = mix.weight(mix.query(states))
        mixed = torch.tensor(joined(by_hand(*map(heads_of, (query, mix.key(states), mix.value(states))), there)))
        assert torch.allclose(mix(states, there), mixed)
        assert torch.allclose(layer(states, there), layer.norm(states + layer.dense(mixed)))

    def test_one_more_matrix(self):
        plain, weighted = (mixing('SA', parameter, HIDDEN, HEADS) for parameter in ('SDP', 'WMA'))
        assert count(weighted) - count(plain) == HIDDEN**2
        assert count(plain) == 4 * (HIDDEN**2 + HIDDEN) + 2 * HIDDEN


class TestSpanConvolution:
    @pytest.mark.parametrize('span', [1, 3, 5])
    def test_by_loops(self, span):
        heads, width = 4, HIDDEN // 4
        mix, (states, there) = mixing('DSC', str(span), HIDDEN, heads).mix, states_of()
        query, key, value, values = (
            heads_of(layer(states), heads // 2) for layer in (mix.query, mix.key, mix.value, mix.values)
        )
        spans = np.zeros(states.shape)
        kernel = mix.depthwise.weight.detach().numpy()
        for n, token, place in np.ndindex(*states.shape[:2], span):
            if 0 <= (other := token + place - span // 2) < LENGTH:
                spans[n, token] += kernel[:, 0, place] * states[n, other].numpy()
        pointwise = spans @ mix.pointwise.weight.detach().numpy()[..., 0].T + mix.pointwise.bias.detach().numpy()
        kernels = mix.kernels(torch.tensor(pointwise) * mix.query(states)).detach().numpy()
        convolved = np.zeros((len(states), heads // 2, LENGTH, width))
        for n, head, token in np.ndindex(*convolved.shape[:3]):
            weights = np.exp(kernels[n, token, head * span : (head + 1) * span])
            for place, weight in enumerate(weights / weights.sum()):
                if 0 <= (other := token + place - span // 2) < LENGTH:
                    convolved[n, head, token] += weight * values[n, head, other]
        attended = by_hand(query, key, value, there)
        assert np.allclose(mix(states, there).detach(), np.concatenate([joined(attended), joined(convolved)], axis=-1))


class TestNetwork:
    def tokens(self, length):
        ids, sentences = torch.zeros(2, length, dtype=torch.long), torch.zeros(2, length, dtype=torch.long)
        ids[:, :4] = torch.tensor([[101, 7, 8, 102], [101, 9, 10, 11]])
        sentences[:, :4] = torch.tensor([[1, 1, 2, 2], [1, 1, 1, 1]])
        return torch.stack([ids, sentences], dim=1)

    def test_padding(self):
        """Attention is the same however long the longest text of the minibatch is."""
        network = FlexiBert('8|SA:SDP:h2:f16x1;SA:WMA:h4:f8x3', 3).double()
        for p in network.parameters():
            nn.init.normal_(p)
        outputs = network(self.tokens(4))
        assert outputs.shape == (2, 3) and torch.allclose(outputs, network(self.tokens(9)))
        assert not torch.allclose(outputs[0], outputs[1])

    def test_reads_all_there_is(self):
        """Words, their places, and which sentence they are in."""
        network = FlexiBert('8|SA:SDP:h2:f16x1', 3)
        tokens = self.tokens(4)
        others = [tokens.clone() for _ in range(3)]
        others[0][0, 0, 2] = 9
        others[1][0, 0, 1:3] = torch.tensor([8, 7])
        others[2][0, 1, 2] = 1
        for other in others:
            assert not torch.equal(network(tokens)[0], network(other)[0])
            assert torch.equal(network(tokens)[1], network(other)[1])

    def test_feed_forward(self):
        layers = FeedForward(8, 12, 3)
        assert [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)] == [
            *[(8, 12), (12, 12), (12, 12), (12, 8)]
        ]
        assert sum(isinstance(m, nn.GELU) for m in layers) == 3
        states, around = torch.randn(2, 8), Residual(layers, 8)
        assert torch.allclose(around(states), around.norm(states + layers(states)))

    def test_initial_weights(self):
        """BERT's."""
        network = FlexiBert('16|SA:WMA:h2:f8x1;DSC:3:h2:f8x1;LT:DCT:h2:f8x1', 3)
        assert network.words.weight.std().item() == pytest.approx(0.02, rel=0.01)
        biases = [p for name, p in network.named_parameters() if name.endswith('bias')]
        assert biases and not any(p.any() for p in biases)

    def test_parameters_of_the_real_rows(self, data_dir):
        """All but the classifier, which the table does not count."""
        benchmark = flexibert(str(data_dir / 'tables' / 'flexibert.csv'))
        assert len(benchmark.table) > 200 and set(benchmark.table.depth) == {2, 4}
        operations = set()
        for architecture in benchmark.table.index[::12]:
            operations.update(layer[:6] for layer in architecture.split('|')[1].split(';'))
            network = benchmark.network(architecture, 0)
            assert count(network) - count(network.classifier) == benchmark.table.params[architecture]
        assert len(operations) == 6
