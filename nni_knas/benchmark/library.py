"""The benchmarks that come with the package."""

from __future__ import annotations

from importlib import resources

import pandas as pd
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace

from nni_knas.benchmark.base import Benchmark, register_benchmark, space_benchmark
from nni_knas.benchmark.hub import autoformer_digits_space, darts_cifar10_space, text_space
from nni_knas.benchmark.nats import to_sample
from nni_knas.benchmark.spaces import autoformer, darts, flexibert, nasbench101, transnas_micro
from nni_knas.benchmark.tables import load_nats_table
from nni_knas.networks import constructed

__all__ = [
    'autoformer',
    'autoformer_digits',
    'darts',
    'darts_cifar10',
    'flexibert',
    'nasbench101',
    'nats_tss',
    'text_rte',
    'transnas_micro',
]

RESULTS = ['valid_acc', 'test_acc']


NATS_FILES = ('tss*.csv', 'NATS-tss-*', 'nasbench201*.db')


@register_benchmark(
    'nats-tss', file=(*NATS_FILES, *(f'../nats-bench/{file}' for file in NATS_FILES)), witness='cifar10_test_acc'
)
def nats_tss(table: str | None, classes: int = 10) -> Benchmark:
    """NATS-Bench's topology space (NAS-Bench-201): 15,625 architectures, as strings; the user has the table."""
    space = SimplifiedModelSpace.from_model(NasBench201(num_labels=classes))
    return Benchmark(
        'nats-tss',
        load_nats_table(table),
        lambda architecture, seed: constructed(space.freeze(to_sample(architecture)), seed),
        key=f'nats-tss with {classes} classes',
    )


@register_benchmark('darts-cifar10', data='cifar10', image_size=16, witness='test_acc')
def darts_cifar10() -> Benchmark:
    """Small networks of the DARTS space, trained on CIFAR-10."""
    return space_benchmark('darts-cifar10', darts_cifar10_space(), _read_shipped('darts-cifar10'))


@register_benchmark('autoformer-digits', image_size=16, witness='test_acc')
def autoformer_digits() -> Benchmark:
    """Small transformers of the AutoFormer space, trained on scikit-learn's digits."""
    return space_benchmark('autoformer-digits', autoformer_digits_space(), _read_shipped('autoformer-digits'))


@register_benchmark('text-rte', takes='texts', witness='test_acc')
def text_rte() -> Benchmark:
    """Text classifiers over frozen MiniLM, trained on RTE; to be scored on ``text:FOLDER`` of pairs in GLUE's format."""
    return space_benchmark('text-rte', text_space(), _read_shipped('text-rte', [*RESULTS, 'valtest_acc']))


@register_benchmark('text-mrpc', takes='texts', witness='test_acc')
def text_mrpc() -> Benchmark:
    """The same classifiers, trained on MRPC."""
    return space_benchmark('text-mrpc', text_space(), _read_shipped('text-mrpc', [*RESULTS, 'valtest_acc']))


def _read_shipped(name: str, results: list[str] = RESULTS) -> pd.DataFrame:
    file = resources.files('nni_knas.benchmark') / 'tables' / f'{name}.csv'
    if not file.is_file():
        raise ValueError(
            f'the table {name}.csv is missing in this installation: install nni-knas anew, or take another benchmark'
        )
    with file.open() as lines:
        return pd.read_csv(lines).set_index('architecture')[results]
