"""What the experiments that nnictl starts in the tests are made of; NNI copies this folder to its trials."""

from __future__ import annotations

import os
import time

import nni
import torch
from nni.nas.evaluator import Evaluator, FunctionalEvaluator
from spaces import TinySpace, lines, train, vector_dataset, write_line
from torch import nn

from nni_knas.data import Data

__all__ = ['SlowSpace', 'build', 'data', 'evaluator', 'lines']


class SlowSpace(TinySpace):
    """TinySpace whose networks take their time, and leave a line for each that is built."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(float(os.environ.get('KNAS_TEST_PAUSE', 0)))
        return super().forward(x)


def data() -> tuple[torch.utils.data.Dataset, torch.utils.data.Dataset]:
    return vector_dataset(), vector_dataset()


def evaluator(data: Data, log: str = os.devnull, seconds: float = 0.0) -> Evaluator:
    return FunctionalEvaluator(train, log=log, seconds=seconds)


def build(parameters: dict) -> nn.Module:
    return nn.Sequential(nn.Linear(6, parameters['width']), nn.Tanh(), nn.Dropout(parameters['dropout']),
                         nn.Linear(parameters['width'], 3))


if __name__ == '__main__':  # a trial command of the user's own, which knows nothing of KNAS but its parameters
    parameters = nni.get_next_parameter()
    write_line(os.environ['KNAS_TEST_LOG'], repr(sorted(parameters)))
    nni.report_final_result(float(parameters['width']))
