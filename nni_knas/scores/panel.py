"""The panel: statistics of a network from the gradients of one pass, from which scores are made and learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nni_knas.basics.names import PANEL
from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.gradient_rank import mean_matrices
from nni_knas.scores.matrices import effective_ranks, norms

__all__ = ['statistics']


def statistics(gradients: Gradients) -> dict[str, float]:
    """The panel of the network that ``gradients`` belongs to.

    Returns
    -------
    dict of str to float
        A finite number for each name in :data:`nni_knas.basics.names.PANEL`, in that order.

    Raises
    ------
    ScoringError
        If one of them is not finite, or the network cannot be scored, with the reason.
    """
    values = dict(zip(PANEL, map(float, [*_of_tensors(gradients), *_of_matrices(gradients)]), strict=True))
    for name, value in values.items():
        if not math.isfinite(value):
            raise ScoringError(f'the statistic "{name}" is {value}')
    return values


def _of_tensors(gradients: Gradients) -> Iterator[float | Tensor]:
    mean = list(gradients.mean().values())
    sizes, weights = norms(mean), sum(g.numel() for g in mean)
    yield weights
    yield len(mean)
    yield sizes.sum()
    yield torch.log1p(norms(mean, 1)).sum()
    yield torch.log1p(sizes.square()).sum()
    yield torch.sqrt(sizes.square().sum() / weights)


def _of_matrices(gradients: Gradients) -> Iterator[float | Tensor]:
    matrices = mean_matrices(gradients)
    ranks = effective_ranks(matrices)
    entries = torch.tensor([m.numel() for m in matrices], dtype=torch.float64)
    sides = torch.tensor([min(m.shape) for m in matrices], dtype=torch.float64)
    yield len(matrices)
    yield ranks.sum()
    yield (ranks.square() * entries.log()).sum()
    yield (ranks / sides).sum() / max(len(matrices), 1)
