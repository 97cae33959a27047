"""What scores compute of matrices: norms, ranks and spectra, in double precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nni_knas.gradients import ScoringError

__all__ = [
    'Stack',
    'effective_ranks',
    'entropy',
    'in_stacks',
    'norms',
    'norms_of_stacks',
    'participation_ratio',
    'participation_ratios',
    'spectrum',
]

LEAST = 1e-12
"""Smaller entries, and larger ones than its inverse, are scaled before their squares are summed."""
LARGE = 2**16
"""Entries from which on a tensor is not worth copying to be computed with others."""


class Stack(NamedTuple):
    """Tensors of one shape, which are computed together: a network has a hundred, of a dozen of shapes.

    Attributes
    ----------
    places
        Where they stand among all tensors.
    tensors
        Shape ``L x`` theirs.
    """

    places: list[int]
    tensors: Tensor


def in_stacks(tensors: Sequence[Tensor | None]) -> list[Stack]:
    """All tensors that there are, those of one shape together; large ones each by itself, without a copy."""
    shapes: dict[object, list[int]] = defaultdict(list)
    for place, tensor in enumerate(tensors):
        if tensor is not None:
            alone = place if tensor.numel() > LARGE else -1
            shapes[tensor.shape, tensor.dtype, tensor.device, alone].append(place)
    kinds = [(places, [t for place in places if (t := tensors[place]) is not None]) for places in shapes.values()]
    return [Stack(places, _stacked(kind)) for places, kind in kinds]


def _stacked(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors) if len(tensors) > 1 else tensors[0].unsqueeze(0)


def _gathered(stacks: Sequence[Stack], found: Sequence[Tensor], count: int) -> NDArray[np.float64]:
    """Numbers of stacks' tensors, ``m x L`` each, by their places, ``m x count``; 0 where there are none."""
    values = np.zeros((len(found[0]) if found else 2, count))
    if found:
        spread = len({numbers.device for numbers in found}) > 1
        whole = torch.cat([numbers.cpu() if spread else numbers for numbers in found], 1)  # a GPU is waited for once
        values[:, [place for stack in stacks for place in stack.places]] = whole.cpu().numpy()
    return values


def norms_of_stacks(stacks: Sequence[Stack], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The norms of order 1 and 2 of all tensors, shape ``2 x L``.

    In double precision throughout only where squares leave the range of single.

    Parameters
    ----------
    stacks
        The tensors.
    sizes
        Their numbers of entries, shape ``L``.
    """
    flat = [stack.tensors.reshape(len(stack.places), -1) for stack in stacks]  # of single numbers, too
    values = _gathered(stacks, [_norms(rows) for rows in flat], len(sizes))
    entries = values[0] / np.maximum(sizes, 1)
    if ((entries == 0) | ((entries > LEAST) & (entries < 1 / LEAST))).all():
        return values
    return _gathered(stacks, [_norms(rows.double()) for rows in flat], len(sizes))


def _norms(rows: Tensor) -> Tensor:
    """Of order 1 by its definition, for which torch's own takes several times as long on a CPU."""
    return torch.stack([rows.abs().sum(1), torch.linalg.vector_norm(rows, dim=1)]).double()


def participation_ratios(
    stacks: Sequence[Stack], as_matrices: Callable[[Tensor], Tensor], count: int
) -> NDArray[np.float64]:
    r"""The effective rank of matrices by second moments, :math:`\|Z\|_F^4 / \|Z Z^T\|_F^2`.

    Parameters
    ----------
    stacks
        The matrices, or what they are made of.
    as_matrices
        Makes ``L x rows x columns`` of the tensors of a stack.
    count
        How many tensors there are.

    Returns
    -------
    numpy.ndarray of float64, shape count
        0 for a matrix of zeros, and where the stacks have none; ``nan`` where an entry is not finite.
    """
    matrices = [as_matrices(stack.tensors) for stack in stacks]
    traces, squares = _gathered(stacks, [_moments(rows) for rows in matrices], count)
    if not (within := (traces > LEAST) & (traces < 1 / LEAST)).all():  # squares may have left the range, or are of zeros
        beyond = [i for i, stack in enumerate(stacks) if not within[stack.places].all()]
        scaled = _gathered([stacks[i] for i in beyond], [_moments(_scaled(matrices[i])) for i in beyond], count)
        places = [place for i in beyond for place in stacks[i].places]
        traces[places], squares[places] = scaled[:, places]
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        return np.where(squares == 0, 0, np.square(traces) / squares)


def _moments(rows: Tensor) -> Tensor:
    """Trace and squared norm of the smaller of the two Gram matrices of each, float64, ``2 x L``."""
    grams = rows @ rows.mT if rows.shape[1] <= rows.shape[2] else rows.mT @ rows
    traces = grams.diagonal(dim1=1, dim2=2).sum(1, dtype=torch.float64)
    return torch.stack([traces, torch.linalg.vector_norm(grams, dim=(1, 2)).double().square()])


def _scaled(rows: Tensor) -> Tensor:
    largest = rows.abs().amax(dim=(1, 2), keepdim=True)
    return rows / torch.where(largest > 0, largest, 1)


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
