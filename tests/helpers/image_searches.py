"""What searches on images are made of, and what is compared of them."""

from __future__ import annotations

import torch
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from spaces import BadLayer
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import COSTS

IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def image_kernel(classes=10, images=IMAGES, **options):
    return GradientKernelEvaluator((images, torch.arange(len(images)) % classes), **options)


def cells():
    return NasBench201(num_labels=10, stem_out_channels=4, num_modules_per_stack=1)


def without_times(strategy):
    """All of the candidates, panels too, but for times, and for costs, which are measured as far as the time suffices."""
    times = ['seconds', 'training_seconds', 'training_kwh', *COSTS]
    return strategy.scores(all=True, panel=True).drop(columns=times)


def by_candidate(strategy):
    return strategy.scores(all=True).set_index('candidate').sort_index()


class Choosy(nn.Module):
    """A layer that takes images of some sizes alone, and multiplies them."""

    def __init__(self, least, most, times=1.0):
        super().__init__()
        self.least, self.most, self.times = least, most, times

    def forward(self, x):
        if not self.least <= x.shape[-1] <= self.most:
            raise RuntimeError(f'no images of {x.shape[-1]} pixels, please')
        return self.times * x


class Faulty(ModelSpace):
    """Some of its 192 architectures fail always, some for small images, some for large ones."""

    def __init__(self):
        super().__init__()
        self.first = LayerChoice(
            [nn.Conv2d(3, 4, size, padding=size // 2, bias=bias) for size in (1, 3, 5, 7) for bias in (False, True)],
            label='first',
        )
        self.middle = LayerChoice(
            {
                'relu': nn.ReLU(),
                'tanh': nn.Tanh(),
                'elu': nn.ELU(),
                'gelu': nn.GELU(),
                'raises': BadLayer('raises'),
                'nan': BadLayer('nan'),
                'only large': Choosy(32, 99),
                'only small': Choosy(1, 16, 0.1),
            },
            label='middle',
        )
        self.last = LayerChoice(
            [nn.Linear(4, 3), nn.Linear(4, 3, bias=False), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))], label='last'
        )

    def forward(self, x):
        return self.last(self.middle(self.first(x)).mean((2, 3)))
