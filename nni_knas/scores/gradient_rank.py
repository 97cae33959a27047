"""The effective rank of the mean gradient's matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import effective_ranks


def mean_matrices(gradients: Gradients) -> list[Tensor]:
    """The mean gradient of each parameter of two dimensions or more, as a matrix of ``outputs x (all the rest)``."""
    return [g.flatten(1) for g in gradients.mean().values() if g.dim() > 1]


@register
class GradientRank(Score):
    r"""How many weights of each layer a first step of gradient descent moves independently.

    .. math::

        \sum_l r_l^2 \log n_l, \qquad
        r_l = \frac{\|\bar G_l\|_*^2}{\|\bar G_l\|_F^2} = \frac{(\sum_k \sigma_k)^2}{\sum_k \sigma_k^2}

    :math:`\bar G_l` is the mean gradient of the weights of layer ``l`` as a matrix of ``outputs x (inputs and kernel
    positions)``, :math:`\sigma_k` its singular values, and :math:`n_l` the number of its entries. The sum goes over all
    parameters of two dimensions or more that receive a gradient.

    A matrix of effective rank ``r`` acts as one of ``r x r``, so :math:`r^2` counts the weights of the layer that the data
    can move independently; the logarithm is what it takes to say which of its ``n`` weights each one is. The score is a
    parameter count in which parameters count as far as gradients reach them: it grows with width and depth, and falls where
    layers get collinear gradients, or none.

    It is free of scale: neither the loss's, the weights' nor the learning rate's scale enters, layer by layer. It assumes
    that the network's weights are matrices of some size (a network of vectors and depthwise kernels alone has ranks of
    little meaning), and ``normalization='sample'`` where there is BatchNorm; the number of samples matters little from 2 on.

    Source: of this project. The effective rank is that of a matrix's singular values as a distribution, by their second
    moment (Roy and Vetterli, "The effective rank", EUSIPCO 2007, use the entropy).
    """

    name = 'gradient-rank'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        matrices = mean_matrices(gradients)
        if not matrices:
            raise ScoringError('no parameter of two dimensions or more receives a gradient')
        sizes = torch.tensor([m.numel() for m in matrices], dtype=torch.float64)
        return float((effective_ranks(matrices).square() * sizes.log()).sum())
