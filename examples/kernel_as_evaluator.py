"""The kernel as the plain evaluator of an NNI experiment: each trial scores a network instead of training it.

No KNAS strategy is involved, so anything of NNI goes with it: here random search on the local training service.

    python examples/kernel_as_evaluator.py
"""

import argparse

from nni_knas import GradientKernelEvaluator
from nni_knas.data import image_data

from nni.nas.experiment import NasExperiment
from nni.nas.hub.pytorch import NasBench201
from nni.nas.strategy import Random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=4)
    parser.add_argument('--cells', type=int, default=5, help='cells in each of the three stages')
    parser.add_argument('--port', type=int, default=8080)
    options = parser.parse_args()

    # Data that is traced, as by nni.trace, travels to the trials by name; they load it anew.
    kernel = GradientKernelEvaluator(image_data(name='digits', part='train'), batch_size=16)
    experiment = NasExperiment(NasBench201(num_modules_per_stack=options.cells), kernel, Random(seed=0))
    experiment.config.max_trial_number = options.trials
    experiment.config.trial_concurrency = 2
    experiment.run(options.port)
    for model in experiment.strategy.list_models():
        print(f'{model.metric:.4g}', model.sample)
    experiment.stop()


if __name__ == '__main__':
    main()
