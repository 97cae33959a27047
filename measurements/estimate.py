"""How well the energy of training all candidates is told from the trials of a few: python measurements/estimate.py

Every candidate of a search on NAS-Bench-201 is trained for an epoch, and what that took is compared with the estimates that
the same search would have given after training but the best few by score.
"""

from __future__ import annotations

import nni_knas  # first: it imports NNI without NNI's noise

import argparse
import os
import socket
import tempfile

import nni
from nni.nas.experiment import NasExperiment
from nni.nas.hub.pytorch import NasBench201

from nni_knas import KNAS, open_run
from nni_knas.footprint import estimate_of
from nni_knas.config import SearchOptions
from nni_knas.basics.texts import energy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--candidates', type=int, default=40, help='how many, all to be trained (default: %(default)s)')
    parser.add_argument('--images', type=int, default=500, help='training images (default: %(default)s)')
    arguments = parser.parse_args()
    nni.silence_stdout()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    options = SearchOptions(images=arguments.images, image_size=16, epochs=1, train_batch=32)
    data = options.load_data()
    strategy = KNAS(options.make_kernel(data), arguments.candidates, arguments.candidates, effort='full')
    with tempfile.TemporaryDirectory() as folder:
        experiment = NasExperiment(NasBench201(num_labels=data.classes), options.make_evaluator(data), strategy)
        experiment.config.trial_concurrency = 2
        experiment.config.experiment_working_directory = folder
        try:
            experiment.run(free_port())
        finally:
            experiment.stop()
        run = open_run(f'{folder}/{experiment.id}')
        report(run)


def free_port() -> int:
    """A port for NNI's manager."""
    with socket.socket() as probe:
        probe.bind(('', 0))
        return int(probe.getsockname()[1])


def report(run: nni_knas.Run) -> None:
    """Print what all trials took, and what the first few by score would have told of that."""
    trained = run.scores(all=True)
    trained = trained[trained.training_kwh.notna()]
    total = trained.training_kwh.sum()
    print(f'training all {len(trained)} took {energy(total)}, the fine stage {energy(run.footprint().stages.kwh["fine"])}')
    for k in (3, 5, 10, 20):
        best = trained[:k]
        estimate = estimate_of(best.training_kwh.tolist(), best.training_seconds.tolist(), len(trained))
        if estimate is not None and k < len(trained):
            print(
                f'by the best {k:>2} by score: {energy(estimate.kwh)}, {energy(estimate.low)} to {energy(estimate.high)}, '
                f'{estimate.kwh / total:.2f} times as much'
            )


if __name__ == '__main__':
    main()
