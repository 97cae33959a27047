"""DARTS: a normal and a reduction cell of four nodes with two operations each.

Source: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019. Its networks, trained on CIFAR-10 for 50 epochs.
"""

from __future__ import annotations

import re
from typing import Any

from nni.nas.hub.pytorch import DARTS
from nni.nas.hub.pytorch.nasnet import NDS
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import SimplifiedModelSpace

from nni_knas.benchmark.base import Benchmark, register_benchmark
from nni_knas.benchmark.spaces.common import read_results
from nni_knas.networks import constructed

__all__ = ['darts', 'darts_space', 'to_sample']

WIDTH, CELLS = 12, 20
"""A third of the width that the networks were trained with, at a ninth of the cost, and all of their cells."""
WHERE = 'a CSV with the column arch (normal=op~from;... of eight edges|reduce=...) and accuracies'
OPERATIONS = ['none', *DARTS.DARTS_OPS]
_EDGE = re.compile(rf'({"|".join(OPERATIONS)})~(\d)')
_PATTERN = re.compile(r'normal=(.+)\|reduce=(.+)')


@register_benchmark('darts', data='cifar10', file='darts.csv', witness='test50')
def darts(table: str | None, width: int = WIDTH, cells: int = CELLS) -> Benchmark:
    """DARTS, trained on CIFAR-10: validation after 10 and 50 epochs, test after 50."""
    space = SimplifiedModelSpace.from_model(darts_space(width, cells))
    return Benchmark(
        'darts',
        read_results(table, ['arch'], WHERE, to_sample),
        lambda architecture, seed: constructed(space.freeze(to_sample(architecture)), seed),
        key=f'darts of width {width} and {cells} cells',
        final=('val50', 'test50'),
        choices=lambda architecture: [str(value) for value in to_sample(architecture).values()],
    )


def darts_space(width: int, cells: int) -> ModelSpace:
    """NNI's DARTS without auxiliary head, and with the operation ``none``, which the table has and NNI leaves out."""
    return NDS(OPERATIONS, merge_op='all', num_nodes_per_cell=4, width=width, num_cells=cells, dataset='cifar')


def to_sample(architecture: str) -> dict[str, Any]:
    """NNI's sample of a row of the table.

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    match = _PATTERN.fullmatch(architecture)
    sample: dict[str, Any] = {}
    for cell, text in zip(('normal', 'reduce'), match.groups() if match else ('', '')):
        edges = [_EDGE.fullmatch(edge) for edge in text.split(';')]
        for place, edge in enumerate(edges):
            node = place // 2 + 2
            if edge is None or len(edges) != 8 or int(edge[2]) >= node:
                raise ValueError(f'{architecture!r} is no architecture of DARTS: {WHERE}')
            sample[f'{cell}/op_{node}_{place % 2}'] = edge[1]
            sample[f'{cell}/input_{node}_{place % 2}'] = [int(edge[2])]
    return sample
