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
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nni_knas.basics.names import PANEL
from nni_knas.gradients import Gradients, ScoringError, Trace
from nni_knas.scores.matrices import in_stacks, norms_of_stacks, participation_ratios
from nni_knas.scores.targets import of_targets

__all__ = ['forward_statistics', 'prepare_statistics', 'statistics']

ROWS = 64
"""Rows of a weight gradient that its rank is taken of, at most."""


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
    if gradients not in _PANELS:
        _PANELS.update(zip([gradients], _panels([gradients])))
    return _finite(_PANELS[gradients])


def forward_statistics(gradients: Gradients) -> dict[str, float]:
    """The part of the panel for which no gradients at the outputs of layers are needed, so that the pass costs less.

    Returns
    -------
    dict of str to float
        A finite number for each name in :data:`nni_knas.basics.names.PANEL` that does not begin with ``backward``.

    Raises
    ------
    ScoringError
        As :func:`statistics` does.
    """
    return _finite(_forward_parts([gradients])[0])


def prepare_statistics(many: Sequence[Gradients]) -> None:
    """Compute the panels of several networks at once, of which :func:`statistics` knows then.

    A GPU is given what they have in common in one piece. Where it does not work, each is left to be computed by itself.
    """
    with contextlib.suppress(Exception):
        _PANELS.update(zip(many, _panels(many)))


_PANELS: WeakKeyDictionary[Gradients, dict[str, float]] = WeakKeyDictionary()
_FORWARD: WeakKeyDictionary[Gradients, dict[str, float]] = WeakKeyDictionary()
"""Panels of gradients that are still at hand: a score that is made of the panel has computed it already."""


def _panels(many: Sequence[Gradients]) -> list[dict[str, float]]:
    traces = [gradients.traces() for gradients in many]  # first, so that the pass is shared
    every = [forward | back for forward, back in zip(_forward_parts(many), _of_arrived(traces))]
    return [
        {name: values[name] for name in PANEL} | dict(of_targets(its_traces, gradients.minibatch.targets))
        for gradients, its_traces, values in zip(many, traces, every)
    ]


def _forward_parts(many: Sequence[Gradients]) -> list[dict[str, float]]:
    if any(gradients not in _FORWARD for gradients in many):
        traces = [gradients.traces(backward=False) for gradients in many]  # first, so that the pass is shared
        weights = _of_weights([list(gradients.mean().values()) for gradients in many])
        _FORWARD.update(zip(many, [mean | features for mean, features in zip(weights, _of_features(traces))]))
    return [_FORWARD[gradients] for gradients in many]


def _finite(values: dict[str, float]) -> dict[str, float]:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ScoringError(f'the statistic "{name}" is {value}: the network explodes at its initial weights')
    return dict(values)


Found = Iterator[tuple[str, float]]
Numbers = NDArray[np.float64]


def _split(values: Numbers, networks: Sequence[Sequence[object]]) -> list[Numbers]:
    """Numbers of all networks' tensors, along the last dimension, network by network."""
    return np.split(values, np.cumsum([len(its) for its in networks])[:-1], axis=-1)


def _of_weights(networks: Sequence[list[Tensor]]) -> list[dict[str, float]]:
    """Statistics of the mean gradients, network by network, of all tensors and of those that are matrices."""
    tensors = [g for its in networks for g in its]
    stacks, sizes = in_stacks(tensors), np.array([g.numel() for g in tensors])
    norms = norms_of_stacks(stacks, sizes)
    ranks = participation_ratios([stack for stack in stacks if stack.tensors.dim() > 2], _thinned, len(tensors))
    return [
        dict(itertools.chain(_of_norms(its, *its_norms), _of_ranks(its, its_ranks)))
        for its, its_norms, its_ranks in zip(networks, _split(norms, networks), _split(ranks, networks))
    ]


