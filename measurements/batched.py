"""Throughput against the number of candidates that go through a pass together, on NAS-Bench-201 (C=16, N=5), with the panel.

python measurements/batched.py
python measurements/batched.py --images 2 --size 16
python measurements/batched.py --candidates 15625 --together 1 16 64 256      # on a GPU
"""

import argparse
import math
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nni_knas import GradientKernelEvaluator
from nni_knas.data import load_data
from nni_knas.engine import Scorer, Verdict

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from nni.mutable import Sample
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace


@contextmanager
def watched_gpu(device: torch.device) -> Iterator[tuple[list[float], list[float]]]:
    """Utilisation (percent) and power (watts) of the GPU inside, as lists; empty without one, or without nvidia-ml-py."""
    seen: tuple[list[float], list[float]] = ([], [])
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen[0].append(torch.cuda.utilization(device))
            seen[1].append(torch.cuda.power_draw(device) / 1000)

    def watch_where_it_can() -> None:
        try:
            watch()
        except Exception as error:
            print(f'(the GPU cannot be watched: {error})')

    watcher = threading.Thread(target=watch_where_it_can, daemon=True)
    if device.type == 'cuda':
        watcher.start()
    try:
        yield seen
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()


class Counting(TorchDispatchMode):
    """Counts the operations that are carried out, which a GPU has to be given one by one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func is torch.ops.aten._unsafe_view.default)
        return func(*args, **(kwargs or {}))


def measured(
    kernel: GradientKernelEvaluator, space: SimplifiedModelSpace, samples: list[Sample]
) -> tuple[float, float, tuple[list[float], list[float]], list[Verdict]]:
    """Seconds, operations a candidate, what was seen of the GPU, and the verdicts; all options were seen before."""
    scorer = Scorer(kernel, space)
    known = [True] * len(samples)
    scorer.score_many(samples[: max(64, kernel.together)], False, known)
    with watched_gpu(kernel.device) as seen:
        clock = time.perf_counter if kernel.device.type == 'cuda' else time.process_time  # others may use the CPU
        start = clock()
        verdicts = scorer.score_many(samples, False, known)
        seconds = clock() - start
    with Counting() as operations:
        scorer.score_many(samples[:64], False, known)
    return seconds, operations.count / len(samples[:64]), seen, verdicts


def worst_difference(verdicts: list[Verdict], expected: list[Verdict]) -> float:
    found: float = max(
        abs(verdict.panel[name] - value) / max(abs(value), 1e-9)
        for verdict, other in zip(verdicts, expected)
        if isinstance(verdict.panel, dict) and isinstance(other.panel, dict)
        for name, value in other.panel.items()
    )
    return found


def ranks(verdicts: list[Verdict]) -> Any:
    return np.argsort([-math.inf if verdict.score is None else verdict.score for verdict in verdicts], kind='stable')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--candidates', type=int, default=64)
    parser.add_argument('--together', type=int, nargs='+', default=[1, 4, 16, 64])
    parser.add_argument('--images', type=int, default=16)
    parser.add_argument('--size', type=int, default=32, help='pixels of an image')
    parser.add_argument('--data', default='digits')
    options = parser.parse_args()

    space = SimplifiedModelSpace.from_model(NasBench201())
    data = load_data(options.data, size=options.size).train
    random_state = np.random.RandomState(0)
    samples = [dict(space.random(random_state=random_state).sample) for _ in range(options.candidates)]
    columns = (
        'together',
        'ms',
        'a second',
        'times as fast',
        'operations',
        'GPU',
        'J a candidate',
        'worst difference',
        'same ranking',
    )
    print(f'| {" | ".join(columns)} |\n|{" --- |" * len(columns)}')
    first = None
    for together in options.together:
        kernel = GradientKernelEvaluator(data, batch_size=options.images, together=together)
        seconds, operations, (busy, watts), verdicts = measured(kernel, space, samples)
        first = first or (seconds, verdicts)
        each = seconds / len(samples)
        print(
            f'| {together} | {1000 * each:.1f} | {1 / each:.1f} | {first[0] / seconds:.2f} | {operations:.0f} '
            f'| {f"{statistics.mean(busy):.0f} %" if busy else "-"} '
            f'| {f"{statistics.mean(watts) * each:.3f}" if watts else "-"} '
            f'| {worst_difference(verdicts, first[1]):.1e} | {bool((ranks(verdicts) == ranks(first[1])).all())} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
