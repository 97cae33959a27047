"""The Jacobian of a network's outputs over one entry of each parameter, for each sample.

The gradient of each sample over a layer's weights costs more than all else. Over one entry it is not needed: a convolution,
a linear layer and a norm are linear in their parameters, so that the entry's part is the layer of that entry alone, times
the gradient that arrives at the layer's output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nni_knas.gradients import Gradients, modules_of

__all__ = ['jacobian_of_first_entries']

_FORWARDS = {layer.forward for layer in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.GroupNorm, _BatchNorm)}


class _Unfit(Exception):
    """A layer's output does not have the samples along its first and the channels along its second dimension."""


class _Call(NamedTuple):
    output: Tensor
    tangents: dict[int, Tensor]
    """By the parameter's place: how its first entry moves the first channel of the output."""


def jacobian_of_first_entries(gradients: Gradients, classes: int) -> Tensor:
    """The Jacobian of the outputs over the first entry of each trainable parameter.

    Where all parameters are of convolutions, linear layers and norms, and samples do not touch, it costs a backward pass a
    class and three forward passes; else a pass with per-sample gradients a class.

    Returns
    -------
    Tensor of float64, shape n x classes x parameters
    """
    places = {id(p): place for place, p in enumerate(gradients.parameters.values())}
    layers = [module for module in modules_of(gradients.network) if type(module).forward in _FORWARDS]
    known = {id(p) for layer in layers for p in layer._parameters.values()}
    if gradients.normalization == 'sample' and places.keys() <= known:
        with contextlib.suppress(_Unfit):
            return torch.cat(
                gradients.watch(lambda samples, forward: _by_layers(layers, places, samples.size, classes, forward))
            )
    return torch.stack([_by_samples(gradients, number) for number in range(classes)], 1)


def _by_samples(gradients: Gradients, number: int) -> Tensor:
    """Of one class, ``n x parameters``, from the gradients of each sample."""
    per_sample = gradients.of_class(number).per_sample()
    return torch.stack([g.reshape(len(g), -1)[:, 0] for g in per_sample.values()], 1).double()


def _by_layers(
    layers: list[nn.Module], places: Mapping[int, int], samples: int, classes: int, forward: Callable[..., Tensor]
) -> Tensor:
    with _watched(layers, places, samples) as calls:
        outputs = forward()
    jacobian = torch.zeros(samples, classes, len(places), dtype=torch.float64, device=outputs.device)
    arriving = [call for call in calls if call.tangents and call.output.requires_grad]
    for number in range(classes):
        found = torch.autograd.grad(
            outputs[:, number].sum(), [call.output for call in arriving], retain_graph=True, allow_unused=True
        )
        for g, call in zip(found, arriving):
            for place, tangent in call.tangents.items() if g is not None else ():
                jacobian[:, number, place] += (g[:, :1] * tangent).double().flatten(1).sum(1)
    return jacobian


@contextlib.contextmanager
def _watched(layers: list[nn.Module], places: Mapping[int, int], samples: int) -> Iterator[list[_Call]]:
    """The calls of these layers within."""
    calls: list[_Call] = []
    busy = False

    def look(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        nonlocal busy
        if busy:
            return None
        if len(output) != samples or (isinstance(layer, nn.Linear) and output.dim() != 2):
            raise _Unfit
        busy = True
        try:
            calls.append(_Call(output, _tangents(layer, places, inputs)))
        finally:
            busy = False
        return output.clone()  # which a later layer may write into

    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _tangents(layer: nn.Module, places: Mapping[int, int], inputs: tuple[Any, ...]) -> dict[int, Tensor]:
    parameters = {name: p for name, p in layer._parameters.items() if p is not None}
    tangents = {}
    for name, p in parameters.items():
        if id(p) in places:
            alone = {each: torch.zeros_like(other) for each, other in parameters.items()}
            alone[name].view(-1)[0] = 1
            with torch.no_grad():
                tangents[places[id(p)]] = torch.func.functional_call(layer, alone, inputs)[:, :1]
    return tangents
