"""Synaptic flow: paths from inputs to outputs, whatever the signs of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from nni_knas.gradients import Gradients, Minibatch, ScoringError, evaluating, first_embedding, modules_of
from nni_knas.scores.base import Score, register


@register
class SynFlow(Score):
    r"""Synaptic flow: how much goes from the inputs to the outputs through the absolute weights.

    .. math::

        \sum_{w} \Big| w \, \frac{\partial R}{\partial w} \Big|, \qquad
        R = \sum_c f_c(\mathbf{1}; |\theta|)

    :math:`f(\mathbf{1}; |\theta|)` are the outputs for an input of ones with all parameters replaced by their absolute
    values; the sum goes over the parameters of two dimensions or more. 0 or larger, in double precision; a network in which
    it overflows that has no score.

    Sources: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020;
    as a score of architectures Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021.

    The network is in evaluation mode and BatchNorm passes on what it gets, as in the code of the second paper: normalised
    flow would be conserved whatever the network. Token ids have no ones: the output of the first embedding is replaced by
    them. It reads neither data nor targets. It assumes layers that are linear but for rectifiers; LayerNorm and attention
    are gone through as they are.
    """

    name = 'synflow'
    passes = '1, of one sample'

    def __call__(self, gradients: Gradients) -> float:
        network = gradients.network
        with _absolute(network), evaluating(network):
            ones = Minibatch(tree_map(_ones, gradients.minibatch.part(0, 1).inputs), None)
            flow = Gradients(network, ones, normalization='none')
            weights = [p for p in flow.parameters.values() if p.dim() > 1]
            (saliency,) = flow.watch(lambda samples, forward: _saliency(forward, weights))
        if not math.isfinite(saliency):
            raise ScoringError('the flow through the absolute weights is not finite: the network is too deep for it')
        return saliency


def _ones(leaf: Any) -> Any:
    is_number = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return torch.ones_like(leaf, dtype=torch.float64) if is_number else leaf


def _saliency(forward: Callable[..., Tensor], weights: list[nn.Parameter]) -> float:
    with first_embedding(torch.ones_like):
        total = forward().sum()
    found = torch.autograd.grad(total, weights, allow_unused=True) if weights and total.requires_grad else ()
    if all(g is None for g in found):
        raise ScoringError('no parameter of two dimensions or more receives a gradient')
    return math.fsum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, found) if g is not None)


@contextlib.contextmanager
def _absolute(network: nn.Module) -> Iterator[None]:
    """Parameters and buffers by their absolute values, in double precision; what they held is put back at the end."""
    tensors = {
        id(tensor): tensor
        for module in modules_of(network)
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None and tensor.is_floating_point()
    }.values()
    before = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.double().abs()
        yield
    finally:
        for tensor, data in zip(tensors, before):
            tensor.data = data
