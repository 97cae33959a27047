"""NAS-Bench-101: cells of up to seven vertices and nine edges.

Source: Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from nni.nas.hub.pytorch import NasBench101
from nni.nas.space import SimplifiedModelSpace

from nni_knas.benchmark.base import Benchmark, register_benchmark
from nni_knas.benchmark.spaces.common import read_table, results_of
from nni_knas.networks import build_network

__all__ = ['nasbench101', 'to_sample']

STEM = 32
"""Channels of the stem: a quarter of the 128 that the networks were trained with, at a sixteenth of the cost."""
VERTICES = 7
logging.getLogger('nni.nas.hub.pytorch.modules.nasbench101').setLevel(logging.WARNING)  # a line for each cell made
WHERE = 'a CSV with the column arch (49 bits of the adjacency matrix, a space, seven operations), and test accuracies'


@register_benchmark('nasbench101', data='cifar10', file='nb101.csv', witness='test_acc')
def nasbench101(table: str | None, classes: int = 10, stem: int = STEM) -> Benchmark:
    """NAS-Bench-101, trained on CIFAR-10 for 108 epochs; ``test_acc`` is the mean over the seeds of training."""
    space = SimplifiedModelSpace.from_model(NasBench101(stem_out_channels=stem, num_labels=classes))
    rows = read_table(table, ['arch'], WHERE)
    rows = results_of(rows, rows.arch)
    for kind, name in (('val', 'valid_acc'), ('test', 'test_acc')):
        rows[name] = rows.filter(regex=rf'^{kind}\d+$').mean(axis=1)
    return Benchmark(
        'nasbench101',
        rows,
        lambda architecture, seed: build_network(space.freeze(to_sample(architecture)), seed),
        key=f'nasbench101 with {classes} classes, stem {stem}',
    )


def to_sample(architecture: str) -> dict[str, Any]:
    """NNI's sample of a row of the table; vertices that are on no path from input to output are left out.

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    bits, _, names = architecture.partition(' ')
    operations = names.split(',')
    if len(bits) != VERTICES**2 or set(bits) - {'0', '1'} or len(operations) != VERTICES:
        raise ValueError(f'{architecture!r} is no architecture of NAS-Bench-101: {WHERE}')
    edges = np.array([int(bit) for bit in bits]).reshape(VERTICES, VERTICES)
    used = _on_a_path(edges)
    edges = edges[np.ix_(used, used)]
    sample: dict[str, Any] = {'cell/num_nodes': len(used)}
    for vertex in range(1, VERTICES):  # NNI asks for those beyond the number of vertices, too
        there = vertex < len(used)
        sample[f'cell/input{vertex}'] = np.flatnonzero(edges[:, vertex]).tolist() if there else [0]
        if vertex < VERTICES - 1:
            sample[f'cell/op{vertex}'] = operations[used[vertex]] if vertex < len(used) - 1 else operations[used[1]]
    return sample


def _on_a_path(edges: np.ndarray) -> np.ndarray:
    """The vertices that lie on a path from the first to the last."""
    reach = np.linalg.matrix_power(edges + np.eye(VERTICES, dtype=int), VERTICES) > 0
    return np.flatnonzero(reach[0] & reach[:, -1])
