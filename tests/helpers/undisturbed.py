"""Whether networks are left as they were found, and small ones with a minibatch."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import torch
from torch import nn

from nni_knas.gradients import seeded

SCORES = ['mgm', 'mgm-sampled', 'half-covariance']
CLASSES = 5
X = torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 4, 2, 1, 3, 2])


def small_network(dtype=torch.float64):
    with seeded(1):
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, CLASSES)).to(
            dtype
        )


class Everything(nn.Module):
    """Has all that scoring could disturb."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.frozen_norm = nn.BatchNorm2d(8, momentum=None)
        self.instance = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.normed = nn.utils.parametrizations.spectral_norm(nn.Linear(128, 16))
        self.table = nn.Embedding(10, 16, max_norm=0.1)
        self.drop = nn.Dropout(0.5)
        self.shared = nn.Linear(16, 16)
        self.head = nn.Linear(16, CLASSES)
        self.unused = nn.Parameter(torch.randn(60))
        self.register_buffer('steps', torch.zeros(3))
        self.register_buffer('replaced', torch.ones(2))
        self.register_buffer('nothing', None)
        self.register_buffer('not_saved', torch.ones(2), persistent=False)

    def forward(self, x):
        self.steps += 1
        self.not_saved.mul_(2)
        self.replaced = self.replaced * 3
        self.nothing = torch.ones(1)
        x = self.instance(self.frozen_norm(self.norm(self.conv(x)))).relu().flatten(1)
        x = self.normed(x) + self.table(torch.arange(x.shape[-1] % 10, 10)).sum(0)
        x = self.drop(self.shared(self.shared(x).tanh()))
        noise = torch.rand(()) + np.random.rand() + random.random()
        return self.head(x) * (1 + 0 * noise)


def everything():
    with seeded(7):
        network = Everything().double()
        network.train()
        network.frozen_norm.eval()
        network.drop.eval()
        network.normed.eval()
        network.conv.bias.requires_grad = False
        network.head.bias.requires_grad = False
        for p in list(network.parameters())[::2]:
            p.grad = torch.randn_like(p)
    return network


def photograph(network):
    """All that may not change: objects by their identity, tensors by their values, too."""
    tensors = dict(network.named_parameters(remove_duplicate=False))
    buffers = {
        f'{path}.{name}': buffer for path, module in network.named_modules() for name, buffer in module._buffers.items()
    }
    return {
        'objects': {name: id(t) for name, t in {**tensors, **buffers}.items()},
        'values': {name: t if t is None else t.detach().clone() for name, t in {**tensors, **buffers}.items()},
        'types': {name: (type(t), t.dtype, t.requires_grad, t.is_leaf) for name, t in tensors.items()},
        'grads': {name: (id(p.grad), p.grad if p.grad is None else p.grad.clone()) for name, p in tensors.items()},
        'modes': {name: module.training for name, module in network.named_modules()},
        'hooks': {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in network.named_modules()},
        'random': (torch.get_rng_state(), np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate()),
        'torch': (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.enabled,
        ),
    }


@contextlib.contextmanager
def assert_undisturbed(network):
    before = photograph(network)
    yield
    after = photograph(network)
    for part in before:
        assert_equal(before[part], after[part])


def assert_equal(a, b):
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_equal(x, y)
    else:
        assert a == b
