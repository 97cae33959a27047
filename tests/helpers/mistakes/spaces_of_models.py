"""Mistakes in a model space and an evaluator of the user's."""

from __future__ import annotations

from mistakes.attempts import Mistake, code, command

BEGIN = """
import nni
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from spaces import TinySpace, train
from torch import nn


"""


def space(text: str, says: str, more: str = '') -> Mistake:
    line = f'search --space mymodels:Mine --data config_models:data --candidates 3 --top-k 1 {more}'
    return command(line, says, code(text), {'mymodels.py': BEGIN + text})


def evaluator(text: str, says: str, more: str = '') -> Mistake:
    line = 'search --space spaces:TinySpace --data config_models:data --candidates 3 --top-k 1 --evaluator mymodels:make'
    return command(f'{line} {more}', says, code(text), {'mymodels.py': BEGIN + text})


MISTAKES = [
    command('search --space mymodels', 'unknown space'),
    command('search --space nowhere:Mine', 'cannot be imported'),
    command('search --space :Mine', "':Mine' is not of the form module:name"),
    command('search --space os:path', 'cannot be built'),
    space('class Mien(ModelSpace):\n    pass', 'did you mean "Mien"'),
    space('class Mine:\n    pass', 'is no NNI model space'),
    space('class Mine(nn.Module):\n    pass', 'is no NNI model space'),
    space('Mine = TinySpace()', 'cannot be built'),
    space('Mine = None', 'cannot be built'),
    space('class Mine(ModelSpace):\n    def __init__(self, depth):\n        super().__init__()', 'depth'),
    space('class Mine(ModelSpace):\n    def __init__(self):\n        self.a = nn.Linear(6, 3)', 'cannot be built'),
    space('class Mine(ModelSpace):\n    def __init__(self):\n        raise OSError("no disk")', 'no disk'),
    space('class Mine(ModelSpace:\n    pass', 'cannot be imported'),
    evaluator('def amke(data):\n    pass', 'did you mean "amke"'),
    evaluator('def make(data):\n    return None', 'it has to return an NNI evaluator'),
    evaluator('def make():\n    return FunctionalEvaluator(train)', 'cannot be made'),
    evaluator('def make(data):\n    raise OSError("no disk")', 'no disk'),
    evaluator('def make(data):\n    return FunctionalEvaluator(train)', 'cannot be made', '--evaluator-args \'{"lr": 1}\''),
]
