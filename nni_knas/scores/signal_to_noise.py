"""Scores of the gradient's signal to noise: its mean against its deviation over samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register


@register
class SignalToNoise(Score):
    r"""Signal to noise of the gradients over the samples, layer by layer in logarithms.

    .. math::

        \sum_t \log\Big(1 + \sum_{w \in t} \frac{\mathbb{E}_i |g_{i,w}|}{\mathrm{std}_i\, g_{i,w}}\Big)

    over all parameter tensors ``t``; entries without deviation are left out.

    Source: the statistic of ZiCo (Li et al., ICLR 2023), over samples instead of batches and with ``1 +``, so that a tensor
    without gradient adds 0. Free of the gradient's scale. It assumes that samples differ; it counts parameters, too, and
    those whose gradient is zero but for rounding (a bias before a BatchNorm) by the noise of rounding.
    """

    name = 'snr'
    least_samples = 2
    passes = '1, with per-sample gradients'

    def __call__(self, gradients: Gradients) -> float:
        return math.fsum(math.log1p(_ratio(g)) for g in gradients.per_sample().values())


@register
class ZiCo(Score):
    r"""Inverse coefficient of variation of the gradients of two batches.

    .. math::

        \sum_l \log \sum_{w \in l} \frac{\mathbb{E}_b |\bar g_{b,w}|}{\mathrm{std}_b\, \bar g_{b,w}}

    with :math:`\bar g_b` the mean gradients of the two halves of the minibatch (with an odd ``n`` the last sample is left
    out) and ``l`` the parameters of two dimensions or more; those without gradient are left out.

    Source: Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR 2023, eq. 9; there the
    batches are of 128 samples. It assumes that the halves are draws of one distribution.
    """

    name = 'zico'
    least_samples = 2
    passes = '1, with per-sample gradients'

    def __call__(self, gradients: Gradients) -> float:
        ratios = []
        for g in gradients.per_sample().values():
            if g.dim() > 2:
                n = len(g) // 2 * 2
                ratios.append(_ratio(g[:n].unflatten(0, (2, -1)).mean(1)))
        ratios = [ratio for ratio in ratios if ratio > 0]
        if not ratios:
            raise ScoringError('no parameter of two dimensions or more has gradients that differ between samples')
        return math.fsum(map(math.log, ratios))


def _ratio(rows: Tensor) -> float:
    """Sum over entries of the mean of the absolute value by the deviation, both over the rows."""
    largest = rows.abs().max()
    if not torch.isfinite(largest):
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    rows = rows / largest if largest > 0 else rows
    deviation = rows.std(0, unbiased=False)
    ratio = rows.abs().mean(0) / deviation
    return float(ratio[deviation > 0].double().sum())
