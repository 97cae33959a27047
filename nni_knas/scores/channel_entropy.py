"""Spectrum of the gradient that arrives at each layer's output."""

from __future__ import annotations

import math

from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import entropy, participation_ratio, spectrum


@register
class ChannelEntropy(Score):
    r"""Entropy of the spectrum of the output gradient's channel covariance, summed over layers.

    .. math::

        \sum_l H(\mathrm{spec}(C_l)), \qquad C_l = \frac{1}{|\mathcal{P}|} \sum_{p \in \mathcal{P}}
            (\delta_{l,p} - \bar\delta_l)(\delta_{l,p} - \bar\delta_l)^T

    with :math:`\delta_{l,p}` the gradient of the loss with respect to the outputs of layer ``l`` (convolutions and linear
    layers), one entry a channel, at sample and position ``p``, and :math:`H` the entropy of the eigenvalues as parts of
    their sum.

    Source: of this project's first readings; the entropy of principal components is that of the features in AZ-NAS (Lee
    and Ham, CVPR 2024), here of gradients. Free of scale; it counts layers, and channels by their logarithm.
    """

    name = 'channel-entropy'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        return math.fsum(entropy(parts) for parts in _spectra(gradients))


@register
class ChannelRank(Score):
    r"""Effective rank of the output gradient's channel covariance, summed over layers.

    :math:`\sum_l (\sum_k \lambda_k)^2 / \sum_k \lambda_k^2` with :math:`\lambda` the eigenvalues of ``C_l`` as in
    ``channel-entropy``, and its sources and assumptions.
    """

    name = 'channel-rank'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        return math.fsum(participation_ratio(parts) for parts in _spectra(gradients))


def _spectra(gradients: Gradients) -> list[Tensor]:
    outputs = gradients.at_outputs()
    if not outputs:
        raise ScoringError('no convolution or linear layer receives a gradient')
    return [spectrum(_covariance(delta)) for delta in outputs.values()]


def _covariance(delta: Tensor) -> Tensor:
    """The covariance of the channels, in double precision; ``delta`` is of shape ``positions x channels``."""
    delta = delta.double()  # squares of large or small entries leave the range of single precision
    centred = delta - delta.mean(0)
    return centred.T @ centred
