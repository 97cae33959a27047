"""What one candidate costs, from sampling to the record, as ratios within one run, on NAS-Bench-201 (C=16, N=5).

    python measurements/candidate.py
    python measurements/candidate.py --table TABLE --data folder:CIFAR10 --architectures 200
    python measurements/candidate.py --only-overheads --data folder:CIFAR10
    python measurements/candidate.py --all --data folder:CIFAR10 --workers 2

With ``--table``, a CSV of NAS-Bench-201 architectures and their accuracies, the scores' rank correlations with the accuracy
of ``--column`` are printed beside their costs. ``--all`` scores all 15,625 architectures instead.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.benchmark import to_sample
from nni_knas.networks import build_network, encode_sample, random_models
from nni_knas.data import DATA_HELP, load_data
from nni_knas.engine import Scorer
from nni_knas.record import Record
from nni_knas.scores import RECOMMENDED

import nni
import numpy as np
import pandas as pd
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.nas.strategy import GridSearch
from scoring import authors_loop, cpu_seconds, plain_pass, seconds
from torch import Tensor, nn
from torch.utils.data import Dataset

AUTHORS = "authors' procedure: 50 passes of one image, Gram mean"
PLAIN = 'plain'
ADAPTIVE = 'steady-rank, 16 images, adaptive effort'
SETTINGS = {  # score, images, pixels
    'steady-rank, 16 images': ('steady-rank', 16, None),
    'steady-rank, 2 images': ('steady-rank', 2, None),
    'steady-rank, 1 image of 16 x 16': ('steady-rank', 1, 16),
    'gradient-rank, 1 image of 16 x 16': ('gradient-rank', 1, 16),
    'gradient-rank, 1 image of 8 x 8': ('gradient-rank', 1, 8),
}


def authors_procedure(model: ExecutableModelSpace, images: Tensor, labels: Tensor) -> float:
    """Build the network through NNI; then a pass a sample; the mean of the Gram matrix."""
    return authors_loop(build_network(model, 0), images, labels)


def candidate(
    space: SimplifiedModelSpace,
    scorer: Scorer,
    record: Record,
    random_state: np.random.RandomState,
    architecture: str | None,
) -> float:
    """What a search does for a candidate: sample, build, score, record."""
    model = space.random(random_state=random_state)  # timed; the architecture that is asked for takes its place
    sample = model.sample if architecture is None else to_sample(architecture)
    verdict = scorer.score(sample)
    assert verdict.score is not None, verdict.reason
    text = encode_sample(sample)
    if record.find(sample) is None:
        record.add_scored(sample, text, verdict.score, verdict.seconds)
    return verdict.score


def costs(options: argparse.Namespace, space: SimplifiedModelSpace, data: Dataset[Any]) -> None:
    architectures, accuracies = [None] * options.architectures, None
    if options.table is not None:
        table = pd.read_csv(options.table).sample(options.architectures, random_state=0)
        architectures, accuracies = list(table.arch_str), table[options.column]
    images, labels = GradientKernelEvaluator(data, 'mgm', 50).minibatch
    scorers = {
        name: Scorer(GradientKernelEvaluator(data, score, n, resolution=pixels), space)
        for name, (score, n, pixels) in SETTINGS.items()
    }
    records = {name: Record(Path(options.folder) / f'{i}.sqlite') for i, name in enumerate(SETTINGS)}
    states = {name: np.random.RandomState(0) for name in SETTINGS}
    for model in random_models(space, 40, 1):  # the skeleton of the space is made and proven once a run
        for scorer in scorers.values():
            scorer.build(model.sample)
    times: dict[str, list[float]] = {name: [] for name in (AUTHORS, *SETTINGS)}
    scores: dict[str, list[float]] = {name: [] for name in (AUTHORS, *SETTINGS)}
    state = np.random.RandomState(0)
    for architecture in architectures:
        model = space.random(random_state=state) if architecture is None else space.freeze(to_sample(architecture))
        for name in times:
            took, score = (
                seconds(authors_procedure, model, images, labels)
                if name == AUTHORS
                else seconds(candidate, space, scorers[name], records[name], states[name], architecture)
            )
            times[name].append(took)
            scores[name].append(score)
    print(f'a whole candidate, {options.architectures} architectures, one thread:')
    print(f'{"ms":>8} {"authors / it":>13}' + (f' {"Spearman":>9}' if accuracies is not None else ''))
    for name, each in times.items():
        line = f'{1000 * statistics.mean(each):8.1f} {statistics.mean(times[AUTHORS]) / statistics.mean(each):13.1f}'
        if accuracies is not None:
            line += f' {pd.Series(scores[name], index=accuracies.index).corr(accuracies, method="spearman"):9.3f}'
        print(f'{line}  {name}')


def overheads(options: argparse.Namespace, space: SimplifiedModelSpace, data: Dataset[Any]) -> None:
    """A score against a plain forward-backward pass of the same network and images, and formats of memory and numbers."""
    print(
        f'\nagainst a plain forward-backward pass, median of {options.networks} networks, of each the medians of '
        f'{options.rounds} rounds in which all take turns, CPU time of one thread:'
    )
    models = list(random_models(space, options.networks, 2))
    for n in options.images:
        ratios: dict[str, list[float]] = {}
        passes = passes_of(data, n)
        for model in models:
            times = in_turns(passes, build_network(model, 0), options.rounds)
            plain = times.pop(PLAIN)
            for name, took in times.items():
                ratios.setdefault(name, []).append(took / plain)
        for name, values in ratios.items():
            print(f'{statistics.median(values):8.2f}  {name}, {n} images')


def passes_of(data: Dataset[Any], n: int) -> dict[str, Callable[[nn.Module], object]]:
    """What is compared, by name: functions of a network."""
    kernels = {name: GradientKernelEvaluator(data, name, n) for name in ('mgm', 'gradient-rank', 'steady-rank', RECOMMENDED)}
    images, labels = kernels['mgm'].minibatch
    channels_last = images.contiguous(memory_format=torch.channels_last)

    def in_bfloat16(network: nn.Module) -> None:
        with torch.autocast('cpu', torch.bfloat16):
            plain_pass(network, images, labels)

    return {
        PLAIN: lambda network: plain_pass(network, images, labels),
        **{name: kernel.score for name, kernel in kernels.items()},
        'the panel': kernels[RECOMMENDED].statistics,
        f'{RECOMMENDED} and the panel, as a search asks for them': kernels[RECOMMENDED].judge,
        'plain, images channels-last': lambda network: plain_pass(network, channels_last, labels),
        'plain, bfloat16': in_bfloat16,
    }


def in_turns(functions: dict[str, Callable[[nn.Module], object]], network: nn.Module, rounds: int) -> dict[str, float]:
    """The median time of each function, all in turn, so that what else the machine does meets all of them.

    The network is in training mode before, and there are no gradients.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            network.train()
            for p in network.parameters():
                p.grad = None
            took, _ = cpu_seconds(function, network)
            if number:  # the first one warms up
                times[name].append(took)
    return {name: statistics.median(took) for name, took in times.items()}


