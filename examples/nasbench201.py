"""Search NAS-Bench-201 on digits: 300 candidates scored, three of them trained by NNI's Classification evaluator.

python examples/nasbench201.py
python examples/nasbench201.py --data cifar10 --candidates 1000 --epochs 12
"""

import argparse

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.data import load_data

from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment import NasExperiment
from nni.nas.hub.pytorch import NasBench201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='digits')
    parser.add_argument('--candidates', type=int, default=300)
    parser.add_argument('--top-k', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--images', type=int, help='use at most this many')
    parser.add_argument('--cells', type=int, default=5, help='cells in each of the three stages')
    parser.add_argument('--port', type=int, default=8080)
    options = parser.parse_args()

    data = load_data(options.data, limit=options.images)
    space = NasBench201(num_modules_per_stack=options.cells, num_labels=data.classes)
    evaluator = Classification(
        num_classes=data.classes,
        max_epochs=options.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        train_dataloaders=DataLoader(data.train, batch_size=64, shuffle=True),
        val_dataloaders=DataLoader(data.validation, batch_size=256),
    )
    strategy = KNAS(GradientKernelEvaluator(data.train, batch_size=16), options.candidates, options.top_k)

    experiment = NasExperiment(space, evaluator, strategy)
    experiment.run(options.port)
    print(strategy.scores().head(options.top_k))
    print('Best architecture:', experiment.export_top_models(1, formatter='dict')[0])
    experiment.stop()


if __name__ == '__main__':
    main()
