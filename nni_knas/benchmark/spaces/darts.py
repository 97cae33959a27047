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
from nni_knas.benchmark.spaces.common import read_table, results_of
from nni_knas.networks import build_network

__all__ = ['darts', 'darts_space', 'to_sample']

WIDTH, CELLS = 16, 8
"""The size that DARTS itself searches at; the networks were trained with width 36 and 20 cells."""
WHERE = 'a CSV with the column arch (normal=op~from;... of eight edges|reduce=...) and accuracies'
_EDGE = r'(\w+)~(\d)'
_PATTERN = re.compile(r'normal=(.+)\|reduce=(.+)')


@register_benchmark('darts', data='cifar10', file='darts.csv', witness='test50')
def darts(table: str | None, width: int = WIDTH, cells: int = CELLS) -> Benchmark:
    """DARTS, trained on CIFAR-10: validation after 10 and 50 epochs, test after 50."""
    space = SimplifiedModelSpace.from_model(darts_space(width, cells))
    rows = read_table(table, ['arch'], WHERE)
    return Benchmark(
        'darts',
        results_of(rows, rows.arch),
        lambda architecture, seed: build_network(space.freeze(to_sample(architecture)), seed),
        key=f'darts of width {width} and {cells} cells',
        final=('val50', 'test50'),
    )


def darts_space(width: int, cells: int) -> ModelSpace:
    """NNI's DARTS without auxiliary head, and with the operation ``none``, which the table has and NNI leaves out."""
    operations = ['none', *DARTS.DARTS_OPS]
    return NDS(operations, merge_op='all', num_nodes_per_cell=4, width=width, num_cells=cells, dataset='cifar')


def to_sample(architecture: str) -> dict[str, Any]:
    """NNI's sample of a row of the table.

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    match = _PATTERN.fullmatch(architecture)
    cells = match.groups() if match else ()
    edges = {name: re.findall(_EDGE, cell) for name, cell in zip(('normal', 'reduce'), cells)}
    if not edges or any(len(each) != 8 for each in edges.values()):
        raise ValueError(f'{architecture!r} is no architecture of DARTS: {WHERE}')
    sample: dict[str, Any] = {}
    for cell, pairs in edges.items():
        for place, (operation, source) in enumerate(pairs):
            sample[f'{cell}/op_{place // 2 + 2}_{place % 2}'] = operation
            sample[f'{cell}/input_{place // 2 + 2}_{place % 2}'] = [int(source)]
    return sample