def _of_norms(tensors: list[Tensor], l1: Numbers, l2: Numbers) -> Found:
    sizes, squares = np.array([g.numel() for g in tensors]), np.square(l2)
    weights = int(sizes.sum())
    yield 'weights', float(weights)
    yield 'gradient-size', math.log1p(1 / max(math.sqrt(squares.sum() / weights), 1e-30))
    yield 'gradient-norm', _sum(np.log1p(l2))
    yield 'log-l1', _sum(np.log1p(l1))
    yield 'log-mgm', _sum(np.log1p(squares))
    if not np.isfinite(l2).all():
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    matrices = np.array([g.dim() > 1 for g in tensors])
    with np.errstate(invalid='ignore'):
        ratios = np.nan_to_num(np.square(l1 / l2)[matrices])  # zeros have none
    yield 'participation', _sum(ratios)
    yield 'participation-roots', _sum(np.sqrt(ratios))
    yield 'log-participation', _sum(np.log1p(ratios))
    yield 'participation-share', _sum(ratios / sizes[matrices]) / max(len(ratios), 1)


def _of_ranks(tensors: list[Tensor], ranks: Numbers) -> Found:
    ranks = ranks[[g.dim() > 1 for g in tensors]]
    sides = np.array([min(g.shape[0], g.numel() // g.shape[0], ROWS) for g in tensors if g.dim() > 1])
    yield 'weight-rank', _sum(ranks)
    yield 'weight-log-rank', _sum(np.log1p(np.square(ranks)))
    yield 'weight-rank-share', _sum(ranks / sides) / max(len(ranks), 1)


def _of_features(networks: Sequence[Sequence[Trace]]) -> list[dict[str, float]]:
    """Statistics of what passes through the layers on the way forth, network by network."""
    ranks, samples = _ranks_of([trace.features for traces in networks for trace in traces])
    every = zip(networks, _split(ranks, networks), _split(samples, networks))
    return [dict(_of_forth(traces, its_ranks, its_samples)) for traces, its_ranks, its_samples in every]


def _of_forth(traces: Sequence[Trace], ranks: Numbers, samples: Numbers) -> Found:
    yield 'layers', float(len(traces))
    yield 'units', math.log1p(sum(trace.units for trace in traces))
    yield 'feature-rank', _sum(ranks)
    yield 'feature-rank-squares', _sum(np.square(ranks))
    yield 'feature-log-rank', _sum(np.log1p(np.square(ranks)))
    yield 'feature-rank-late', _late(ranks)
    yield 'feature-survival', _ratio(_late(ranks), _early(ranks))
    yield 'sample-rank', _sum(samples)
    yield 'sample-rank-late', _late(samples)


def _of_arrived(networks: Sequence[Sequence[Trace]]) -> list[dict[str, float]]:
    """Statistics of the gradients that arrive at the layers; of those where none does they are 0."""
    ranks, samples = _ranks_of([trace.gradients for traces in networks for trace in traces])
    every = zip(_split(ranks, networks), _split(samples, networks))
    return [dict(_of_back(its_ranks, its_samples)) for its_ranks, its_samples in every]


def _of_back(ranks: Numbers, samples: Numbers) -> Found:
    yield 'backward-rank', _sum(ranks)
    yield 'backward-log-rank', _sum(np.log1p(np.square(ranks)))
    yield 'backward-rank-early', _early(ranks)
    yield 'backward-survival', _ratio(_early(ranks), _late(ranks))
    yield 'backward-sample-rank', _sum(samples)


def _ranks_of(values: Sequence[Tensor | None]) -> tuple[Numbers, Numbers]:
    """Of what passes through each layer, the ranks of its channels and of its samples."""
    stacks = in_stacks(values)
    channels = participation_ratios(stacks, _positions_centred, len(values))
    return channels, participation_ratios(stacks, _samples, len(values))


def _sum(values: Numbers) -> float:
    return float(values.sum())


def _early(values: Numbers) -> float:
    """The mean over the first third, at least one, of the layers."""
    return float(values[: max(1, len(values) // 3)].mean()) if len(values) else 0.0


def _late(values: Numbers) -> float:
    return _early(values[::-1])


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0


def _thinned(tensors: Tensor) -> Tensor:
    """Gradients of weights as matrices, of at most so many rows, evenly spaced along their smaller side."""
    matrices = tensors.flatten(2)
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.mT
    count = matrices.shape[1]
    if count <= ROWS:
        return matrices
    return matrices[:, torch.arange(ROWS, device=matrices.device) * count // ROWS]


def _positions_centred(values: Tensor) -> Tensor:
    """Rows of channels at all positions of all samples, of ``L x n x positions x channels``, without their mean."""
    rows = values.flatten(1, 2)
    return rows - rows.mean(1, keepdim=True)


def _samples(values: Tensor) -> Tensor:
    """A row for each sample."""
    return values.flatten(2)
