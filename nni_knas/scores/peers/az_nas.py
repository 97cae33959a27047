"""Three of the four parts of AZ-NAS. ``nni_knas.benchmark`` has the aggregate of their ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nni_knas.gradients import Gradients, NotApplicable, module_outputs
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import entropy, spectrum
from nni_knas.scores.peers.blocks import Features, blocks_of, checked, features_of, without_heads


@register
class Expressivity(Score):
    r"""Entropy of the spectrum of the features' covariance, summed over blocks.

    .. math::

        \sum_l H_l, \qquad H_l = -\sum_k \tilde\lambda_{l,k} \log \tilde\lambda_{l,k}

    with :math:`\tilde\lambda_l` the eigenvalues, as parts of their sum, of the covariance of the channels of
    block ``l``'s output over samples and positions. From 0 to the sum of the logarithms of the numbers of channels.

    Source: Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024. Its
    blocks are those of its spaces, named one by one; here they are found in the network, see
    :func:`~nni_knas.scores.peers.blocks.blocks_of`. Eigenvalues below zero, which rounding makes and whose logarithm
    is none, count as zero, and so does the entropy of features that are constant: both are minus infinity in the authors'
    code. There BatchNorm uses the minibatch's statistics and the data are noise; here they are the kernel's. It reads no
    targets.
    """

    name = 'az-expressivity'
    passes = '0 (one forward pass)'

    def __call__(self, gradients: Gradients) -> float:
        return math.fsum(_entropies(gradients))


@register
class Progressivity(Score):
    r"""The least that the entropy of the features grows from one block to the next.

    .. math::

        \min_l \, (H_{l+1} - H_l)

    with :math:`H_l` as in ``az-expressivity``, its source and its assumptions. Below zero where a block loses some.
    """

    name = 'az-progressivity'
    passes = '0 (one forward pass)'

    def __call__(self, gradients: Gradients) -> float:
        entropies = _entropies(gradients)
        if len(entropies) < 2:
            raise NotApplicable('the network has no two blocks to compare')
        return min(after - before for before, after in itertools.pairwise(entropies))


@register
class Complexity(Score):
    r"""Floating-point operations of the forward pass of one sample: the sum over layers of :math:`2 \, m_l`.

    :math:`m_l` are the multiplications of layer ``l``, of convolutions, matrix products and attention, as
    ``torch.utils.flop_counter`` counts them. It is the baseline ``flops``.

    Source: Lee and Ham, "AZ-NAS", CVPR 2024.
    """

    name = 'az-complexity'
    passes = '0 (one forward pass of one sample)'

    def __call__(self, gradients: Gradients) -> float:
        return flops(gradients)


def flops(gradients: Gradients) -> float:
    """Floating-point operations of the forward pass of one sample."""
    one = Gradients(gradients.network, gradients.minibatch.part(0, 1), loss=gradients.loss)
    with FlopCounterMode(display=False) as counter:
        one.check()
    return float(counter.get_total_flops())


def _entropies(gradients: Gradients) -> list[float]:
    """The entropy of each block's features, in the order of the pass."""
    blocks = blocks_of(gradients.network)
    parts = gradients.watch(lambda samples, forward: _moments_of(blocks, forward))
    if not parts[0]:
        raise NotApplicable('the network has no blocks')
    return [entropy(spectrum(_covariance(calls))) for calls in zip(*parts)]


class _Moments(NamedTuple):
    rows: int
    mean: Tensor
    squares: Tensor
    """Sum of the products of what is left without the mean, ``channels x channels``."""


def _moments_of(blocks: Sequence[nn.Module], forward: Callable[..., Tensor]) -> list[_Moments]:
    features: list[Features] = []
    moments: dict[int, _Moments] = {}

    def see(block: nn.Module, output: Tensor) -> None:
        found = features_of(block, output)
        if found is not None:
            features.append(found)
            moments[id(found)] = _moments(found.rows())

    with torch.no_grad(), module_outputs(blocks, see):
        outputs = checked(forward())
    return [moments[id(each)] for each in without_heads(features, outputs)]


def _moments(rows: Tensor) -> _Moments:
    rows = rows.double()
    mean = rows.mean(0)
    return _Moments(len(rows), mean, (rows - mean).T @ (rows - mean))


def _covariance(parts: Sequence[_Moments]) -> Tensor:
    rows = sum(part.rows for part in parts)
    mean = torch.stack([part.rows * part.mean for part in parts]).sum(0) / rows
    around = [part.squares + part.rows * torch.outer(part.mean - mean, part.mean - mean) for part in parts]
    return torch.stack(around).sum(0) / rows
