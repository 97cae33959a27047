"""Small benchmarks for the tests, importable from the command line; and tables in the formats of the real ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import torch
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from spaces import FaultySpace, TinySpace

from nni_knas.benchmark import Benchmark, space_benchmark
from nni_knas.benchmark.nats import SIZE, string_of, to_sample
from nni_knas.networks.candidates import encode_sample
from nni_knas.networks.construction import build_network


def tiny_samples(count: int = 27) -> list[str]:
    return [
        encode_sample({'width': width, 'inner': inner, 'outer': outer})
        for width in (4, 8, 16)
        for inner in ('relu', 'tanh', 'sigmoid')
        for outer in ('relu', 'tanh', 'sigmoid')
    ][:count]


def tiny(count: int = 27, **columns: np.ndarray) -> Benchmark:
    """All 27 architectures of :class:`TinySpace`, with made-up accuracies."""
    table = pd.DataFrame({'architecture': tiny_samples(count), 'test_acc': np.linspace(50, 90, count), **columns})
    return space_benchmark('tiny', TinySpace(), table)


def faulty() -> Benchmark:
    samples = [
        encode_sample({'middle': middle, 'last': last})
        for middle in ('identity', 'relu', 'raises', 'nan')
        for last in range(3)
    ]
    return space_benchmark('faulty', FaultySpace(), pd.DataFrame({'architecture': samples, 'acc': np.arange(12.0)}))


def vectors_data():
    generator = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(20, 6, generator=generator), torch.arange(20) % 3)
    return data, data


def small_nats(classes: int) -> Benchmark:
    """A twentieth of a second a network: ten architectures of NAS-Bench-201, one cell a stage."""
    space = SimplifiedModelSpace.from_model(NasBench201(stem_out_channels=4, num_modules_per_stack=1, num_labels=classes))
    names = [string_of(index) for index in range(10)]
    table = pd.DataFrame(
        {
            'one_test_acc': np.linspace(60, 90, 10),
            'two_test_acc': np.linspace(80, 20, 10),
            'one_valid_acc': np.linspace(50, 80, 10),
            'loss': np.ones(10),
        },
        index=names,
    )
    return Benchmark('small-nats', table, lambda name, seed: build_network(space.freeze(to_sample(name)), seed))


def nothing() -> int:
    return 3


def run_accuracy(index: int, dataset: str, epoch: int, seed: int) -> float:
    """What the fixtures of NATS-Bench and of NNI's database hold: a number that names its place."""
    place = ['cifar10-valid', 'cifar10', 'cifar100', 'ImageNet16-120'].index(dataset)
    return 10 * place + index % SIZE / 1000 + epoch / 100 + seed / 1e6


def small_from_csv(table: str, classes: int = 10) -> Benchmark:
    """The networks of :func:`small_nats` with the user's results, a CSV by architecture."""
    return dataclasses.replace(small_nats(classes), table=pd.read_csv(table, index_col=0))
