"""A space of two candidates that compute the same."""

from __future__ import annotations

import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from torch import nn


class SameTwice(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.middle = LayerChoice({'relu': nn.ReLU(), 'again': nn.ReLU()}, label='middle')
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.first(x)))
