"""What scores compute of matrices: norms, ranks and spectra, in double precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from nni_knas.gradients import ScoringError

__all__ = ['effective_ranks', 'entropy', 'norms', 'participation_ratio', 'spectrum']


def norms(tensors: Sequence[Tensor], order: float = 2) -> Tensor:
    """The norm of each tensor's entries, shape ``L``, in double precision."""
    return torch.stack(torch._foreach_norm(list(tensors), order, dtype=torch.float64))


def effective_ranks(matrices: Sequence[Tensor]) -> Tensor:
    r"""The effective rank of each matrix, :math:`\|M\|_*^2 / \|M\|_F^2 = (\sum_k \sigma_k)^2 / \sum_k \sigma_k^2`.

    It is ``r`` for a matrix of ``r`` equal singular values, and less where they are unequal; it does not depend on the
    matrix's scale, and is 0 for a matrix of zeros.

    Parameters
    ----------
    matrices
        ``L`` matrices of any shapes.

    Returns
    -------
    Tensor of float64, shape L

    Raises
    ------
    ScoringError
        If an entry is not finite.
    """
    shapes, grams = defaultdict(list), defaultdict(list)  # matrices of one size are computed together
    for place, matrix in enumerate(matrices):
        shapes[tuple(matrix.shape)].append(place)
    for shape, places in shapes.items():
        grams[min(shape)].append((places, _scaled_grams(torch.stack([matrices[place] for place in places]).double())))
    ranks = torch.zeros(len(matrices), dtype=torch.float64)
    order = [place for groups in grams.values() for places, _ in groups for place in places]
    if order:
        found = [_ranks(torch.cat([gram for _, gram in groups])) for groups in grams.values()]
        ranks[order] = torch.cat(found).cpu()  # a GPU is waited for once
    if not torch.isfinite(ranks).all():
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    return ranks


def _scaled_grams(matrices: Tensor) -> Tensor:
    """The smaller Gram matrix of each of ``L x m x n``, as parts of its trace; ``nan`` where an entry is not finite."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.mT
    grams = matrices @ matrices.mT
    traces = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    traces = torch.where(torch.isfinite(traces), traces, torch.nan)
    return torch.where(traces == 0, 0, grams / traces)


def _ranks(grams: Tensor) -> Tensor:
    """The effective ranks behind Gram matrices of one size, shape ``L``; ``nan`` where an entry is not finite."""
    finite = torch.isfinite(grams[:, 0, 0])  # all entries are, or none
    squares = torch.linalg.eigvalsh(torch.where(finite[:, None, None], grams, 0)).clamp(min=0)
    ranks = squares.sqrt().sum(-1).square() / squares.sum(-1).clamp(min=0.5)  # the sum is the trace, 1 or 0
    return torch.where(finite, ranks, torch.nan)


def spectrum(matrix: Tensor) -> Tensor:
    """The eigenvalues of a positive semidefinite matrix, ascending, as parts of their sum; all 0 for a matrix of zeros.

    Raises
    ------
    ScoringError
        If an entry is not finite.
    """
    if not torch.isfinite(matrix).all():
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    largest = matrix.abs().max()
    if not largest > 0:
        return torch.zeros(len(matrix), dtype=torch.float64)
    values: Tensor = torch.linalg.eigvalsh(matrix.double() / largest).clamp(min=0)
    return (values / values.sum()).cpu()


def entropy(parts: Tensor) -> float:
    r"""The Shannon entropy :math:`-\sum_k p_k \log p_k`, in nats."""
    return float(torch.special.entr(parts).sum())


def participation_ratio(parts: Tensor) -> float:
    r"""How many parts take part, :math:`(\sum_k p_k)^2 / \sum_k p_k^2`; 0 where all are 0."""
    squares = parts.square().sum()
    return float(parts.sum().square() / squares) if squares > 0 else 0.0
