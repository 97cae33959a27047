"""The smallest eigenvalue of the correlations between feature maps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nni_knas.gradients import Gradients, NotApplicable, ScoringError, module_outputs, modules_of
from nni_knas.scores.base import Score, register


@register
class MeCo(Score):
    r"""Smallest eigenvalue of the correlations between the channels of a feature map, summed over layers.

    .. math::

        \sum_l \lambda_{\min}(P_l)

    with :math:`P_l` the matrix of Pearson's correlations between the channels of layer ``l``'s output over its positions,
    for one sample. As in the authors' code every module counts that gives a feature map, those that hold others, too, so
    that what comes out of several of them counts once for each. Each term is from 0 to 1: 0 where there are no fewer
    channels than positions, or where a channel is constant; eigenvalues below zero, which rounding makes, count as zero.

    Source: Jiang et al., "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum Eigenvalue of Correlation",
    NeurIPS 2023. It reads no targets and one sample, the minibatch's first, where the paper draws noise. There
    BatchNorm uses the minibatch's statistics; here the kernel's. It assumes feature maps: outputs with channels, and with
    positions in two dimensions or more, or of a convolution.
    """

    name = 'meco'
    passes = '0 (one forward pass of one sample)'

    def __call__(self, gradients: Gradients) -> float:
        if gradients.normalization == 'sample':
            first = gradients.minibatch.part(0, 1)
            gradients = Gradients(gradients.network, first, loss=gradients.loss, normalization='sample')
        smallest = gradients.watch(lambda samples, forward: _smallest_of_layers(gradients.network, forward))[0]
        if not smallest:
            raise NotApplicable('the network has no feature maps')
        return math.fsum(smallest)


def _smallest_of_layers(network: nn.Module, forward: Callable[..., Tensor]) -> list[float]:
    found: list[float] = []
    known: dict[tuple[int, int], tuple[Tensor, float]] = {}  # what a module gives its container often gives, too

    def see(module: nn.Module, output: Tensor) -> None:
        if output.dim() > 3 or (isinstance(module, _ConvNd) and output.dim() > 2):
            key = id(output), output._version
            if key not in known:
                known[key] = output, _smallest_eigenvalue(output[0])
            found.append(known[key][1])

    with torch.no_grad(), module_outputs(modules_of(network), see):
        outputs = forward()
    if not torch.isfinite(outputs).all():
        raise ScoringError('the outputs are not finite: the network explodes at its initial weights')
    return found


def _smallest_eigenvalue(maps: Tensor) -> float:
    """Of the correlations between maps of shape ``channels x ...``."""
    rows = maps.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    sizes = rows.norm(dim=1, keepdim=True)
    if len(rows) >= rows.shape[1] or not (sizes > 0).all():
        return 0.0
    rows = rows / sizes
    return max(0.0, float(torch.linalg.eigvalsh(rows @ rows.T)[0]))
