"""The mean of the Gram matrix (MGM), the score of the paper, and its memory-saving variant."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import norms

ENTRIES = 50
"""Entries of each tensor that the paper's saving looks at."""


@register
class MGM(Score):
    r"""Mean of the Gram matrix of the per-sample gradients.

    .. math::

        \mathrm{MGM} = \frac{1}{n^2} \sum_{i=1}^n \sum_{j=1}^n \langle g_i, g_j \rangle
                     = \Big\| \frac{1}{n} \sum_{i=1}^n g_i \Big\|^2

    with :math:`g_i` the gradient of sample ``i`` over all parameters. By the second form it needs the gradient of the
    mean loss alone: no per-sample gradients and no ``n x n`` matrix.

    Source: Xu et al., "KNAS: Green Neural Architecture Search", ICML 2021, section 3.

    It assumes that gradients of candidates are of comparable scale, which holds within one space at one initialisation.
    """

    name = 'mgm'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        return float(norms(list(gradients.mean().values())).square().sum())


@register
class MGMSampled(Score):
    r"""MGM over 50 sampled entries of each tensor, averaged over tensors: the paper's saving of memory.

    .. math::

        \frac{1}{|L|} \sum_{l \in L} \frac{1}{n^2} \sum_{i,j} \langle g_i[S_l], g_j[S_l] \rangle
            = \frac{1}{|L|} \sum_{l \in L} \| \bar g[S_l] \|^2

    where :math:`L` are the parameter tensors of at least 50 entries that receive a gradient, and :math:`S_l` are 50
    entries of tensor ``l``, drawn without replacement by the seed and the tensor's place in the network.

    Source: Xu et al., "KNAS: Green Neural Architecture Search", ICML 2021, section 3 (sampling of parameters).
    """

    name = 'mgm-sampled'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        tensors = [g for g in gradients.mean().values() if g.numel() >= ENTRIES]
        if not tensors:
            raise ScoringError(f'no parameter tensor of at least {ENTRIES} entries receives a gradient')
        drawn = [g.flatten()[_draw(g, gradients.seed, place)] for place, g in enumerate(tensors)]
        return float(norms(drawn).square().sum()) / len(drawn)


def _draw(tensor: Tensor, seed: int, place: int) -> Tensor:
    """Indices of ``ENTRIES`` entries of the tensor."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + place)
    return torch.randperm(tensor.numel(), generator=generator)[:ENTRIES].to(tensor.device)
