"""Regularized evolution explores NAS-Bench-201 by scores, against random search with the same number of candidates.

Nothing is trained (top_k=0), so a thousand candidates take minutes; both searches see the same images.

    python examples/evolution.py
"""

import argparse

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.data import load_data

from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.hub.pytorch import NasBench201
from nni.nas.strategy import Random, RegularizedEvolution


def train(network: object) -> None:
    """Nothing: with top_k=0 no candidate gets here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--candidates', type=int, default=300)
    parser.add_argument('--population', type=int, default=50)
    parser.add_argument('--cells', type=int, default=5, help='cells in each of the three stages')
    options = parser.parse_args()

    kernel = GradientKernelEvaluator(load_data('digits').train, batch_size=16)
    explorers = {
        'random': Random(seed=0),
        'evolution': RegularizedEvolution(
            population_size=options.population, sample_size=options.population // 4 or 1, mutation_prob=0.2, seed=0
        ),
    }
    for name, explorer in explorers.items():
        strategy = KNAS(kernel, options.candidates, top_k=0, explorer=explorer)
        experiment = NasExperiment(
            NasBench201(num_modules_per_stack=options.cells),
            FunctionalEvaluator(train),
            strategy,
            NasExperimentConfig('sequential', 'simplified'),
        )
        experiment.run()
        experiment.stop()
        scores = strategy.scores().score
        print(f'{name:10} best score {scores.iloc[0]:.4g}, mean of the best 20 {scores.head(20).mean():.4g}')


if __name__ == '__main__':
    main()
