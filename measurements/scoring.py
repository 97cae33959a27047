"""What a score costs, as ratios within one run, on NAS-Bench-201 (C=16, N=5) and images of 32 x 32.

python measurements/scoring.py
python measurements/scoring.py --threads 2 --architectures 10
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nni_knas import GradientKernelEvaluator
from nni_knas.networks import build_network
from nni_knas.data import load_data
from nni_knas.gradients import Gradients, Loss, Minibatch, main_output, undisturbed

import numpy as np
import torch
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from torch import Tensor, nn
from torch.nn import functional as F

T = TypeVar('T')


def authors_loop(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The authors' procedure: a forward and backward pass a sample, at batch size 1 in training mode; the Gram mean."""
    network.train()
    parameters = list(network.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for image, label in zip(images, labels):
        loss = F.cross_entropy(network(image[None]), label[None])
        for sum_, gradient in zip(total, torch.autograd.grad(loss, parameters, allow_unused=True)):
            if gradient is not None:
                sum_ += gradient
    return float(sum((g / len(images)).double().square().sum() for g in total))


def forward_backward(network: nn.Module, images: Tensor, labels: Tensor) -> Sequence[Tensor]:
    network.train()
    return torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()), allow_unused=True)


def plain_pass(network: nn.Module, inputs: Any, targets: Any, loss: Loss | None = None) -> None:
    """Forward, cross-entropy by default, and backward into the parameters' gradients."""
    (loss or F.cross_entropy)(main_output(network(inputs)), targets).backward()


def half_covariance_loop(network: nn.Module, minibatch: Minibatch) -> list[list[Tensor | None]]:
    """Per-sample gradients by a Python loop over samples."""
    with undisturbed(network):
        gradients = Gradients(network, minibatch)
        names = [name for name in gradients.used() if gradients.parameters[name].numel() >= 50][:11]
        chosen = [gradients.parameters[name] for name in names]
        return [gradients._differentiate(minibatch.part(i, i + 1), chosen) for i in range(minibatch.size)]


def difference(kernel: GradientKernelEvaluator, network: nn.Module) -> float:
    network = copy.deepcopy(network).double()
    score, reference = kernel.score(network), authors_loop(network, *kernel.minibatch.to(kernel.device, torch.float64))
    return abs(score - reference) / reference


def seconds(function: Callable[..., T], *arguments: Any) -> tuple[float, T]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def cpu_seconds(function: Callable[..., T], *arguments: Any) -> tuple[float, T]:
    """The same of the CPU, which other programs use, too."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--architectures', type=int, default=5)
    parser.add_argument('--images', type=int, default=50)
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    space = SimplifiedModelSpace.from_model(NasBench201())
    data = load_data('digits').train
    kernels = {n: GradientKernelEvaluator(data, 'mgm', n) for n in (options.images, 16, 2)}
    half = GradientKernelEvaluator(data, 'half-covariance', options.images)
    ratios: dict[str, list[float]] = {}
    random_state = np.random.RandomState(0)
    for _ in range(options.architectures):
        model = space.random(random_state=random_state)
        building, network = seconds(build_network, model, 0)
        kernel = kernels[options.images]
        kernel.score(network)  # warm up
        ours, _ = seconds(kernel.score, network)
        loop, _ = seconds(authors_loop, network, *kernel.minibatch)
        found = {
            f"authors' loop of {options.images} images / mgm": loop / ours,
            'relative difference of the two scores, 2 images in double precision': difference(kernels[2], network),
            'building the network / mgm of 16 images': building / seconds(kernels[16].score, network)[0],
        }
        for n, kernel in kernels.items():
            kernel.score(network)
            plain = statistics.median(seconds(forward_backward, network, *kernel.minibatch)[0] for _ in range(3))
            found[f'mgm / plain forward-backward, {n} images'] = (
                statistics.median(seconds(kernel.score, network)[0] for _ in range(3)) / plain
            )
            whole = GradientKernelEvaluator(data, None, n)  # the recommended score with the panel that it is made of
            whole.judge(network)
            found[f'panel and score / plain forward-backward, {n} images'] = (
                statistics.median(seconds(whole.judge, network)[0] for _ in range(3)) / plain
            )
        looped = seconds(half_covariance_loop, network, half.minibatch)[0]
        found['half-covariance by a loop / vectorised'] = looped / seconds(half.score, network)[0]
        for name, ratio in found.items():
            ratios.setdefault(name, []).append(ratio)
    print(f'median over {options.architectures} architectures, {options.threads} thread(s):')
    for name, values in ratios.items():
        print(f'{statistics.median(values):10.3g}  {name}')


if __name__ == '__main__':
    main()
