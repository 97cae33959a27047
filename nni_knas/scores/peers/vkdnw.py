"""Variance of the knowledge of deep network weights: how even the spectrum of the Fisher information is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import entropy
from nni_knas.scores.peers.first_entries import jacobian_of_first_entries

DECILES = 9


@register
class VKDNW(Score):
    r"""Number of layers, and among networks of as many the entropy of the Fisher information's spectrum.

    .. math::

        \aleph + \frac{H}{\log 9}, \qquad H = -\sum_{k=1}^{9} \tilde\lambda_k \log \tilde\lambda_k, \quad
        F = \frac{1}{n} \sum_i J_i^T \big( \mathrm{diag}(p_i) - p_i p_i^T \big) J_i

    with :math:`\aleph` the number of trainable parameter tensors, :math:`p_i` the predicted probabilities of sample ``i``,
    :math:`J_i` the Jacobian of its outputs over the first entry of each of these tensors, and :math:`\tilde\lambda_k` the
    ``k``-th decile of the eigenvalues of ``F``, as a part of the nine's sum. The entropy's part is from 0 to 1.

    Source: Tybl and Neumann, "Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
    Weights", CVPR 2025 (``VKDNW_single``), whose code ranks by the pair of number and entropy. Deciles below zero, which
    rounding makes, count as zero, and so does the entropy where all are. The data there are noise; here they are the
    minibatch. ``F`` has at most ``n`` times (classes - 1) eigenvalues that are not zero, so that with few samples low
    deciles vanish. It is for classifiers with cross-entropy, and reads no targets.
    """

    name = 'vkdnw'
    passes = '1 a class'

    def __call__(self, gradients: Gradients) -> float:
        probabilities = gradients.predictions().double()
        fisher = _fisher(probabilities, jacobian_of_first_entries(gradients, probabilities.shape[1]))
        if not torch.isfinite(fisher).all():
            raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
        return len(gradients.parameters) + _entropy_of_deciles(torch.linalg.eigvalsh(fisher.cpu())) / math.log(DECILES)


def _fisher(probabilities: Tensor, jacobian: Tensor) -> Tensor:
    """``p x p``, of probabilities ``n x classes`` and Jacobians ``n x classes x p``."""
    weights = probabilities[:, :, None]
    deviations = weights.sqrt() * (jacobian - (weights * jacobian).sum(1, keepdim=True))
    rows = deviations.flatten(0, 1)
    return rows.T @ rows / len(probabilities)


def _entropy_of_deciles(values: Tensor) -> float:
    deciles = torch.quantile(values, torch.arange(1, DECILES + 1, dtype=values.dtype) / (DECILES + 1)).clamp(min=0)
    total = deciles.sum()
    return entropy(deciles / total) if total > 0 else 0.0
