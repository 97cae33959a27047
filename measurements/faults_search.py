"""The searches that faults.py kills: what is searched, the log of what has completed, and the processes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nni_knas
from nni_knas.scores import MGM, register

import nni
import pandas as pd
import psutil
import torch
from nni.nas.evaluator import FunctionalEvaluator
from torch import nn
from torch.utils.data import DataLoader

CANDIDATES, TOP_K = 60, 3
SECONDS_TO_SCORE, SECONDS_TO_TRAIN = 0.1, 4.0
SPACE = {
    'first': {'_type': 'choice', '_value': [4, 6, 8, 10, 12, 14, 16, 18]},
    'second': {'_type': 'choice', '_value': [4, 6, 8, 10, 12, 14, 16, 18]},
    'activation': {'_type': 'choice', '_value': ['ReLU', 'Tanh', 'Sigmoid', 'GELU']},
}
LOG, TOKEN = 'FAULTS_LOG', 'FAULTS_TOKEN'
COMMAND = 'import sys, faults_search; faults_search.take_the_place_of_mgm(); from nni_knas.cli import main; sys.exit(main())'


# What is searched; trials and workers import it.


class Network(nn.Sequential):
    """A network that knows which it is."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        first, second, activation = parameters['first'], parameters['second'], getattr(nn, parameters['activation'])
        super().__init__(
            nn.Flatten(), nn.Linear(192, first), activation(), nn.Linear(first, second), activation(), nn.Linear(second, 10)
        )
        self.architecture = spelled(parameters)


def spelled(parameters: dict[str, Any]) -> str:
    return '-'.join(str(parameters[label]) for label in SPACE)


def build(parameters: dict[str, Any]) -> nn.Module:
    return Network(parameters)


def architecture_of(network: nn.Module) -> str:
    return next(module.architecture for module in network.modules() if isinstance(module, Network))


def note(what: str, network: nn.Module) -> None:
    """One line in the log; what is appended by one call is whole, whoever else writes."""
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f'{what} {os.getpid()} {architecture_of(network)}\n'.encode())
    os.close(file)


class LoggedMGM(MGM):
    """Takes the place of mgm: it takes its time, and notes when it has been computed."""

    def __call__(self, gradients: Any) -> float:
        time.sleep(SECONDS_TO_SCORE)
        score = super().__call__(gradients)
        note('scored', gradients.network)
        return score


def take_the_place_of_mgm() -> None:
    """In the process of a search: whoever only imports this module keeps mgm."""
    register(LoggedMGM)


def evaluator(data: Any) -> FunctionalEvaluator:
    return FunctionalEvaluator(train)


def train(network: nn.Module) -> None:
    """A training that takes its time, and notes when it begins and has completed."""
    note('began', network)
    data = nni_knas.data.load_data('digits', size=8, limit=200)
    images, labels = next(iter(DataLoader(data.train, batch_size=200)))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(10):
        optimizer.zero_grad()
        outputs = network(images)
        nn.functional.cross_entropy(outputs, labels).backward()
        optimizer.step()
        nni.report_intermediate_result((outputs.argmax(1) == labels).float().mean().item())
        time.sleep(SECONDS_TO_TRAIN / 10)
    note('trained', network)
    nni.report_final_result((network(images).argmax(1) == labels).float().mean().item())


# Its processes, its log and its record.


class Line(NamedTuple):
    """One of the log."""

    what: str
    pid: int
    architecture: str


class Snapshot(NamedTuple):
    """What a record holds: scores, metrics, and reasons of failed trainings, by architecture."""

    scores: dict[str, float]
    metrics: dict[str, float]
    failed: dict[str, str | None]


def by_architecture(column: pd.Series) -> dict[str, Any]:
    return {str(architecture): value for architecture, value in column.items()}


class Search:
    """A search by the command line, with a home of its own.

    Parameters
    ----------
    folder
        Its home.
    workers
        In how many worker processes it scores; in its own by default.
    """

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder, self.workers = folder, workers
        self.token = uuid.uuid4().hex
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        (folder / 'space.json').write_text(json.dumps(SPACE))
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        more = ['--workers', str(self.workers)] if self.workers else []
        self._run(
            *('search', '--network', 'faults_search:build', '--search-space', 'space.json', '--data', 'digits'),
            *('--image-size', '8', '--batch-size', '8', '--score', 'mgm', '--evaluator', 'faults_search:evaluator'),
            *('--candidates', str(CANDIDATES), '--top-k', str(TOP_K), '--concurrency', '2', '--port', str(self.port), *more),
        )

    def resume(self) -> None:
        """Take it up on its own port; where it was killed before there was a run, begin it."""
        run = self.run_folder()
        self.start() if run is None else self._run('resume', run.name, '--port', str(self.port))

    def _run(self, *arguments: str) -> None:
        environment = {
            **os.environ,
            'HOME': str(self.folder),
            'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get('PYTHONPATH')])]),
            'OMP_NUM_THREADS': '1',
            LOG: str(self.folder / 'log'),
            TOKEN: self.token,
        }
        with (self.folder / 'stdout').open('ab') as output, (self.folder / 'stderr').open('ab') as errors:
            self.process = subprocess.Popen(
                [sys.executable, '-c', COMMAND, *arguments], env=environment, cwd=self.folder, stdout=output, stderr=errors
            )

    def run_folder(self) -> Path | None:
        return next((path.parent.parent for path in self.folder.glob('nni-experiments/[!_]*/knas/config.json')), None)

    def log(self) -> list[Line]:
        path = self.folder / 'log'
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [Line(what, int(pid), architecture) for what, pid, architecture in lines]

    def count(self, what: str) -> int:
        return len({line.architecture for line in self.log() if line.what == what})

    def record(self) -> Snapshot:
        run = self.run_folder()
        if run is None or not (run / 'knas' / 'record.sqlite').exists():
            return Snapshot({}, {}, {})
        frame = nni_knas.open_run(run).scores(all=True)
        frame.index = frame.architecture.map(spelled)
        failed = frame[frame.status == 'training-failed']
        return Snapshot(*map(by_architecture, (frame.score.dropna(), frame.metric.dropna(), failed.reason)))

    def training(self) -> list[int]:
        """The processes that train now."""
        ended = {line.pid for line in self.log() if line.what == 'trained'}
        return [line.pid for line in self.log() if line.what == 'began' and line.pid not in ended and self._is_own(line.pid)]

    def scoring(self) -> list[int]:
        """The workers."""
        pids = {line.pid for line in self.log() if line.what == 'scored'} - {self.process.pid}
        return sorted(pid for pid in pids if self._is_own(pid))

    def waits_until(self, condition: Callable[[], Any]) -> bool:
        """Wait for something; ``False`` if the search has ended before."""
        while self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.05)
        return False

    def goes_on_for(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        return self.waits_until(lambda: time.monotonic() >= end)

    def left_alive(self, patience: float = 10.0) -> list[psutil.Process]:
        """Processes of the search that run on though it has ended."""
        end = time.monotonic() + patience
        while alive := [process for process in psutil.process_iter() if self._is_own(process.pid)]:
            if time.monotonic() >= end:
                break
            time.sleep(0.5)
        return alive

    def abandon(self) -> None:
        for process in self.left_alive(0):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def last_words(self) -> str:
        return ((self.folder / 'stderr').read_text().strip().splitlines() or ['nothing'])[-1]

    def _is_own(self, pid: int) -> bool:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(TOKEN) == self.token
        return False
