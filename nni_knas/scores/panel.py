r"""The panel: statistics of a network from one forward-backward pass, from which scores are made and learnt.

All ranks are effective ranks by second moments, participation ratios :math:`(\mathrm{tr}\, M)^2 / \mathrm{tr}\, M^2` of a
Gram matrix :math:`M`: between 1 and its order, 0 for a matrix of zeros, free of scale, and had without its eigenvalues.
Layers are those of :class:`~nni_knas.gradients.Trace`, one for each call. With :math:`\bar G_l` the mean gradient of a
weight tensor of two dimensions or more as a matrix of outputs by the rest, :math:`Z_l` the outputs of a layer and
:math:`D_l` the gradients with respect to them, as rows of channels at some 128 positions of all samples together, at most
16 of each:

========================= =======================================================================================
``weights``               number of entries that receive a gradient; at least 1
``layers``                number of layers that leave a trace
``units``                 logarithm of 1 + the outputs of all layers for one sample
``gradient-size``         :math:`\log(1 + 1/q)`, q the root mean square of the mean gradient's entries; > 0, small where
                          gradients explode
``gradient-norm``         :math:`\sum_t \log(1 + \|\bar g_t\|_2)` over tensors (Abdelfattah et al., ICLR 2021, in logarithms)
``log-l1``                :math:`\sum_t \log(1 + \|\bar g_t\|_1)`
``log-mgm``               :math:`\sum_t \log(1 + \|\bar g_t\|_2^2)`: the mean of the Gram matrix (Xu et al., ICML 2021)
``participation``         :math:`\sum_l \|\bar G_l\|_1^2 / \|\bar G_l\|_2^2`: how many weights take part; 1 to their number
``participation-roots``   :math:`\sum_l \|\bar G_l\|_1 / \|\bar G_l\|_2` (a measure of sparsity: Hurley and Rickard, 2009)
``log-participation``     :math:`\sum_l \log(1 + \|\bar G_l\|_1^2 / \|\bar G_l\|_2^2)`
``participation-share``   mean of that ratio by the number of entries; 0 to 1
``weight-rank``           :math:`\sum_l r_l`, r the rank of :math:`\bar G_l` (of at most 64 evenly spaced rows of it)
``weight-log-rank``       :math:`\sum_l \log(1 + r_l^2)`
``weight-rank-share``     mean of :math:`r_l` by the smaller side; 0 to 1
``feature-rank``          :math:`\sum_l f_l`, f the rank of the covariance of :math:`Z_l` (features; expressivity of AZ-NAS)
``feature-rank-squares``  :math:`\sum_l f_l^2`
``feature-log-rank``      :math:`\sum_l \log(1 + f_l^2)`
``feature-rank-late``     mean of f over the last third of the layers
``feature-survival``      that by the mean over the first third; 0 where features become alike with depth
``sample-rank``           sum of the ranks of the samples' Gram matrices of :math:`Z_l`; 1 to n each
``sample-rank-late``      its mean over the last third of the layers
``backward-rank``         :math:`\sum_l b_l`, b the rank of the covariance of :math:`D_l`
``backward-log-rank``     :math:`\sum_l \log(1 + b_l^2)`
``backward-rank-early``   mean of b over the first third of the layers, where the backward pass ends
``backward-survival``     that by the mean over the last third
``backward-sample-rank``  sum of the ranks of the samples' Gram matrices of :math:`D_l`
========================= =======================================================================================

Sums grow with depth and width, means and shares do not; which of them counts differs from space to space. On a minibatch of
64 samples or more, those of :mod:`nni_knas.scores.targets` come to them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from nni_knas.basics.names import PANEL
from nni_knas.gradients import Gradients, ScoringError, Trace
from nni_knas.scores.matrices import norms
from nni_knas.scores.targets import of_targets

__all__ = ['prepare_statistics', 'statistics']

ROWS = 64
"""Rows of a weight gradient that its rank is taken of, at most."""
LEAST = 1e-12
"""Smaller entries, and larger ones than its inverse, are scaled before their squares are summed."""


def statistics(gradients: Gradients) -> dict[str, float]:
    """The panel of the network that ``gradients`` belongs to.

    Returns
    -------
    dict of str to float
        A finite number for each name in :data:`nni_knas.basics.names.PANEL`, in that order, and where there are samples
        enough for them, in :data:`nni_knas.basics.names.TARGETS`.

    Raises
    ------
    ScoringError
        If one of them is not finite, or the network cannot be scored, with the reason.
    """
    if gradients not in _KNOWN:
        _KNOWN[gradients] = _computed([gradients])[0]
    panel = _KNOWN[gradients]
    for name, value in panel.items():
        if not math.isfinite(value):
            raise ScoringError(f'the statistic "{name}" is {value}: the network explodes at its initial weights')
    return dict(panel)


def prepare_statistics(many: Sequence[Gradients]) -> None:
    """Compute the panels of several networks at once, of which :func:`statistics` knows then.

    A GPU is given what they have in common in one piece. Where it does not work, each is left to be computed by itself.
    """
    with contextlib.suppress(Exception):
        _KNOWN.update(zip(many, _computed(many)))


_KNOWN: WeakKeyDictionary[Gradients, dict[str, float]] = WeakKeyDictionary()
"""Panels of gradients that are still at hand: a score that is made of the panel has computed it already."""


def _computed(many: Sequence[Gradients]) -> list[dict[str, float]]:
    traces = [gradients.traces() for gradients in many]  # first, so that the pass is shared
    tensors = [list(gradients.mean().values()) for gradients in many]
    parts = zip(_of_gradients(tensors), _of_traces(traces), _of_matrices(tensors))
    return [
        {name: float(values[name]) for name in PANEL} | dict(of_targets(its_traces, gradients.minibatch.targets))
        for gradients, its_traces, values in zip(many, traces, (dict(itertools.chain(*part)) for part in parts))
    ]


Found = Iterable[tuple[str, float | Tensor]]


def _of_gradients(networks: Sequence[list[Tensor]]) -> Iterator[Found]:
    """Statistics of all tensors that receive a gradient, network by network."""
    l1, l2 = _norms([g for tensors in networks for g in tensors])
    counts = [len(tensors) for tensors in networks]
    return map(_of_norms, networks, l1.cpu().split(counts), l2.cpu().split(counts))  # a GPU is waited for twice


def _of_norms(tensors: list[Tensor], l1: Tensor, l2: Tensor) -> Found:
    weights = sum(g.numel() for g in tensors)
    yield 'weights', weights
    yield 'gradient-size', torch.log1p(1 / torch.sqrt(l2.square().sum() / weights).clamp(min=1e-30))
    yield 'gradient-norm', torch.log1p(l2).sum()
    yield 'log-l1', torch.log1p(l1).sum()
    yield 'log-mgm', torch.log1p(l2.square()).sum()
    matrices = [i for i, g in enumerate(tensors) if g.dim() > 1]
    ratios = torch.nan_to_num((l1 / l2)[matrices].square(), nan=0.0)  # zeros have none
    if not torch.isfinite(l2).all():
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    yield 'participation', ratios.sum()
    yield 'participation-roots', ratios.sqrt().sum()
    yield 'log-participation', torch.log1p(ratios).sum()
    sizes = ratios.new_tensor([tensors[i].numel() for i in matrices])
    yield 'participation-share', (ratios / sizes).sum() / max(len(matrices), 1)


def _norms(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Their norms of order 1 and 2, float64; in double precision throughout only where squares leave the range of single."""
    l1 = _absolute_sums(tensors).double()
    entries = l1 / l1.new_tensor([max(g.numel(), 1) for g in tensors])
    if ((entries == 0) | ((entries > LEAST) & (entries < 1 / LEAST))).all():
        return l1, torch.stack(torch._foreach_norm(tensors, 2)).double()
    return norms(tensors, 1), norms(tensors)


