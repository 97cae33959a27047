"""The architectures of the NATS-Bench topology space (NAS-Bench-201): their strings, their indices and NNI's samples.

A cell has four nodes; an edge goes from each node to each later one and carries one of five operations. The same cell is
written in three ways:

- the benchmark's string ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: the nodes 1 to 3, each with an operation from every earlier
  node;
- NNI's sample of ``nni.nas.hub.pytorch.NasBench201``: ``{'cell/0_1': op, ...}``, the edge from node ``i`` to ``j`` being
  ``cell/i_j``;
- the benchmark's index, 0 to 15,624.

Source: Dong, Liu, Musial, Gabrys, "NATS-Bench", TPAMI 2021 (arXiv 2009.00437); Dong, Yang, "NAS-Bench-201", ICLR 2020.
"""

from __future__ import annotations

import functools
import itertools
import operator
import random
import re
from collections.abc import Mapping
from typing import Any

__all__ = ['EDGES', 'OPERATIONS', 'SIZE', 'index_of', 'string_of', 'to_sample', 'to_string']

OPERATIONS = {
    'none': 'none',
    'skip_connect': 'skip_connect',
    'nor_conv_1x1': 'conv_1x1',
    'nor_conv_3x3': 'conv_3x3',
    'avg_pool_3x3': 'avg_pool_3x3',
}
"""NNI's name of each of the benchmark's operations, in the benchmark's order."""
EDGES = ('0_1', '0_2', '1_2', '0_3', '1_3', '2_3')
"""The edges in the order of the string."""
SIZE = len(OPERATIONS) ** len(EDGES)
"""Number of architectures."""

_NATS_NAMES = {ours: theirs for theirs, ours in OPERATIONS.items()}
_OPERATION = f'({"|".join(OPERATIONS)})'
_PATTERN = re.compile(
    r'\+'.join(r'\|' + ''.join(rf'{_OPERATION}~{source}\|' for source in range(node)) for node in (1, 2, 3))
)
_SHUFFLE_SEED = 88  # with which the benchmark's authors shuffled the architectures before they numbered them


def to_sample(architecture: str) -> dict[str, str]:
    """NNI's sample of an architecture string.

    Examples
    --------
    >>> to_sample('|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|skip_connect~2|')['cell/0_3']
    'conv_3x3'

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    return {f'cell/{edge}': OPERATIONS[operation] for edge, operation in zip(EDGES, _parse_operations(architecture))}


def to_string(sample: Mapping[str, Any]) -> str:
    """The architecture string of NNI's sample; labels of other things than the cell's edges are left aside.

    Raises
    ------
    ValueError
        If an edge is missing, or its operation is none of the space's.
    """
    operations = []
    for edge in EDGES:
        operation = sample.get(f'cell/{edge}')
        if operation not in _NATS_NAMES:
            raise ValueError(
                f'the sample is no architecture of NAS-Bench-201: its cell/{edge} is {operation!r}, and should '
                f'be one of {", ".join(_NATS_NAMES)}'
            )
        operations.append(_NATS_NAMES[operation])
    return _write_string(operations)


def index_of(architecture: str) -> int:
    """The benchmark's index of an architecture string.

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    return _read_numbering()[1][_write_string(_parse_operations(architecture))]


def string_of(index: int) -> str:
    """The architecture string of the benchmark's index.

    Raises
    ------
    ValueError
        If there is no such index.
    """
    try:
        number = operator.index(index)
    except TypeError:
        number = -1
    if not 0 <= number < SIZE:
        raise ValueError(f'{index!r} is no index of NAS-Bench-201: indices are whole numbers from 0 to {SIZE - 1}')
    return _read_numbering()[0][number]


def _parse_operations(architecture: str) -> tuple[str, ...]:
    match = _PATTERN.fullmatch(architecture) if isinstance(architecture, str) else None
    if match is None:
        raise ValueError(
            f'{architecture!r} is no architecture of NAS-Bench-201: it should look like '
            f'|op~0|+|op~0|op~1|+|op~0|op~1|op~2| with each op one of {", ".join(OPERATIONS)}'
        )
    return match.groups()


def _write_string(operations: Any) -> str:
    rest = iter(operations)
    return '+'.join('|' + ''.join(f'{next(rest)}~{source}|' for source in range(node)) for node in (1, 2, 3))


@functools.cache
def _read_numbering() -> tuple[list[str], dict[str, int]]:
    """The strings by index, and the indices by string.

    The benchmark's authors listed the architectures with the last edge varying fastest, and shuffled the list by Python's
    generator with a fixed seed, which gives the same order on every version of Python.
    """
    strings = [_write_string(operations) for operations in itertools.product(OPERATIONS, repeat=len(EDGES))]
    random.Random(_SHUFFLE_SEED).shuffle(strings)
    return strings, {string: index for index, string in enumerate(strings)}
