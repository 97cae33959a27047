"""Alignment of the neural tangent kernel with the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.targets import vectors_of


@register
class LabelAlignment(Score):
    r"""How much samples of one class move the network alike, at initialisation.

    .. math::

        \frac{\langle K_c, Y_c \rangle_F}{\|K_c\|_F \, \|Y_c\|_F}

    with :math:`K` the kernel of the outputs' gradients (see ``ntk-entropy``), :math:`Y = y y^T` the kernel of the targets
    (one-hot for class indices, their values otherwise) and :math:`_c` both centred. Between -1 and 1.

    Source: Cortes et al., "Algorithms for Learning Kernels Based on Centered Alignment", JMLR 2012; of tangent kernels
    and labels at initialisation, Baratin et al., AISTATS 2021. It assumes a minibatch with several samples of a class.
    """

    name = 'label-alignment'
    passes = '1, with per-sample gradients'

    def check(self, samples: int) -> None:
        if samples < 3:
            raise ValueError(f'{self.name} compares pairs of samples: batch_size is {samples}, take 3 or more')

    def __call__(self, gradients: Gradients) -> float:
        kernel = _centred(gradients.of_outputs().gram().cpu())
        if not torch.isfinite(kernel).all():
            raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
        products = _label_kernel(gradients.minibatch.targets)
        labels = _centred(products)
        size = kernel.norm() * labels.norm()
        if not labels.norm() > 1e-9 * products.norm():
            raise ScoringError('all targets of the minibatch are the same: label-alignment needs samples of two classes')
        return float((kernel * labels).sum() / size) if size > 0 else 0.0


def _label_kernel(targets: Tensor) -> Tensor:
    if not isinstance(targets, Tensor):
        raise ScoringError('label-alignment needs targets that are one tensor')
    y = vectors_of(targets)
    return y @ y.T


def _centred(kernel: Tensor) -> Tensor:
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdim=True)
