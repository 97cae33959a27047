"""How much faster worker processes score, as a ratio within one run, and whether the scores are the same to the last bit.

    python measurements/placements.py
    python measurements/placements.py --workers 8 --candidates 200

NAS-Bench-201 (C=16, N=5) and images of 32 x 32; one CPU thread a process. The time of a placement is that from when each
worker has given a verdict to the last one, so that the start of the workers, which is printed by itself, does not count.
"""

import argparse
import logging
import time

import nni_knas
from nni_knas.engine import InProcess, Placement, Task, Verdict, Workers

import numpy as np
import pandas as pd
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import SimplifiedModelSpace


def noted(placement: Placement) -> list[float]:
    """When a placement gives verdicts: a list that grows while it does."""
    get = placement.get
    times: list[float] = []

    def get_and_note() -> list[tuple[Task, Verdict]]:
        verdicts = get()
        times.extend([time.perf_counter()] * len(verdicts))
        return verdicts

    placement.get = get_and_note  # type: ignore[method-assign]
    return times


def search(
    space: ModelSpace, placement: Placement, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, float, float, float]:
    """Scores, seconds a candidate, seconds that each is in work, and seconds until the first verdict."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(arguments.batch_size, 3, 32, 32, generator=generator), torch.arange(arguments.batch_size) % 10
    kernel = nni_knas.GradientKernelEvaluator(data, score=arguments.score, batch_size=arguments.batch_size, device='cpu')
    strategy = nni_knas.KNAS(kernel, arguments.candidates, 0, placement=placement)
    times = noted(placement)
    start = time.perf_counter()
    strategy(SimplifiedModelSpace.from_model(space), SequentialExecutionEngine())
    scores = strategy.scores(all=True)
    at_work = getattr(placement, 'workers', 1)
    seconds = (times[-1] - times[at_work - 1]) / (len(times) - at_work)
    return scores, seconds, scores.seconds.mean(), times[0] - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--candidates', type=int, default=24)
    parser.add_argument('--rounds', type=int, default=2, help='each placement in turn, to even out a busy machine')
    parser.add_argument('--score', default=None)
    parser.add_argument('--batch-size', type=int, default=16)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    space = NasBench201(num_labels=10)
    ratios = []
    for _ in range(arguments.rounds):
        results = [search(space, placement, arguments) for placement in (InProcess(), Workers(arguments.workers))]
        for name, (_, seconds, own, first) in zip(('process', f'{arguments.workers} workers'), results):
            print(f'{name:>10}: {seconds:.3f} s a candidate, {own:.3f} s in work each, first verdict after {first:.1f} s')
        frames = [scores.drop(columns=['seconds', 'training_seconds', 'metric']) for scores, *_ in results]
        print(f'            same scores, ids and ranking to the last bit: {frames[0].equals(frames[1])}')
        ratios.append(results[0][1] / results[1][1])
        slower = results[1][2] / results[0][2]  # by other things that the machine does, and by sharing its memory
        print(f'            a candidate is {slower:.2f} times as long in work in a worker as in one process')
        print(f'            {arguments.workers} workers are {ratios[-1]:.2f} times as fast as one process')
    print(f'speed-up of {arguments.workers} workers: {np.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})')


if __name__ == '__main__':
    main()
