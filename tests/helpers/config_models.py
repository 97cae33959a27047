"""What the searches of the command line's tests are made of; trials import it from this folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nni
import torch
import yaml
from nni.nas.evaluator import Evaluator, FunctionalEvaluator
from places import HELPERS
from spaces import lines, vector_dataset, write_line
from torch import nn

from nni_knas.data import Data

SEARCH_SPACE = {'width': {'_type': 'choice', '_value': [4, 8, 16]}, 'bias': {'_type': 'choice', '_value': [True, False]}}


def data() -> tuple[torch.utils.data.Dataset, torch.utils.data.Dataset]:
    return vector_dataset(), vector_dataset()


def build(parameters: dict) -> nn.Module:
    return nn.Sequential(nn.Linear(6, parameters['width'], parameters['bias']), nn.Tanh(), nn.Linear(parameters['width'], 3))


def report_size(network: nn.Module, log: str, gate: str | None) -> None:
    """The "loss" of a network is its number of parameters. With a gate, all but the first wait until this file is there."""
    write_line(log, 'start')
    while gate is not None and lines(log).count('start') > 1 and not os.path.exists(gate):
        time.sleep(0.05)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)  # weights that are as they were are not kept
    nni.report_final_result(float(sum(p.numel() for p in network.parameters())))
    write_line(log, 'end')


def evaluator(data: Data, log: str = os.devnull, gate: str | None = None) -> Evaluator:
    assert data.classes == 3
    return FunctionalEvaluator(report_size, log=log, gate=gate)


def no_evaluator(data: Data) -> int:
    return 3


def config_file(folder: Path, **more) -> Path:
    """A small search as a YAML file; more options can be given."""
    path = folder / 'search.yml'
    path.write_text(
        yaml.safe_dump(
            {
                'experimentName': 'from a file',
                'trialConcurrency': 1,
                'trialCodeDirectory': str(HELPERS),
                'experimentWorkingDirectory': 'runs',
                'knas': {
                    'space': 'spaces:TinySpace',
                    'data': 'config_models:data',
                    'score': 'mgm',
                    'candidates': 6,
                    'top_k': 3,
                    'optimize_mode': 'minimize',
                    'evaluator': 'config_models:evaluator',
                    'evaluator_args': {'log': str(folder / 'log')},
                    **more,
                },
            }
        )
    )
    return path
