"""Networks of all kinds, with rectifiers and without, for the published scores, and how they are scored."""

from __future__ import annotations

import torch
from layers import Lambda
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import seeded

CLASSES = 5
LABELS = torch.tensor([0, 3, 1, 1, 4, 0])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 4, 3, padding=1, stride=2), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(36, CLASSES),
    )


def temporal():
    return nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), nn.ReLU(), nn.Flatten(), nn.Linear(40, CLASSES))


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.3, batch_first=True, activation=nn.ReLU())
    return Lambda(
        lambda encode, head, x: head(encode(x).mean(1)),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Linear(8, CLASSES),
    )


def recurrent():
    return Lambda(
        lambda layer, relu, head, x: head(relu(layer(x)[0])[:, -1]),
        nn.LSTM(8, 6, batch_first=True),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


def mlp():
    return nn.Sequential(
        nn.Linear(8, 30), nn.ReLU(), nn.BatchNorm1d(30), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, CLASSES)
    )


def of_tokens():
    def forward(words, places, hidden, relu, head, ids, mask):
        x = words(ids) + places(torch.arange(ids.shape[1]))
        return {'other': x, 'logits': head((relu(hidden(x)) * mask[..., None]).sum(1))}

    return Lambda(forward, nn.Embedding(20, 6), nn.Embedding(4, 6), nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, CLASSES))


def tokens():
    return {'ids': (normal(6, 4) * 100).long() % 20, 'mask': (normal(6, 4, seed=2) < 1).long()}


NETWORKS = {
    'convolutions': (convolutional, lambda: normal(6, 3, 6, 6)),
    'convolutions over time': (temporal, lambda: normal(6, 3, 10)),
    'transformer': (encoder, lambda: normal(6, 4, 8)),
    'LSTM': (recurrent, lambda: normal(6, 4, 8)),
    'fully connected': (mlp, lambda: normal(6, 8)),
    'tokens': (of_tokens, tokens),
}


def network_and_inputs(kind):
    build, inputs = NETWORKS[kind]
    with seeded(3):
        network = build().double()
        for module in network.modules():  # norms off their initial values
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return network, inputs()


def score(name, network, inputs, targets=LABELS, **arguments):
    return GradientKernelEvaluator((inputs, targets), name, **arguments).score(network)
