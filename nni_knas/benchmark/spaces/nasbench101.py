"""NAS-Bench-101: cells of up to seven vertices and nine edges.

Source: Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
from nni.nas.hub.pytorch import NasBench101
from nni.nas.space import SimplifiedModelSpace
from numpy.typing import NDArray
from torch import nn

from nni_knas.benchmark.base import Benchmark, register_benchmark
from nni_knas.benchmark.spaces.common import read_results
from nni_knas.networks import constructed

__all__ = ['nasbench101', 'to_sample', 'without_idle']

STEM = 32
"""Channels of the stem: a quarter of the 128 that the networks were trained with, at a sixteenth of the cost."""
VERTICES, EDGES = 7, 9
_OPERATION = '(?:conv3x3-bn-relu|conv1x1-bn-relu|maxpool3x3)'
_PATTERN = re.compile(rf'([01]{{{VERTICES**2}}}) (input,(?:{_OPERATION},){{{VERTICES - 2}}}output)')
logging.getLogger('nni.nas.hub.pytorch.modules.nasbench101').setLevel(logging.WARNING)  # a line for each cell made
WHERE = 'a CSV with the column arch (49 bits of the adjacency matrix, a space, seven operations), and test accuracies'


@register_benchmark('nasbench101', data='cifar10', file='nb101.csv', witness='test_acc')
def nasbench101(table: str | None, classes: int = 10, stem: int = STEM) -> Benchmark:
    """NAS-Bench-101, trained on CIFAR-10 for 108 epochs; ``test_acc`` is the mean over the seeds of training."""
    space = SimplifiedModelSpace.from_model(NasBench101(stem_out_channels=stem, num_labels=classes))
    rows = read_results(table, ['arch'], WHERE, to_sample)
    for kind, name in (('val', 'valid_acc'), ('test', 'test_acc')):
        seeds = rows.filter(regex=rf'^{kind}\d+$')
        if not seeds.columns.empty:
            rows[name] = seeds.mean(axis=1)
    return Benchmark(
        'nasbench101',
        rows,
        lambda architecture, seed: without_idle(constructed(space.freeze(to_sample(architecture)), seed)),
        key=f'nasbench101 with {classes} classes, stem {stem}, no idle projections',
        choices=_choices,
    )


def to_sample(architecture: str) -> dict[str, Any]:
    """NNI's sample of a row of the table; vertices that are on no path from input to output are left out.

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    match = _PATTERN.fullmatch(architecture)
    if match is None:
        raise ValueError(f'{architecture!r} is no architecture of NAS-Bench-101: {WHERE}')
    operations = match[2].split(',')
    edges = np.array([int(bit) for bit in match[1]]).reshape(VERTICES, VERTICES)
    used = _on_a_path(edges)
    if np.tril(edges).any() or not len(used):
        raise ValueError(f'{architecture!r} is no architecture of NAS-Bench-101: its edges lead back, or not to the output')
    edges = edges[np.ix_(used, used)]
    if edges.sum() > EDGES:
        raise ValueError(f'{architecture!r} is no architecture of NAS-Bench-101: it has more than {EDGES} edges')
    sample: dict[str, Any] = {'cell/num_nodes': len(used)}
    for vertex in range(1, VERTICES):  # NNI asks for those beyond the number of vertices, too
        there = vertex < len(used)
        sample[f'cell/input{vertex}'] = np.flatnonzero(edges[:, vertex]).tolist() if there else [0]
        if vertex < VERTICES - 1:
            sample[f'cell/op{vertex}'] = operations[used[vertex] if vertex < len(used) - 1 else 1]
    return sample


def _choices(architecture: str) -> list[str]:
    """Each possible edge, and the operation of each vertex."""
    edges, operations = architecture.split(' ')
    return [*edges, *operations.split(',')]


def _on_a_path(edges: NDArray[Any]) -> NDArray[Any]:
    """The vertices that lie on a path from the first to the last."""
    reach = np.linalg.matrix_power(edges + np.eye(VERTICES, dtype=int), VERTICES) > 0
    return np.flatnonzero(reach[0] & reach[:, -1])


def without_idle(network: nn.Module) -> nn.Module:
    """NNI's network without the projections of its cells that no edge from the input needs.

    NNI makes one for each vertex; the networks of the benchmark have none that is of no use, nor count its parameters.
    """
    for cell in network.modules():
        projections = getattr(cell, 'projections', None)
        if isinstance(projections, nn.ModuleList):
            needed = np.asarray(cell.connection_matrix)[0]
            cell.projections = nn.ModuleList(each if needed[i] else nn.Identity() for i, each in enumerate(projections))
    return network
