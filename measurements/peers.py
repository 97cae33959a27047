"""What published training-free scores and this project's cost and find, in one run, on two public tables; prints Markdown.

    python measurements/peers.py
    python measurements/peers.py --tables FOLDER --data folder:CIFAR10 --text text:GLUE/RTE --architectures 100

The spaces are NAS-Bench-201 and, of transformers, FlexiBERT; ``--benchmarks`` takes others that ``nni-knas benchmark`` has.
A cost is the CPU time of one thread as a ratio to one plain forward-backward pass of the same network on the same
minibatch, without building the network: the median over networks. Each score is computed by itself, nothing is shared; an
aggregate of ranks costs the sum of its parts. What a score finds is Spearman's rank correlation, of all the same networks;
one that has no score is last. The environment variable NNI_KNAS_DATA names the folder in which tables and data are, where
options do not.
"""

import argparse
import os
from pathlib import Path

from nni_knas import GradientKernelEvaluator
from nni_knas.benchmark import Aggregate, Benchmark, declaration_of, find_score, find_table, load_benchmark
from nni_knas.data import load_data
from nni_knas.gradients import Loss, Minibatch
from nni_knas.scores import RECOMMENDED, Score, statistics

import numpy as np
import pandas as pd
import torch
from scoring import cpu_seconds, plain_pass
from torch import nn
from tqdm import tqdm

DATA = Path(os.environ.get('NNI_KNAS_DATA') or '../shared/data')
SOURCES = {
    RECOMMENDED: 'this project',
    'steady-rank': 'this project',
    'synflow': 'zero-cost-nas',
    'snip': 'zero-cost-nas',
    'gradient-norm': 'zero-cost-nas (grad_norm)',
    'jacob-cov': 'zero-cost-nas (jacob_cov)',
    'naswot': 'NASWOT',
    'zico': 'ZiCo',
    'az-nas': 'AZ-NAS',
}
PANEL = 'the panel'


def parts_of(name: str) -> list[str]:
    score = find_score(name)
    return list(score.parts) if isinstance(score, Aggregate) else [name]


def plain_seconds(network: nn.Module, minibatch: Minibatch, loss: Loss | None) -> float:
    """Of three passes the median; gradients are there of none before, and the network is in training mode."""
    times = []
    network.train()
    for _ in range(4):
        network.zero_grad(set_to_none=True)
        times.append(cpu_seconds(plain_pass, network, *minibatch, loss)[0])
    network.zero_grad(set_to_none=True)
    return float(np.median(times[1:]))


def computed(kernel: GradientKernelEvaluator, network: nn.Module, score: Score | None) -> tuple[float, float]:
    """CPU seconds, and the score; ``nan`` where there is none."""

    def value() -> float:
        try:
            with kernel.gradients(network) as gradients:
                return float(len(statistics(gradients)) if score is None else score(gradients))
        except ValueError:  # the reason may be the network's alone
            return np.nan

    return cpu_seconds(value)


def measured(
    benchmark: Benchmark, kernel: GradientKernelEvaluator, architectures: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Costs and scores, a row an architecture and a column a score; of aggregates the parts."""
    names = sorted({part for name in SOURCES for part in parts_of(name)})
    scores: dict[str, Score | None] = {**{name: find_score(name) for name in names}, PANEL: None}
    costs, values = [], []
    for number, architecture in enumerate(tqdm(architectures, benchmark.name, disable=None)):
        network = benchmark.network(architecture, 0)
        before = plain_seconds(network, kernel.minibatch, kernel.used_loss)
        if number == 0:  # what is imported or asked once is not counted
            _ = [computed(kernel, network, score) for score in scores.values()]
        found = {name: computed(kernel, network, score) for name, score in scores.items()}
        plain = (before + plain_seconds(network, kernel.minibatch, kernel.used_loss)) / 2
        costs.append({name: took / plain for name, (took, _) in found.items()})
        values.append({name: value for name, (_, value) in found.items()})
    return pd.DataFrame(costs), pd.DataFrame(values)


def spearman(name: str, values: pd.DataFrame, results: pd.Series) -> float:
    if name == PANEL:
        return np.nan
    score = find_score(name)
    own = (
        values[name] if not isinstance(score, Aggregate) else score.values([values[part].to_numpy() for part in score.parts])
    )
    own = pd.Series(np.asarray(own, dtype=float))
    lacking = own.isna()
    return own.mask(lacking, own.min() - 1).corr(results, method='spearman') if not lacking.all() else np.nan


def space_table(options: argparse.Namespace, name: str) -> pd.DataFrame:
    """Of each score its cost and its rank correlation on one space."""
    declared = declaration_of(name)
    data = load_data(options.text if declared.takes == 'texts' else options.data, size=declared.image_size)
    table = find_table(name, options.tables)
    benchmark = load_benchmark(name, table=None if table is None else str(table), classes=data.classes)
    metric = declared.witness or benchmark.metrics[0]
    architectures = benchmark.sample(options.architectures, 0, [metric])
    kernel = GradientKernelEvaluator(data.train, None, options.samples, device='cpu')
    costs, values = measured(benchmark, kernel, architectures)
    results = benchmark.table.loc[architectures, metric].reset_index(drop=True)
    rows = {
        score: (costs[parts_of(score) if score != PANEL else [PANEL]].median().sum(), spearman(score, values, results))
        for score in (*SOURCES, PANEL)
    }
    title = f'{name}, {metric}, {len(architectures)} networks'
    return pd.DataFrame(rows, index=pd.MultiIndex.from_product([[title], ['cost', 'Spearman']])).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tables', type=Path, default=DATA / 'tables', help='the folder where the tables lie')
    parser.add_argument('--data', default=f'folder:{DATA / "cifar10" / "train"}', help='the images')
    parser.add_argument('--text', default=f'text:{DATA / "glue" / "RTE"}', help='the texts')
    parser.add_argument('--benchmarks', default='nats-tss,flexibert')
    parser.add_argument('--architectures', type=int, default=100, help='of each space')
    parser.add_argument('--samples', type=int, default=16, help='in the minibatch')
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = [space_table(options, name) for name in options.benchmarks.split(',')]
    columns = [': '.join(map(str, column)) for table in tables for column in table.columns]
    print(f'| score | from | {" | ".join(columns)} |')
    print(f'| --- | --- | {" | ".join("---" for _ in columns)} |')
    for name in tables[0].index:
        cells = ['-' if np.isnan(number) else f'{number:.2f}' for table in tables for number in table.loc[name]]
        print(f'| {name} | {SOURCES.get(name, "this project")} | {" | ".join(cells)} |')


if __name__ == '__main__':
    main()
