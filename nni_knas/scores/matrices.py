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
    grams = defaultdict(list)  # those of one size are decomposed together
    scales = norms(matrices).tolist()
    for place, (matrix, scale) in enumerate(zip(matrices, scales)):
        if not scale < float('inf'):
            raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
        if scale > 0:
            scaled = matrix.double() / scale
            scaled = scaled if scaled.shape[0] <= scaled.shape[1] else scaled.T
            grams[len(scaled)].append((place, scaled @ scaled.T))
    ranks = torch.zeros(len(matrices), dtype=torch.float64)
    for group in grams.values():
        squares = torch.linalg.eigvalsh(torch.stack([gram for _, gram in group])).clamp(min=0)
        ranks[[place for place, _ in group]] = (squares.sqrt().sum(-1).square() / squares.sum(-1)).cpu()
    return ranks


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
    values = torch.linalg.eigvalsh(matrix.double() / largest).clamp(min=0)
    return (values / values.sum()).cpu()


def entropy(parts: Tensor) -> float:
    r"""The Shannon entropy :math:`-\sum_k p_k \log p_k`, in nats."""
    return float(torch.special.entr(parts).sum())


def participation_ratio(parts: Tensor) -> float:
    r"""How many parts take part, :math:`(\sum_k p_k)^2 / \sum_k p_k^2`; 0 where all are 0."""
    squares = parts.square().sum()
    return float(parts.sum().square() / squares) if squares > 0 else 0.0
