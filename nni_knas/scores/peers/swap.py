"""Sample-wise activation patterns: how many kinds of units a network has, as the samples see them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, rectifier_patterns
from nni_knas.scores.base import Score, register

WORD = 32


@register
class Swap(Score):
    r"""Number of sample-wise activation patterns.

    .. math::

        \Big| \big\{ \big(\mathbb{1}(p_v^{(1)}), \dots, \mathbb{1}(p_v^{(n)})\big) : v = 1, \dots, V \big\} \Big|

    with :math:`p_v^{(i)}` the value of sample ``i`` at unit ``v``, one of all ``V`` behind ReLUs, and :math:`\mathbb{1}`
    whether it is positive. At least 1, at most the smaller of ``V`` and :math:`2^n`.

    Source: Peng et al., "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS", ICLR 2024, section 3,
    without the regularisation there, whose two constants are of a search space. It reads no targets. There
    the samples are 16 images, BatchNorm uses their statistics, and draws of weights are averaged; here it is the kernel's
    minibatch, setting and one draw. It assumes that the network has ReLUs; with few samples it saturates at :math:`2^n`.
    """

    name = 'swap'
    least_samples = 2
    passes = '0 (one forward pass)'

    def __call__(self, gradients: Gradients) -> float:
        return float(_count_columns(rectifier_patterns(gradients)))


def _count_columns(patterns: Iterable[Tensor]) -> int:
    """How many different columns there are in matrices of bits with the same rows, side by side."""
    bits = torch.cat(list(patterns), 1)
    kind = torch.zeros(bits.shape[1], dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), WORD):
        for row in bits[start : start + WORD]:
            kind = 2 * kind + row
        kind = torch.unique(kind, return_inverse=True)[1]
    return int(kind.max()) + 1
