"""What passes through each layer on the way forth and back: features and gradients at a few evenly spaced positions."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_flatten

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
        The gradient of the loss with respect to them, of the same shape; ``None`` where the loss does not depend on them.
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


class Tracer:
    """Watches the layers of a network, those modules that have a parameter of two dimensions or more of their own.

    There is no trace of a layer that is frozen, as in an encoder that is not tuned, which is the same for all candidates; of
    one whose weights are used without calling it (the output projection of ``nn.MultiheadAttention``); or of one whose
    output has no samples (a table of positions).

    Parameters
    ----------
    network
        The network.
    samples
        Number of samples in the whole minibatch.
    """

    def __init__(self, network: nn.Module, samples: int) -> None:
        self._layers = [module for module in network.modules() if has_weights(module) and not is_frozen(module)]
        self._positions = min(POSITIONS, -(-ROWS // samples))
        self._places: dict[tuple[int, torch.device], Tensor] = {}
        self._calls: list[list[Any]] = []
        self._hooks: list[Any] = []

    def begin(self, samples: int) -> None:
        """Watch a pass of this many samples."""
        self._calls = []
        self._hooks = [layer.register_forward_hook(functools.partial(self.look, samples)) for layer in self._layers]

    @property
    def calls(self) -> int:
        """How many calls were kept."""
        return len(self._calls)

    def end(self) -> list[Trace]:
        """Watch no more, and give the calls in their order."""
        for hook in self._hooks:
            hook.remove()
        traces, self._calls = [Trace(*call) for call in self._calls], []
        return traces

    def look(self, samples: int, layer: nn.Module, inputs: Any, output: Any) -> None:
        """Forward hook: keep a call of this many samples, if it leaves a trace."""
        output = output[0] if isinstance(output, (tuple, list)) and output else output
        takes_tensors = any(isinstance(leaf, Tensor) for leaf in tree_flatten(inputs)[0])
        if not takes_tensors or not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
            return
        rows = self._rows_of(layer, output.detach(), samples)
        if rows is None:
            return
        call: list[Any] = [rows, None, output.numel() // samples]
        self._calls.append(call)
        if output.requires_grad:

            def keep(gradient: Tensor) -> None:
                call[1] = self._rows_of(layer, gradient.detach(), samples)

            output.register_hook(keep)

    def _rows_of(self, layer: nn.Module, values: Tensor, n: int) -> Tensor | None:
        """Some positions of each sample, ``n x positions x channels``: copies, since a later layer may write into it."""
        if getattr(layer, 'batch_first', True) is False and values.dim() > 2:
            values = values.transpose(0, 1)
        if values.shape[0] % n or not values.numel():
            return None
        if isinstance(layer, _ConvNd):
            channels = values.shape[1]
            values = values.reshape(n, -1, channels, values[0, 0].numel())
            values = values[:, 0] if values.shape[1] == 1 else values.transpose(1, 2).flatten(2)
            return values.index_select(2, self._evenly(values.shape[2], values.device)).mT.contiguous()
        values = values.reshape(n, -1, values.shape[-1])
        return values.index_select(1, self._evenly(values.shape[1], values.device))

    def _evenly(self, count: int, device: torch.device) -> Tensor:
        """Evenly spaced places among so many, the middles of equal parts: the first may be a class token or a border."""
        if (count, device) not in self._places:
            taken = min(count, self._positions)
            self._places[count, device] = (2 * torch.arange(taken, device=device) + 1) * count // (2 * taken)
        return self._places[count, device]


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
