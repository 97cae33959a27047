"""What each score costs, by itself."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from statistics import median

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from nni_knas.benchmark.aggregates import with_parts
from nni_knas.benchmark.base import Benchmark
from nni_knas.gradients import Minibatch, main_output, wait_for_device
from nni_knas.kernel import GradientKernelEvaluator, draw_minibatch
from nni_knas.scores import Score

__all__ = ['PLAIN_IMAGES', 'cost']

PLAIN_IMAGES = 32


def cost(
    benchmark: Benchmark, kernel: GradientKernelEvaluator, architectures: Sequence[str], scores: Sequence[Score]
) -> pd.DataFrame:
    """Time of each score by itself, on a few architectures, with nothing shared.

    Parameters
    ----------
    benchmark
        The benchmark that gives the networks.
    kernel
        Scores them; its minibatch and device are those that are timed.
    architectures
        The few architectures.
    scores
        The scores to be timed.

    Returns
    -------
    pandas.DataFrame
        A row a score. ``seconds``: median over the architectures of the time of scoring, without building the network.
        ``passes``: median of its ratio to one plain forward-backward pass of 32 images through the same network. ``nan``
        for a score that fails everywhere. An aggregate costs the sum of its parts. ``attrs`` hold the medians
        ``build_seconds`` and ``plain_seconds``.
    """
    images = draw_minibatch(kernel.dataset, PLAIN_IMAGES, kernel.seed).to(kernel.device)
    building, plain = [], []
    alone = with_parts(scores)
    spent: dict[str, list[tuple[float, float]]] = {score.name: [] for score in alone}
    for architecture in tqdm(architectures, desc='Timing', unit='architecture', disable=None):
        start = time.perf_counter()
        try:
            network = benchmark.network(architecture, kernel.seed)
            building.append(time.perf_counter() - start)
            network.to(kernel.device)
            _training_pass(network, images)  # the first pass through a network is slower
            plain.append(_seconds_of(functools.partial(_training_pass, network, images), kernel.device))
            network.zero_grad(set_to_none=True)
        except Exception:  # the reason stands in the table of scores
            continue
        for score in alone:
            seconds = _scoring_seconds(score, kernel, network)
            if seconds is not None:
                spent[score.name].append((seconds, seconds / plain[-1]))
    table = pd.DataFrame(
        [_sums([_medians(spent[part.name]) for part in with_parts([score])]) for score in scores],
        columns=['seconds', 'passes'],
        index=[score.name for score in scores],
        dtype='float64',
    )
    table.attrs = {'build_seconds': _median(building), 'plain_seconds': _median(plain), 'architectures': len(plain)}
    return table


def _scoring_seconds(score: Score, kernel: GradientKernelEvaluator, network: nn.Module) -> float | None:
    try:
        with kernel.gradients(network) as gradients:
            return _seconds_of(lambda: score(gradients), kernel.device)
    except Exception:
        return None


def _training_pass(network: nn.Module, images: Minibatch) -> None:
    network.train()
    F.cross_entropy(main_output(network(images.inputs)), images.targets).backward()


def _seconds_of(function: Callable[[], object], device: torch.device) -> float:
    wait_for_device(device)
    start = time.perf_counter()
    function()
    wait_for_device(device)
    return time.perf_counter() - start


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return _median([seconds for seconds, _ in pairs]), _median([ratio for _, ratio in pairs])


def _sums(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(seconds for seconds, _ in pairs), sum(ratio for _, ratio in pairs)


def _median(values: list[float]) -> float:
    return median(values) if values else float('nan')
