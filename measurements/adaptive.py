"""What adaptive effort costs and what it misses: searches in NAS-Bench-201, each with full and with adaptive effort.

    python measurements/adaptive.py --table TABLE --data folder:CIFAR10
    python measurements/adaptive.py --table TABLE --data folder:CIFAR10 --score mgm --architectures 400

All architectures get a quick and a full score once; then many searches are drawn from them. Printed for each kind of
search: how many candidates were scored in full, the cost against full effort for all, which part of the true top k was
found, and the best accuracy among the top k, both ways.
"""

import argparse
import statistics
import time
from pathlib import Path

from nni_knas import GradientKernelEvaluator
from nni_knas.benchmark import to_sample
from nni_knas.networks import NetworkBuilder
from nni_knas.data import DATA_HELP, load_data
from nni_knas.engine import Race

import numpy as np
import pandas as pd
import torch
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from tqdm import tqdm

SEARCHES = [(100, 5), (300, 3), (300, 20), (1000, 20), (1000, 40)]  # candidates, k


def search(quick: np.ndarray, full: np.ndarray, k: int) -> list[int]:
    """The candidates that a search with adaptive effort scores in full, the best first."""
    race = Race(dict(enumerate(quick)), k)
    done: list[int] = []
    while batch := race.next():
        for candidate in batch:
            race.add(candidate, full[candidate])
        done += batch
    return sorted(done, key=lambda candidate: -full[candidate])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--table', type=Path, required=True)
    parser.add_argument('--column', default='cifar10_test_acc')
    parser.add_argument('--data', default='digits', help=DATA_HELP)
    parser.add_argument('--score')
    parser.add_argument('--architectures', type=int, default=1000)
    parser.add_argument('--searches', type=int, default=50, help='of each kind')
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.read_csv(options.table).sample(options.architectures, random_state=0)
    kernel = GradientKernelEvaluator(load_data(options.data).train, options.score)
    quick_kernel = kernel.quick()
    if quick_kernel is None:
        parser.error(f'{kernel.score_function.name} has no quick score')
    kernels = {'quick': quick_kernel, 'full': kernel}
    builder = NetworkBuilder(SimplifiedModelSpace.from_model(NasBench201()), kernel.seed)
    scores: dict[str, list[float]] = {name: [] for name in kernels}
    seconds: dict[str, list[float]] = {name: [] for name in kernels}
    for architecture in tqdm(table.arch_str, desc='Scoring', disable=None):
        network = builder.network(to_sample(architecture))
        for name, each in kernels.items():
            start = time.perf_counter()
            scores[name].append(each.score(network))
            seconds[name].append(time.perf_counter() - start)
    quick, full, accuracy = np.array(scores['quick']), np.array(scores['full']), table[options.column].to_numpy()
    costs = {name: statistics.mean(times) for name, times in seconds.items()}
    print(
        f'{kernel.score_function.name}: a quick score costs {costs["quick"] / costs["full"]:.2f} of a full one; '
        f'Spearman between the two {pd.Series(quick).corr(pd.Series(full), method="spearman"):.3f}'
    )
    print(
        f'{"candidates":>10} {"k":>3} {"in full":>8} {"cost":>5} {"top k found":>12} {"least":>6} '
        f'{"best of k":>10} {"full effort":>12}'
    )
    random_state = np.random.RandomState(0)
    for count, k in SEARCHES:
        if count > len(table):
            continue
        rows = []
        for _ in range(options.searches if count < len(table) else 1):
            chosen = random_state.choice(len(table), count, replace=False)
            done = search(quick[chosen], full[chosen], k)
            best = np.argsort(-full[chosen])[:k]
            rows.append(
                (len(done), len({*done[:k]} & {*best}) / k, accuracy[chosen][done[:k]].max(), accuracy[chosen][best].max())
            )
        in_full, found, ours, reference = np.array(rows).T
        cost = (count * costs['quick'] + in_full.mean() * costs['full']) / (count * costs['full'])
        print(
            f'{count:>10} {k:>3} {in_full.mean():8.0f} {cost:5.2f} {found.mean():12.3f} {found.min():6.2f} '
            f'{ours.mean():10.2f} {reference.mean():12.2f}'
        )


if __name__ == '__main__':
    main()
