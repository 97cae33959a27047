"""What a search costs besides its scores: python measurements/scale.py [--candidates N] [--explorer random|evolution].

The scores cost nothing here, so that all the time and memory seen are the strategy's, the engine's, the record's and NNI's.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nni_knas
from nni_knas.networks import COSTS, encode_sample
from nni_knas.engine import InProcess, Task, Verdict

import psutil
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import DARTS
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import RegularizedEvolution
from torch import nn


class Edges(ModelSpace):
    """Like NasBench201, but 5 operations on 12 edges, so that there are enough candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.ModuleList(LayerChoice([nn.Identity() for _ in range(5)], label=f'edge{i}') for i in range(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for edge in self.edges:
            x = edge(x)
        return x.mean((2, 3))


class Free(InProcess):
    """Gives a number that depends on the candidate, without building it; notes memory on the way, may kill the process."""

    def __init__(self, candidates: int, kill_at: int, statistics: int) -> None:
        super().__init__()
        self.candidates, self.kill_at, self.seconds = candidates, kill_at, 0.0
        self.names = [f'statistic {number}' for number in range(1, statistics + 1)]

    def get(self) -> list[tuple[Task, Verdict]]:
        start = time.perf_counter()
        task = self._waiting.popleft()
        digest = hashlib.blake2b(encode_sample(task.sample).encode(), digest_size=6).digest()
        if task.number in (self.candidates // 10, self.candidates // 2, self.candidates):
            print(f'  {task.number:>7} candidates: {psutil.Process().memory_info().rss / 2**20:.0f} MiB of memory')
        if task.number == self.kill_at:
            os.kill(os.getpid(), 9)
        score = int.from_bytes(digest, 'big') / 2**48
        panel = {name: score / number for number, name in enumerate(self.names, start=1)} or None
        self.seconds += time.perf_counter() - start
        return [(task, Verdict(score, None, 0.0, panel=panel))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--candidates', type=int, default=100_000)
    parser.add_argument('--explorer', choices=['random', 'evolution'], default='random')
    parser.add_argument('--space', choices=['edges', 'darts'], default='edges')
    parser.add_argument('--statistics', type=int, default=20, metavar='N', help='in the panel of each candidate; 0: none')
    parser.add_argument('--record', help=argparse.SUPPRESS)
    parser.add_argument('--kill-at', type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.record:
        search(arguments, Path(arguments.record))
        return
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / 'record.sqlite'
        print(f'{arguments.candidates} candidates, {arguments.explorer}, {arguments.space}')
        run(record, arguments)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f'record: {size / 2**20:.1f} MiB')
        start = time.perf_counter()
        frame = nni_knas.record.Record(record, readonly=True).frame()
        print(f'opened and read into a table of {len(frame)} rows in {time.perf_counter() - start:.1f} s')
        start = time.perf_counter()
        frame = nni_knas.record.Record(record, readonly=True).frame(panel=True)
        print(f'the same with panels, {len(frame.columns)} columns, in {time.perf_counter() - start:.1f} s')
        killed = Path(folder) / 'killed.sqlite'
        print('killed shortly before the end:')
        run(killed, arguments, f'--kill-at={arguments.candidates - arguments.candidates // 100}')
        print('resumed:')
        run(killed, arguments)
        other = nni_knas.record.Record(killed, readonly=True).frame(panel=True)
        measured = list(COSTS)  # as far as the time at the end of a search suffices
        same = other.drop(columns=measured).equals(frame.drop(columns=measured))
        print(f'the killed and resumed run is the same as the other: {same}')


def run(record: Path, arguments: argparse.Namespace, *more: str) -> None:
    """A search in a process of its own."""
    subprocess.run(
        [
            sys.executable,
            __file__,
            f'--record={record}',
            f'--candidates={arguments.candidates}',
            f'--explorer={arguments.explorer}',
            f'--space={arguments.space}',
            f'--statistics={arguments.statistics}',
            *more,
        ],
        check=False,
    )


def search(arguments: argparse.Namespace, record: Path) -> None:
    kernel = nni_knas.GradientKernelEvaluator((torch.zeros(4, 3, 32, 32), torch.arange(4) % 3))
    kernel.check = lambda network: None  # type: ignore[method-assign]
    explorer = RegularizedEvolution(seed=0) if arguments.explorer == 'evolution' else None
    space = Edges() if arguments.space == 'edges' else DARTS(16, 8, 'cifar')
    placement = Free(arguments.candidates, arguments.kill_at, arguments.statistics)
    strategy = nni_knas.KNAS(kernel, arguments.candidates, 0, explorer, record=record, placement=placement)
    known, notes = len(nni_knas.record.Record(record)), count_checkpoints()
    start = time.perf_counter()
    strategy(SimplifiedModelSpace.from_model(space), SequentialExecutionEngine())
    seconds = time.perf_counter() - start
    new = arguments.candidates - known
    print(
        f"  {new} new candidates in {seconds:.1f} s, the benchmark's own work {placement.seconds:.1f} s: "
        f'{(seconds - placement.seconds) / new * 1e3:.3f} ms a candidate'
    )
    print(f'  {notes["number"]} checkpoints, {notes["bytes"] / 2**20:.2f} MiB together, {notes["seconds"]:.2f} s')


def count_checkpoints() -> dict[str, float]:
    notes = {'number': 0, 'bytes': 0, 'seconds': 0.0}
    write = nni_knas.record.Record.set_meta

    def set_meta(self: nni_knas.record.Record, key: str, value: str | bytes | float) -> None:
        start = time.perf_counter()
        write(self, key, value)
        if key.startswith('checkpoint') and isinstance(value, (str, bytes)):
            notes['number'] += 1
            notes['bytes'] += len(value)
            notes['seconds'] += time.perf_counter() - start

    nni_knas.record.Record.set_meta = set_meta  # type: ignore[method-assign]
    return notes


if __name__ == '__main__':
    main()
