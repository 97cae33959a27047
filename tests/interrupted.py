"""A search in a process of its own, for tests that kill it: python interrupted.py ACTION ENGINE ID FOLDER PORT."""

from __future__ import annotations

import sys
from pathlib import Path

import nni
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import TPE, Random, RegularizedEvolution
from spaces import LoggedMGM, TinySpace, tiny_kernel, train

from nni_knas import KNAS

EXPLORERS = {
    'unseeded': lambda: Random(),  # what it draws is not known beforehand, and has to be the same after a restart
    'evolution': lambda: RegularizedEvolution(population_size=5, sample_size=3, mutation_prob=0.3),
    'tpe': lambda: TPE(),
}


def make(engine: str, identity: str, folder: Path, explorer: str = 'unseeded', pause: float = 0.0,
         training: float = 0.0) -> NasExperiment:
    kernel = tiny_kernel(score=LoggedMGM(str(folder / 'scored'), pause))
    strategy = KNAS(kernel, candidates=15, top_k=3, explorer=EXPLORERS[explorer]())
    evaluator = FunctionalEvaluator(train, log=str(folder / 'trained'), seconds=training,
                                    learning_rate=nni.choice('learning_rate', [0.1, 0.2]))
    config = NasExperimentConfig(engine, 'simplified', 'local')
    config.trial_concurrency = 1
    config.experiment_working_directory = str(folder)
    return NasExperiment(TinySpace(), evaluator, strategy, config, id=identity)


if __name__ == '__main__':
    torch.set_num_threads(1)
    action, engine, identity, folder, port, explorer, pause, training = sys.argv[1:]
    experiment = make(engine, identity, Path(folder), explorer, float(pause), float(training))
    getattr(experiment, action)(int(port))
    experiment.stop()
