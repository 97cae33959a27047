"""What tests kill: a search in a process of its own, and the metering of one.

The files ``may score`` and ``may train`` in the folder of the search, where they are there, say how many candidates may
be scored and trained before they are changed.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import nni
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import TPE, Random, RegularizedEvolution
from processes import Forked
from servers import free_port
from spaces import LoggedMGM, TinySpace, tiny_kernel, train, write_line

from nni_knas import KNAS
from nni_knas.basics.names import Choose
from nni_knas.footprint import Meter
from nni_knas.record import Record
from nni_knas.runs.sessions import session
from nni_knas.search.fine import FineStage

EXPLORERS = {
    'unseeded': lambda: Random(),  # what it draws is not known beforehand, and has to be the same after a restart
    'evolution': lambda: RegularizedEvolution(population_size=5, sample_size=3, mutation_prob=0.3),
    'tpe': lambda: TPE(),
}


def make(
    engine: str,
    identity: str,
    folder: Path,
    explorer: str = 'unseeded',
    pause: float = 0.0,
    training: float = 0.0,
    top_k: int = 3,
    concurrency: int = 1,
    choose: Choose = 'rank',
) -> NasExperiment:
    kernel = tiny_kernel(score=LoggedMGM(str(folder / 'scored'), pause, folder / 'may score'))
    strategy = KNAS(kernel, candidates=15, top_k=top_k, explorer=EXPLORERS[explorer](), choose=choose)
    evaluator = FunctionalEvaluator(
        train,
        log=str(folder / 'trained'),
        seconds=training,
        gate=str(folder / 'may train'),
        learning_rate=nni.choice('learning_rate', [0.1, 0.2]),
    )
    config = NasExperimentConfig(engine, 'simplified', 'local')
    config.trial_concurrency = concurrency
    config.experiment_working_directory = str(folder)
    return NasExperiment(TinySpace(), evaluator, strategy, config, id=identity)


def work(action: str, engine: str, identity: str, folder: Path, port: int | None = None, **options: Any) -> None:
    """Run or resume a search, and stop the experiment."""
    FineStage.patience = 600.0  # NNI may take its time to start trials again
    experiment = make(engine, identity, folder, **options)
    getattr(experiment, action)(port or free_port())
    experiment.stop()


def idle(path: Path, log: Path, interval: float) -> None:
    """Meter a stage in which nothing is done, until it is killed, and log the beginning of each reading that has ended."""
    tick = Meter.tick

    def logged(meter: Meter) -> None:
        begun = time.time()
        tick(meter)
        write_line(str(log), repr(begun))

    Meter.tick, Meter.interval, Meter.share = logged, interval, 1.0
    with session(Record(path), {}) as meter, meter.stage('coarse'):
        threading.Event().wait()


def start(action: str, folder: Path, engine: str = 'sequential', **options: Any) -> Forked:
    """Run or resume the search ``killed`` of a folder."""
    return Forked(work, action, engine, 'killed', folder, **options)


def let(folder: Path, *, score: int | None = None, train: int | None = None) -> None:
    """Let so many candidates be scored, and trained; ``None`` is all."""
    for name, number in (('may score', score), ('may train', train)):
        if number is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_text(str(number))


def kill(process: Forked) -> None:
    process.kill()


if __name__ == '__main__':
    torch.set_num_threads(1)
    action, engine, identity, folder, port, explorer, pause, training = sys.argv[1:]
    work(action, engine, identity, Path(folder), int(port), explorer=explorer, pause=float(pause), training=float(training))
