"""What the experiments that nnictl starts in the tests are made of; NNI copies this folder to its trials."""

from __future__ import annotations

import itertools
import os

import torch
from nni.nas.evaluator import Evaluator, FunctionalEvaluator
from spaces import TinySpace, train, vector_dataset, wait_at
from torch import nn

from nni_knas.data import Data

__all__ = ['GatedSpace', 'build', 'data', 'evaluator']

calls = itertools.count()


class GatedSpace(TinySpace):
    """TinySpace whose networks wait at a gate: so many are let through in a process."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wait_at(os.environ.get('KNAS_TEST_GATE'), next(calls))
        return super().forward(x)


def data() -> tuple[torch.utils.data.Dataset, torch.utils.data.Dataset]:
    return vector_dataset(), vector_dataset()


def evaluator(data: Data, log: str = os.devnull, gate: str | None = None) -> Evaluator:
    return FunctionalEvaluator(train, log=log, gate=gate)


def build(parameters: dict) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, parameters['width']), nn.Tanh(), nn.Dropout(parameters['dropout']), nn.Linear(parameters['width'], 3)
    )
