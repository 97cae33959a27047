"""What passes through each layer on the way forth and back: features and gradients at a few evenly spaced positions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

__all__ = ['ROWS', 'Trace', 'Tracer', 'has_weights', 'is_frozen', 'joined']

ROWS, POSITIONS = 128, 16
"""Rows of features that a layer is judged by: of all samples together about, and of each sample at most."""


class Trace(NamedTuple):
    """One call of one layer.

    Attributes
    ----------
    features
        The outputs at some positions of each sample, shape ``n x positions x channels``.
    gradients
        The gradient of the loss with respect to them, of the same shape; ``None`` where the loss does not depend on them,
        and where only features were asked for.
    units
        Outputs of one sample, at all positions.
    """

    features: Tensor
    gradients: Tensor | None
    units: int


def has_weights(module: nn.Module) -> bool:
    """Whether a module is a layer: it has a parameter of two dimensions or more of its own."""
    return any(p is not None and p.dim() > 1 for p in module._parameters.values())


def is_frozen(module: nn.Module) -> bool:
    """Whether none of a module's own parameters is trained."""
    return not any(p is not None and p.requires_grad for p in module._parameters.values())


class _Call(NamedTuple):
    layer: nn.Module
    samples: int
    features: Tensor
    units: int
    edge: GradientEdge | None
    """Where in the graph the gradient with respect to the output arrives, whatever is written into the output later."""


class Tracer:
    """Watches the layers of a network, those modules that have a parameter of two dimensions or more of their own.

    There is no trace of a layer that is frozen, as in an encoder that is not tuned, which is the same for all candidates; of
    one whose weights are used without calling it (the output projection of ``nn.MultiheadAttention``); or of one whose
    output has no samples (a table of positions).

    Parameters
    ----------
    modules
        The network's modules that have parameters of their own.
    samples
        Number of samples in the whole minibatch.
    """

    def __init__(self, modules: Iterable[nn.Module], samples: int) -> None:
        self._layers = [module for module in modules if has_weights(module) and not is_frozen(module)]
        self._positions = min(POSITIONS, -(-ROWS // samples))
        self._calls: list[_Call] = []
        self._backward = False

    @contextlib.contextmanager
    def watching(self, samples: int, backward: bool) -> Iterator[None]:
        """Watch the forward pass of this many samples that is made within, and whether a backward pass is to be, too."""
        self.begin(backward)
        hooks = [layer.register_forward_hook(functools.partial(self.look, samples)) for layer in self._layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def begin(self, backward: bool) -> None:
        """There will be a pass, or a forward pass alone."""
        self._backward, self._calls = backward, []

    @property
    def calls(self) -> int:
        """How many calls were kept."""
        return len(self._calls)

    def edges(self) -> list[GradientEdge]:
        """Where gradients are asked for besides those of the parameters, so that the pass calls nothing on its way back."""
        return [call.edge for call in self._calls if call.edge is not None]

    def traces(self, arrived: Sequence[Tensor | None]) -> list[Trace]:
        """The calls in their order.

        Parameters
        ----------
        arrived
            The gradients at :meth:`edges`.
        """
        found = iter(arrived)
        gradients = [None if call.edge is None else next(found) for call in self._calls]
        traces = [
            Trace(call.features, None if g is None else self._rows_of(call.layer, g, call.samples), call.units)
            for call, g in zip(self._calls, gradients)
        ]
        self._calls = []
        return traces

    def look(self, samples: int, layer: nn.Module, inputs: Any, output: Any) -> None:
        """Forward hook: keep a call of this many samples, if it leaves a trace."""
        with torch._C.DisableTorchFunction():  # nothing here is for the modes that the pass is made in
            output = output[0] if isinstance(output, (tuple, list)) and output else output
            if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
                return
            rows = self._rows_of(layer, output.detach(), samples) if _have_tensor(inputs) else None
            if rows is not None:
                edge = get_gradient_edge(output) if self._backward and output.requires_grad else None
                self._calls.append(_Call(layer, samples, rows, output.numel() // samples, edge))

    def _rows_of(self, layer: nn.Module, values: Tensor, n: int) -> Tensor | None:
        """Some positions of each sample, ``n x positions x channels``: copies, since a later layer may write into it."""
        is_convolution = isinstance(layer, _ConvNd)
        if not is_convolution and values.dim() > 2 and getattr(layer, 'batch_first', True) is False:
            values = values.transpose(0, 1)
        rows, channels = values.shape[:2]
        if rows % n or not values.numel():
            return None
        if is_convolution:
            if rows != n:  # a sample has several
                values = values.reshape(n, rows // n, channels, -1).transpose(1, 2)
            values = values.reshape(n, channels, -1)
            return values.index_select(2, _evenly(values.shape[2], self._positions, values.device)).mT.contiguous()
        values = values.reshape(n, -1, values.shape[-1])
        return values.index_select(1, _evenly(values.shape[1], self._positions, values.device))


@functools.lru_cache(maxsize=256)
def _evenly(count: int, most: int, device: torch.device) -> Tensor:
    """Evenly spaced places among so many, the middles of equal parts: the first may be a class token or a border."""
    taken = min(count, most)
    with torch.inference_mode(False):
        return (2 * torch.arange(taken, device=device) + 1) * count // (2 * taken)


def _have_tensor(inputs: Any) -> bool:
    return (bool(inputs) and isinstance(inputs[0], Tensor)) or any(isinstance(leaf, Tensor) for leaf in tree_leaves(inputs))


def joined(parts: list[list[Trace]]) -> list[Trace] | None:
    """The traces of micro-batches as those of the minibatch; ``None`` where they went different ways through the network."""
    if len(parts) == 1:
        return parts[0]
    if len({tuple(trace.features.shape[1:] for trace in part) for part in parts}) > 1:
        return None
    return [_join(calls) for calls in zip(*parts)]


def _join(calls: tuple[Trace, ...]) -> Trace:
    gradients = None
    if any(call.gradients is not None for call in calls):
        gradients = torch.cat([torch.zeros_like(c.features) if c.gradients is None else c.gradients for c in calls])
    return Trace(torch.cat([call.features for call in calls]), gradients, calls[0].units)
