"""Networks of many kinds of layers for the tests of gradients, and how they are compared with the reference."""

from __future__ import annotations

import pytest
import reference
import torch
from torch import nn
from torch.nn import functional as F

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import Gradients, seeded

CLASSES = 5
SCORES = sorted(reference.SCORES)
NORMALIZATIONS = ['sample', 'batch']


def batch_of(n, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, *shape, generator=generator, dtype=torch.float64),
        torch.randint(0, CLASSES, (n,), generator=generator),
    )


def kernel_of(x, y, score='mgm', **arguments):
    return GradientKernelEvaluator((x, y), score, **arguments)


def gradients_of(network, x, y, **arguments):
    kernel = kernel_of(x, y, **arguments)
    return Gradients(network, kernel.minibatch, normalization=kernel.normalization)


def assert_reference(network, x, y, normalization='sample', loss=None, scores=SCORES):
    """All scores of the network are the reference's, to 1e-6."""
    for name in scores:
        expected = reference.SCORES[name](network, x, y, loss=loss, normalization=normalization)
        score = kernel_of(x, y, name, loss=loss, normalization=normalization).score(network)
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-13), name


def convolutional(norm=nn.BatchNorm2d):
    with seeded(3):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            norm(6),
            nn.Tanh(),
            nn.Conv2d(6, 6, 3),
            norm(6),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(24, CLASSES),
        ).double()


class Lambda(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, *arguments, **keywords):
        return self.function(*self.parts, *arguments, **keywords)


def attention():
    return Lambda(
        lambda attend, head, x: head(attend(x, x, x, need_weights=False)[0].mean(1)),
        nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True),
        nn.Linear(8, CLASSES),
    )


def attention_with_weights():
    return Lambda(
        lambda attend, head, x: head(attend(x, x, x)[0].mean(1)),
        nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True),
        nn.Linear(8, CLASSES),
    )


def encoder(norm_first=False):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True, norm_first=norm_first)
    return Lambda(
        lambda encode, head, x: head(encode(x)[:, 0]),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Linear(8, CLASSES),
    )


def scaled_attention():
    def forward(project, head, x):
        q, k, v = project(x).chunk(3, -1)
        return head(F.scaled_dot_product_attention(q, k, v).mean(1))

    return Lambda(forward, nn.Linear(8, 24), nn.Linear(8, CLASSES))


def recurrent(kind):
    return Lambda(
        lambda layer, head, x: head(layer(x)[0][:, -1]),
        kind(8, 10, num_layers=2, dropout=0.5, batch_first=True),
        nn.Linear(10, CLASSES),
    )


def branching():
    def forward(first, second, head, x):  # which layer depends on the data: no function transform can follow this
        rows = [(first if float(row.sum()) > 0 else second)(row) for row in x.mean(1)]
        return head(torch.stack(rows).tanh())

    return Lambda(forward, nn.Linear(8, 10), nn.Linear(8, 10), nn.Linear(10, CLASSES))


SEQUENCE_NETWORKS = {
    'attention': attention,
    'attention with weights': attention_with_weights,
    'encoder': encoder,
    'encoder, norm first': lambda: encoder(norm_first=True),
    'scaled dot product': scaled_attention,
    'LSTM': lambda: recurrent(nn.LSTM),
    'GRU': lambda: recurrent(nn.GRU),
    'RNN': lambda: recurrent(nn.RNN),
    'without parameters': lambda: Lambda(
        lambda pool, flat, head, x: head(flat(pool(x))), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(20, CLASSES)
    ),
    'conv and norm over time': lambda: Lambda(
        lambda conv, norm, head, x: head(norm(conv(x)).tanh().mean(2)),
        nn.Conv1d(5, 8, 3),
        nn.BatchNorm1d(8),
        nn.Linear(8, CLASSES),
    ),
    'norm and recurrence': lambda: Lambda(
        lambda norm, layer, head, x: head(layer(norm(x))[0][:, -1]),
        nn.BatchNorm1d(5),
        nn.LSTM(8, 6, batch_first=True),
        nn.Linear(6, CLASSES),
    ),
}


def two_layers(function):
    with seeded(4):
        return Lambda(function, nn.Linear(8, 10), nn.Linear(10, CLASSES)).double()


OUTPUTS = {
    'tensor': lambda main, other: main,
    'tuple': lambda main, other: (main, other),
    'list': lambda main, other: [main, other],
    'logits last': lambda main, other: {'hidden': other, 'logits': main},
    'tuple of dict': lambda main, other: ({'logits': main}, other),
}


def physical_size(x):
    """Number of samples that a tensor holds, those that a function transform hides included."""
    values = x.numel() // len(x)
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.numel() // values


class Limited(nn.Module):
    """A network that runs out of memory with more than some number of samples."""

    def __init__(self, network, limit, error):
        super().__init__()
        self.network, self.limit, self.error = network, limit, error
        self.sizes = []

    def forward(self, x):
        self.sizes.append(physical_size(x))
        if self.sizes[-1] > self.limit:
            raise self.error
        return self.network(x)
