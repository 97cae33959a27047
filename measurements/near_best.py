"""What candidates near the best are worth: searches on tables, all random at the start against some near the best later.

    python measurements/near_best.py --tables FOLDER --data folder:CIFAR10 --output DIR

The panels are those of ``nni-knas benchmark --protocol search`` with the same ``--output``; those that are not there
are measured. Each search trains 20 of as many candidates as another one scores. With ``near_best`` a part of them is
drawn when some have been trained, by a learner of the statistics alone: of the architectures of the pool that were not
scored those that differ in the fewest choices from any of the ten of which the learner expects most, since a table does
not have all that a search could draw. Printed is the mean percentile, in the pool, of the best that was trained, and
the difference to the same number of candidates all at random, with 95 % intervals over the repeats, which draw the same
candidates first.
"""

import argparse
import multiprocessing
from pathlib import Path
from typing import NamedTuple

from nni_knas import GradientKernelEvaluator, Learner
from nni_knas.benchmark import (
    Measurement,
    ScoreCache,
    declaration_of,
    encode,
    find_table,
    load_benchmark,
    measure,
    panel_scores,
    panel_table,
    pool_size,
)
from nni_knas.data import DATA_HELP, load_data

import numpy as np
import pandas as pd
from tqdm import tqdm

BENCHMARKS = ('transnas-micro', 'nats-tss', 'nasbench101')  # of the others the tables have too few architectures
TRAINED = 20


class Kind(NamedTuple):
    """A kind of search: how many candidates it scores, how many of them near the best, near how many, after how many."""

    candidates: int
    near: int = 0
    parents: int = 10
    after: int = 8

    def __str__(self) -> str:
        if not self.near:
            return f'{self.candidates}, all at random'
        return f'{self.candidates}, {self.near} of them near the best {self.parents} after {self.after}'


KINDS = (
    Kind(400),
    *(Kind(400, near) for near in (50, 100, 200)),
    Kind(400, 100, parents=3),
    *(Kind(400, 100, after=after) for after in (5, 12)),
    Kind(600),
    *(Kind(600, near) for near in (100, 200)),
)


class Pool(NamedTuple):
    """The architectures of a benchmark: panels, choices, and the percentile of each in each task, a column a task."""

    panel: pd.DataFrame
    choices: np.ndarray
    metrics: pd.DataFrame


def pool_of(name: str, options: argparse.Namespace) -> Pool:
    data = load_data(options.data, size=declaration_of(name).image_size)
    table = find_table(name, options.tables)
    benchmark = load_benchmark(name, table=str(table) if table else None, classes=data.classes)
    kernel = GradientKernelEvaluator(data.train, batch_size=16, device='cpu')
    architectures = benchmark.sample(pool_size(1000), 0, benchmark.searched)
    cache = ScoreCache(options.output / name / 'scores.sqlite')
    measure(benchmark, kernel, architectures, [*panel_scores(kernel.minibatch.size).values()], cache, options.processes)
    panel = panel_table(Measurement(benchmark, kernel, cache), architectures)
    metrics = benchmark.table.loc[architectures, benchmark.searched]
    return Pool(panel.reset_index(drop=True), encode(benchmark, architectures), metrics.reset_index(drop=True))


def search(pool: Pool, metric: pd.Series, kind: Kind, repeat: int) -> list[int]:
    """What is trained, in order."""
    rng = np.random.default_rng(repeat)
    order = rng.permutation(len(metric))
    known, rest = np.split(order, [kind.candidates - kind.near])
    learner = Learner(pool.panel.loc[known], seed=repeat)
    trained: list[int] = []
    for place in range(TRAINED):
        if kind.near and place == kind.after:
            best = learner.predictions()['mean'].sort_values(ascending=False, kind='stable').index[: kind.parents]
            changes = (pool.choices[rest, None] != pool.choices[np.asarray(best)]).sum(axis=2).min(axis=1)
            drawn = np.lexsort([rng.random(len(rest)), changes])[: kind.near]  # among equals at random
            learner = Learner(pool.panel.loc[[*known, *rest[drawn]]], seed=repeat)
            for each in trained:
                learner.tell(each, metric[each])
        trained += learner.ask()
        learner.tell(trained[-1], metric[trained[-1]])
    return trained


def percentiles(piece: tuple[Pool, int]) -> list[list[float]]:
    """In one repeat, of the best that was trained: a row a task, a column a kind of search."""
    pool, repeat = piece
    ranks = pool.metrics.rank(ascending=False, method='min') / len(pool.metrics) * 100
    return [
        [float(ranks[task][search(pool, pool.metrics[task], kind, repeat)].min()) for kind in KINDS] for task in pool.metrics
    ]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over repeats, and half its 95 % interval."""
    return values.mean(), 1.96 * values.std(ddof=1) / len(values) ** 0.5


def print_kind(kind: Kind, found: np.ndarray, base: np.ndarray) -> None:
    """``found`` and ``base``: a row a repeat, a column a task."""
    line = f'{kind!s:55} {found.mean():.2f}'
    if kind.near:
        mean, half = interval((found - base).mean(axis=1))
        ends = [interval(column) for column in (found - base).T]
        ahead, behind = (sum(sign * mean > half for mean, half in ends) for sign in (-1, 1))
        line += f'  {mean:+.2f} ± {half:.2f}, ahead beyond noise on {ahead} tasks, behind on {behind}'
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tables', type=Path, required=True, help='folder of the tables')
    parser.add_argument('--data', default='digits', help=DATA_HELP)
    parser.add_argument('--output', type=Path, default=Path('nni-knas-benchmark'))
    parser.add_argument('--repeats', type=int, default=100)
    parser.add_argument('--processes', type=int, default=1)
    options = parser.parse_args()
    pools = [pool_of(name, options) for name in BENCHMARKS]
    work = [(pool, repeat) for pool in pools for repeat in range(options.repeats)]
    with multiprocessing.get_context('spawn').Pool(options.processes) as processes:
        done = list(tqdm(processes.imap(percentiles, work), total=len(work), unit='repeat', disable=None))
    parts = [np.array(done[i : i + options.repeats]) for i in range(0, len(work), options.repeats)]
    found = np.concatenate(parts, axis=1)  # repeats, tasks, kinds
    print(f'{found.shape[1]} tasks, {options.repeats} repeats, {TRAINED} trained: mean percentile of the best')
    bases = {kind.candidates: found[..., place] for place, kind in enumerate(KINDS) if not kind.near}
    for place, kind in enumerate(KINDS):
        print_kind(kind, found[..., place], bases[kind.candidates])


if __name__ == '__main__':
    main()
