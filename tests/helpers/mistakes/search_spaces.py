"""Mistakes in a search space of NNI's, and in the function that goes with it."""

from __future__ import annotations

from typing import Any

from mistakes.attempts import Mistake, code, command

MODELS = """
from torch import nn
from torch.utils.data import TensorDataset
from spaces import vector_dataset


def build(parameters):
    return nn.Sequential(nn.Linear(6, parameters['width']), nn.Tanh(), nn.Linear(parameters['width'], 3))


def data():
    return vector_dataset(), vector_dataset()
"""
"""The user's own module, where it is right."""

LINE = 'search --network mymodels:build --search-space search_space.json --data mymodels:data --candidates 3 --top-k 1'


def space(content: str | bytes, says: str, given: str = '') -> Mistake:
    """What is in ``search_space.json``."""
    assert given or isinstance(content, str)
    return command(LINE, says, given or code(str(content)), {'search_space.json': content, 'mymodels.py': MODELS})


def width(kind: Any, values: str, says: str) -> Mistake:
    return space(f'{{"width": {{"_type": "{kind}", "_value": {values}}}}}', says)


def network(text: str, says: str, given: str = '') -> Mistake:
    """What is in ``mymodels.py`` in place of ``build``."""
    files = {'search_space.json': '{"width": {"_type": "choice", "_value": [4, 8]}}', 'mymodels.py': f'{MODELS}\n\n{text}'}
    return command(LINE, says, given or code(text), files)


MISTAKES = [
    space('', 'search_space.json', 'an empty file'),
    space('[]', 'search_space.json'),
    space('{}', 'search space'),
    space('{"width": ', 'search_space.json'),
    space(b'\xff\xfe\x00', 'search_space.json', 'a binary file'),
    space('{"width": [4, 8]}', "parameter 'width' is [4, 8]: it should be"),
    space('{"width": {"_type": "choice"}}', "parameter 'width'"),
    space('{"a/b": {"_type": "choice", "_value": [4]}}', "'a/b' cannot be the name of a parameter"),
    space('{"width": {"_type": "choice", "_value": [4]}, "width": {"_type": "choice", "_value": [8]}}', 'twice'),
    width('chioce', '[4, 8]', 'did you mean "choice"?'),
    width('choice', '[]', 'that takes a list of different'),
    width('choice', '4', 'that takes a list of different'),
    width('choice', '[4, 4]', 'that takes a list of different'),
    space(
        f'{{"width": {{"_type": "choice", "_value": [1{"0" * 400}]}}}}',
        'that takes a list of different',
        'a number of 401 digits',
    ),
    width('choice', '[4, NaN]', 'that takes a list of different'),
    width('choice', '[{"_name": "a", "b": {"_type": "choice", "_value": [1]}}]', 'nested choices'),
    width('randint', '[8, 4]', 'lower < upper'),
    width('randint', '[1, 100000]', 'at most 1000 apart'),
    width('uniform', '[1]', '[low, high] with low < high'),
    width('uniform', '["a", "b"]', '[low, high] with low < high'),
    width('uniform', '[0, Infinity]', '[low, high] with low < high'),
    width('loguniform', '[0, 1]', '0 < low < high'),
    width('quniform', '[0, 1, 0]', 'q > 0'),
    width('normal', '[0, -1]', 'sigma > 0'),
    width('choice', '["wide"]', 'mymodels:build'),
    network('def build(parameters):\n    return None', 'it should return a torch.nn.Module'),
    network('def build():\n    return nn.Linear(6, 3)', 'mymodels:build'),
    network('def build(parameters):\n    return parameters["depth"]', 'mymodels:build'),
    network('def build(parameters):\n    return nn.Linear(5, 3)', 'cannot take inputs'),
    network('def build(parameters):\n    return nn.Linear(6, 2)', 'the network has 2 outputs'),
    network('build = 3', 'mymodels:build is no function'),
    network('def build(:', 'mymodels'),
    network('import nothing_of_this_name', 'cannot be imported'),
]