def _absolute_sums(tensors: list[Tensor]) -> Tensor:
    """Norms of order 1, for which torch's own take several times as long on a CPU."""
    if tensors[0].is_cuda or len({(g.dtype, g.device) for g in tensors}) > 1:
        return torch.stack(torch._foreach_norm(tensors, 1))
    room = tensors[0].new_empty(max(g.numel() for g in tensors))
    return torch.stack([torch.abs(g.flatten(), out=room[: g.numel()]).sum() for g in tensors])


def _of_matrices(networks: Sequence[list[Tensor]]) -> Iterator[Found]:
    """Statistics of the mean gradients of weights, as matrices, network by network."""
    matrices = [[_thinned(g.flatten(1)) for g in tensors if g.dim() > 1] for tensors in networks]
    ranks = participation_ratios([each for its in matrices for each in its], _plain)
    return map(_of_ranks, matrices, ranks.split([len(its) for its in matrices]))


def _of_ranks(matrices: list[Tensor], ranks: Tensor) -> Found:
    sides = ranks.new_tensor([min(m.shape) for m in matrices])
    yield 'weight-rank', ranks.sum()
    yield 'weight-log-rank', torch.log1p(ranks.square()).sum()
    yield 'weight-rank-share', (ranks / sides).sum() / max(len(matrices), 1)


