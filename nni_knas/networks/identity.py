"""Which candidates are the same network: recognised by what they compute, not by how they are labelled."""

from __future__ import annotations

import hashlib

import torch
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace
from torch import Tensor, nn

from nni_knas.gradients import Minibatch, arguments_of, evaluating, main_output, modules_of
from nni_knas.networks.builder import NetworkBuilder

__all__ = ['Identity']


class Identity:
    """Tells candidates of a space apart by what their networks compute.

    Each layer gets weights that depend on its kind and shape alone, so that two networks that differ in the names and places
    of their layers only have the same outputs, and the same gradients, up to rounding. Layers that do nothing for the output
    do not count. The fingerprint is taken in double precision, of the outputs for one sample and of the sizes of their
    gradients with respect to each layer's matrix of weights.

    Two networks of one fingerprint are, at initialisation, the same function of their inputs and weights. The reverse may
    fail: networks that are the same in a way that changes what a layer is have different fingerprints.

    Parameters
    ----------
    space
        The candidates' space.
    minibatch
        The minibatch whose first sample networks are compared on.
    """

    digits = 8
    """How many significant digits of outputs and gradients are compared."""

    def __init__(self, space: ExecutableModelSpace, minibatch: Minibatch) -> None:
        device = torch.device('cpu')
        self._inputs = minibatch.part(0, 1).to(device, torch.float64).inputs
        self._builder = NetworkBuilder(space, 0, device, _set_weights)

    def fingerprint(self, sample: Sample) -> str | None:
        """What tells the candidate's network from others; ``None`` where it cannot be told."""
        try:
            return self._fingerprint_of(self._builder.network(sample))
        except Exception:  # what is wrong with it will be said when the candidate is scored
            return None

    def _fingerprint_of(self, network: nn.Module) -> str | None:
        arguments, keywords = arguments_of(network, self._inputs)
        weights = [p for p in network.parameters() if p.requires_grad and p.dim() > 1]
        with evaluating(network), torch.enable_grad():  # so that scales are told apart
            outputs = main_output(network(*arguments, **keywords)).flatten()
            weighted = outputs @ torch.linspace(1, 2, len(outputs), dtype=outputs.dtype)  # outputs are told apart
            gradients = torch.autograd.grad(weighted, weights, allow_unused=True) if weighted.requires_grad else []
        if not torch.isfinite(weighted):
            return None
        sizes = {i: float(g.norm()) for i, g in enumerate(gradients) if g is not None}
        least = 1e-10 * max(sizes.values(), default=0.0)  # what ought to cancel out leaves rounding errors
        layers = sorted((tuple(weights[i].shape), self._rounded(size)) for i, size in sizes.items() if size > least)
        values = [self._rounded(value) for value in outputs.tolist()]
        return hashlib.sha256(repr((values, layers)).encode()).hexdigest()[:32]

    def _rounded(self, value: float) -> str:
        return f'{value:.{self.digits - 1}e}'


def _set_weights(network: nn.Module) -> None:
    """Give each layer double-precision weights that depend on its kind, settings and shapes alone."""
    network.double()
    with torch.no_grad():
        for module in modules_of(network):
            kind = f'{type(module).__name__}({module.extra_repr()})'
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    # A shift that is zero at first stays so: what has no input then has no output.
                    if tensor is not None and tensor.is_floating_point() and (tensor.dim() > 1 or tensor.any()):
                        tensor.copy_(_weights_for(f'{kind} {name} {tuple(tensor.shape)}', name, tensor))


def _weights_for(key: str, name: str, like: Tensor) -> Tensor:
    """Numbers of a usual size for a tensor of this name, from a seed of its own."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], 'big'))
    values = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    if 'var' in name:
        return 0.5 + values.abs()
    if like.dim() > 1:  # keeps the size of what passes through
        size: float = (2 / max(1, like[0].numel())) ** 0.5
        return values * size
    return 1 + 0.3 * values if name == 'weight' else 0.3 * values