def everything(options: argparse.Namespace, data: Dataset[Any]) -> None:
    """All architectures of the space in one search, as a user runs it."""
    if options.setting == ADAPTIVE:
        kernel, k = GradientKernelEvaluator(data), 20
    else:
        score, n, pixels = SETTINGS[options.setting]
        kernel, k = GradientKernelEvaluator(data, score, n, resolution=pixels), 0
    space = SimplifiedModelSpace.from_model(NasBench201(), FunctionalEvaluator(report_nothing))
    strategy = KNAS(
        kernel,
        candidates=15625,
        top_k=k,
        explorer=GridSearch(shuffle=False),
        record=Path(options.folder) / 'record.sqlite',
        workers=options.workers,
    )
    start = time.perf_counter()
    strategy(space, SequentialExecutionEngine())
    took = time.perf_counter() - start
    scores = strategy.scores()
    print(
        f'{len(scores)} architectures, {scores.score.notna().sum()} of them in full: {options.setting}, {options.workers} '
        f'worker(s), {took:.0f} s, {1000 * took / len(scores):.1f} ms each'
    )


def report_nothing(network: nn.Module) -> None:
    """In the place of training."""
    nni.report_final_result(0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='digits', help=DATA_HELP)
    parser.add_argument('--table', type=Path)
    parser.add_argument('--column', default='cifar10_test_acc')
    parser.add_argument('--architectures', type=int, default=10)
    parser.add_argument('--networks', type=int, default=10, help='for the overheads')
    parser.add_argument('--rounds', type=int, default=9, help='for the overheads')
    parser.add_argument('--images', type=int, nargs='+', default=[16, 2], help='for the overheads')
    parser.add_argument('--only-overheads', action='store_true')
    parser.add_argument('--all', action='store_true')
    parser.add_argument(
        '--setting', choices=[ADAPTIVE, *SETTINGS], default=ADAPTIVE, help='for --all (default: %(default)s)'
    )
    parser.add_argument('--workers', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(options.data).train
    with tempfile.TemporaryDirectory() as options.folder, contextlib.suppress(KeyboardInterrupt):
        if options.all:
            everything(options, data)
        else:
            space = SimplifiedModelSpace.from_model(NasBench201())
            if not options.only_overheads:
                costs(options, space, data)
            overheads(options, space, data)


if __name__ == '__main__':
    main()
