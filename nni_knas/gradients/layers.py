"""The gradients of one layer's weights for several networks that share it, of what went in and of what came back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nni_knas.gradients.scoring_mode import has_own_forward

__all__ = ['is_separable', 'weight_gradients']

_KNOWN = {
    nn.Conv1d.forward,
    nn.Conv2d.forward,
    nn.Conv3d.forward,
    nn.Linear.forward,
    nn.LayerNorm.forward,
    nn.GroupNorm.forward,
    _BatchNorm.forward,
}


def is_separable(layer: nn.Module) -> bool:
    """Whether it is known all that a layer does with its weights."""
    return (
        type(layer).forward in _KNOWN
        and {name for name, p in layer._parameters.items() if p is not None} <= {'weight', 'bias'}
        and not (layer._forward_hooks or layer._forward_pre_hooks or has_own_forward(layer))
        and not (isinstance(layer, _ConvNd) and (layer.padding_mode != 'zeros' or isinstance(layer.padding, str)))
    )


def weight_gradients(
    layer: nn.Module, inputs: Tensor, arrived: Tensor, *, one_by_one: bool
) -> list[tuple[nn.Parameter, Tensor]]:
    """The gradients of a layer's parameters.

    Parameters
    ----------
    layer
        The layer.
    inputs
        What went in, ``networks x rows x ...``.
    arrived
        The gradient at what came out, ``networks x rows x ...``.
    one_by_one
        Whether they are computed as by each network itself, rather than by one call for all.

    Returns
    -------
    list of (Parameter, Tensor)
        Each parameter, with its gradients of shape ``networks x`` its own.
    """
    parameters = {name: p for name, p in layer._parameters.items() if p is not None}

    def of_one(inputs: Tensor, arrived: Tensor) -> tuple[Tensor, ...]:
        if isinstance(layer, _ConvNd):
            return _of_convolution(layer, inputs, arrived)
        values = {name: p.detach() for name, p in parameters.items()}
        return (_by_autograd if one_by_one else _by_functorch)(layer, values, inputs, arrived)

    if one_by_one:
        rows = [of_one(*pair) for pair in zip(inputs, arrived)]
        return [(p, torch.stack(every)) for p, every in zip(parameters.values(), zip(*rows))]
    return list(zip(parameters.values(), torch.func.vmap(of_one)(inputs, arrived)))


def _of_convolution(layer: _ConvNd, inputs: Tensor, arrived: Tensor) -> tuple[Tensor, ...]:
    """As autograd does, without the forward pass that went before."""
    _, weight, bias = torch.ops.aten.convolution_backward(
        arrived,
        inputs,
        layer.weight.detach(),
        [layer.out_channels],
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0] * len(layer.kernel_size),
        layer.groups,
        [False, True, layer.bias is not None],
    )
    return (weight,) if bias is None else (weight, bias)


def _by_autograd(layer: nn.Module, values: dict[str, Tensor], inputs: Tensor, arrived: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = {name: value.requires_grad_() for name, value in values.items()}
        return torch.autograd.grad(_forward(layer, leaves, inputs), list(leaves.values()), arrived)


def _by_functorch(layer: nn.Module, values: dict[str, Tensor], inputs: Tensor, arrived: Tensor) -> tuple[Tensor, ...]:
    back = torch.func.vjp(lambda values: _forward(layer, values, inputs), values)[1]
    return tuple(back(arrived)[0].values())


def _forward(layer: nn.Module, values: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """What the layer gives with these values in the place of its parameters."""
    before = dict(layer._parameters)
    try:
        layer._parameters.update(values)  # type: ignore[arg-type]
        outputs: Tensor = layer.forward(inputs)
        return outputs
    finally:
        layer._parameters.update(before)