def _of_traces(networks: Sequence[Sequence[Trace]]) -> Iterator[Found]:
    """Statistics of what passes through the layers, network by network."""
    ways = [rows for traces in networks for rows in _ways_of(traces)]
    counts = [2 * len(traces) for traces in networks]
    channels = participation_ratios([rows.flatten(0, 1) for rows in ways], _centred).split(counts)
    return map(
        _of_layers, networks, channels, participation_ratios([rows.flatten(1) for rows in ways], _plain).split(counts)
    )


def _ways_of(traces: Sequence[Trace]) -> list[Tensor]:
    """What passes forth, and what passes back; the former again where there is none."""
    return [t.features for t in traces] + [t.features if t.gradients is None else t.gradients for t in traces]


def _of_layers(traces: Sequence[Trace], channels: Tensor, rows: Tensor) -> Found:
    forth, back = channels.reshape(2, len(traces))
    samples, back_samples = rows.reshape(2, len(traces))
    reached = forth.new_tensor([trace.gradients is not None for trace in traces])
    back, back_samples = back * reached, back_samples * reached
    yield 'layers', len(traces)
    yield 'units', math.log1p(sum(trace.units for trace in traces))
    yield 'feature-rank', forth.sum()
    yield 'feature-rank-squares', forth.square().sum()
    yield 'feature-log-rank', torch.log1p(forth.square()).sum()
    yield 'feature-rank-late', _late(forth)
    yield 'feature-survival', _ratio(_late(forth), _early(forth))
    yield 'sample-rank', samples.sum()
    yield 'sample-rank-late', _late(samples)
    yield 'backward-rank', back.sum()
    yield 'backward-log-rank', torch.log1p(back.square()).sum()
    yield 'backward-rank-early', _early(back)
    yield 'backward-survival', _ratio(_early(back), _late(back))
    yield 'backward-sample-rank', back_samples.sum()


def _early(values: Tensor) -> float:
    """The mean over the first third, at least one, of the layers."""
    return float(values[: max(1, len(values) // 3)].mean()) if len(values) else 0.0


def _late(values: Tensor) -> float:
    return _early(values.flip(0))


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0


def _thinned(matrix: Tensor) -> Tensor:
    """At most so many rows of a matrix, evenly spaced along its smaller side."""
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    count = matrix.shape[0]
    if count <= ROWS:
        return matrix
    return matrix[torch.arange(ROWS, device=matrix.device) * count // ROWS]


def participation_ratios(matrices: Sequence[Tensor], prepare: Callable[[Tensor], Tensor]) -> Tensor:
    r"""The effective rank of each matrix by second moments, :math:`\|Z\|_F^4 / \|Z Z^T\|_F^2`.

    Parameters
    ----------
    matrices
        ``L`` matrices of any shapes.
    prepare
        What is done first with those of one shape together, ``L x rows x columns``.

    Returns
    -------
    Tensor of float64, shape L, on the CPU
        0 for a matrix of zeros; ``nan`` where an entry is not finite.
    """
    shapes = defaultdict(list)
    for place, matrix in enumerate(matrices):
        shapes[tuple(matrix.shape)].append(place)
    ratios = torch.zeros(len(matrices), dtype=torch.float64)
    order = [place for places in shapes.values() for place in places]
    if order:
        found = [_ratios(prepare(torch.stack([matrices[place] for place in places]))) for places in shapes.values()]
        ratios[order] = torch.cat(found).cpu()  # a GPU is waited for once
    return ratios


def _ratios(rows: Tensor) -> Tensor:
    """The participation ratios of ``L x rows x columns``."""
    traces, squares = _moments(rows)
    if not ((traces > LEAST) & (traces < 1 / LEAST)).all():  # squares may have left the range, or are of zeros
        largest = rows.abs().amax(dim=(1, 2), keepdim=True)
        traces, squares = _moments(rows / torch.where(largest > 0, largest, 1))
    return torch.where(squares == 0, 0, traces.square() / squares)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Trace and squared norm of the smaller of the two Gram matrices of each, float64."""
    grams = rows @ rows.mT if rows.shape[1] <= rows.shape[2] else rows.mT @ rows
    traces = grams.diagonal(dim1=1, dim2=2).double().sum(1)
    return traces, torch.linalg.vector_norm(grams, dim=(1, 2)).double().square()


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)


def _plain(rows: Tensor) -> Tensor:
    return rows
