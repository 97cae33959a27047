"""A model space and a training function of your own, with the learning rate searched together with the architecture.

What is trained is chosen by what the trained ones have taught.
Trials run one after the other in this process (NNI's sequential engine). Afterwards the run is opened from its folder, as
any other process could, for the winner's network with its trained weights.

    python examples/own_space.py
"""

import argparse

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.data import Data, load_data

import nni
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableConv2d, MutableLinear, Repeat
from torch import nn


class SmallNet(ModelSpace):
    """Convolutions of a width, kernel size, activation and depth to be searched."""

    def __init__(self, num_labels: int = 10) -> None:
        super().__init__()
        width = nni.choice('width', [8, 16, 32])
        self.stem = MutableConv2d(3, width, 3, stride=2, padding=1)
        self.body = Repeat(
            lambda i: nn.Sequential(
                LayerChoice(
                    {
                        'conv3': MutableConv2d(width, width, 3, padding=1),
                        'conv5': MutableConv2d(width, width, 5, padding=2),
                        'separable': nn.Sequential(
                            MutableConv2d(width, width, 3, padding=1, groups=width), MutableConv2d(width, width, 1)
                        ),
                    },
                    label=f'layer{i}',
                ),
                LayerChoice({'relu': nn.ReLU(), 'gelu': nn.GELU(), 'tanh': nn.Tanh()}, label='activation'),
            ),
            (1, 4),
            label='depth',
        )
        self.head = MutableLinear(width, num_labels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.body(self.stem(images)).mean((2, 3)))
        return outputs


def train(network: nn.Module, data: Data, epochs: int, learning_rate: float) -> None:
    """Train a network, and report its validation accuracy to NNI."""
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    validation = next(iter(torch.utils.data.DataLoader(data.validation, batch_size=1000)))
    for _ in range(epochs):
        network.train()
        for images, labels in torch.utils.data.DataLoader(data.train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            accuracy = (network(validation[0]).argmax(1) == validation[1]).float().mean().item()
        nni.report_intermediate_result(accuracy)
    nni.report_final_result(accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--candidates', type=int, default=200)
    parser.add_argument('--top-k', type=int, default=5)
    parser.add_argument('--epochs', type=int, default=5)
    parser.add_argument('--images', type=int, help='use at most this many')
    options = parser.parse_args()

    data = load_data('digits', size=16, limit=options.images)
    evaluator = FunctionalEvaluator(
        train, data=data, epochs=options.epochs, learning_rate=nni.choice('learning_rate', [0.001, 0.003, 0.01])
    )
    kernel = GradientKernelEvaluator(data.train, batch_size=32)
    # Each network that is trained teaches which statistics of the others count; choose='rank' trains the best by score.
    strategy = KNAS(kernel, options.candidates, options.top_k, choose='learn')
    experiment = NasExperiment(SmallNet(data.classes), evaluator, strategy, NasExperimentConfig('sequential', 'simplified'))
    experiment.run()
    experiment.stop()

    run = open_run(experiment.id)
    print(run.ranking())
    print(run.choices())  # in which order they were trained, why, and what was expected of each
    if (lessons := run.lessons()) is not None:  # nothing was trained, nothing learned
        print(lessons.sentence)  # whether the score ranks this space
    print('Winner:', run.architecture, 'accuracy', run.metric)
    print(run.network())


if __name__ == '__main__':
    main()
