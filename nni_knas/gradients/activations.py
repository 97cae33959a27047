"""What forward passes show: outputs of modules, patterns of rectifiers, and how outputs depend on the inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from nni_knas.gradients.errors import MisfitError, NotApplicable, ScoringError
from nni_knas.gradients.gradients import Gradients
from nni_knas.gradients.losses import main_output
from nni_knas.gradients.samples import Minibatch, is_sampled

__all__ = ['first_embedding', 'input_jacobian', 'module_outputs', 'rectifier_patterns']

_RECTIFIERS = {F.relu, F.relu_, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_EMBEDDINGS = {F.embedding, F.embedding_bag}


@contextlib.contextmanager
def module_outputs(modules: Iterable[nn.Module], see: Callable[[nn.Module, Tensor], None]) -> Iterator[None]:
    """Show ``see`` the main output of each call of these modules, at once, since a later layer may write into it.

    Of several it is the first that is not among the module's inputs, as cells hand on what they got.
    """

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, (tuple, list)):
            given = [id(leaf) for leaf in tree_flatten(inputs)[0]]
            output = next((leaf for leaf in tree_flatten(output)[0] if id(leaf) not in given), output)
        with contextlib.suppress(MisfitError):  # it gives something else
            see(module, main_output(output))

    hooks = [module.register_forward_hook(look) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def rectifier_patterns(gradients: Gradients) -> list[Tensor]:
    """Which units of the rectifiers are on for which sample, from one forward pass.

    Every call of a ReLU or ReLU6 counts, as a layer or as a function. (What ``nn.RNN`` has inside cannot be seen.)

    Returns
    -------
    list of Tensor of bool
        For each call, in the order of the pass, a tensor of shape ``n x units``.

    Raises
    ------
    NotApplicable
        If the network has no rectifier.
    ScoringError
        If its outputs are not finite.
    """

    def look(samples: Minibatch, forward: Callable[..., Tensor]) -> list[Tensor]:
        mode = _Patterns(samples.size)
        with torch.no_grad(), mode:
            check_finite(forward())
        return mode.patterns

    parts = gradients.watch(look)
    if len({tuple(pattern.shape[1] for pattern in part) for part in parts}) > 1:
        raise ScoringError('samples go different ways through the network: the patterns of its ReLUs cannot be compared')
    if not parts[0]:
        raise NotApplicable('the network has no ReLU')
    return [torch.cat(calls) for calls in zip(*parts)]


class _Patterns(TorchFunctionMode):
    """Keeps the patterns of the rectifiers that are called within."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.patterns: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **kwargs or {})
        if func in _RECTIFIERS and (func is not F.hardtanh or _is_relu6(*args, **kwargs or {})):
            self.patterns.append(_by_sample(output > 0, self.samples))
        return output


def _by_sample(units: Tensor, samples: int) -> Tensor:
    """Units as ``n x units``; the samples are the first dimension, or the second one after time."""
    if units.dim() > 1 and len(units) % samples and units.shape[1] == samples:
        units = units.transpose(0, 1)
    if units.dim() == 0 or len(units) % samples:
        raise ScoringError('a ReLU sees the samples one by one: their patterns cannot be compared')
    return units.reshape(samples, -1)


def _is_relu6(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> bool:
    """Whether a call of ``F.hardtanh`` is what ``nn.ReLU6`` computes."""
    return min_val == 0


def input_jacobian(gradients: Gradients) -> Tensor:
    """The gradient of the sum of a sample's outputs with respect to its inputs, from one forward-backward pass.

    Where a sample's inputs are token ids it is taken at the output of the first embedding in their place.

    Returns
    -------
    Tensor, shape n x inputs

    Raises
    ------
    ScoringError
        If the outputs do not depend on the inputs, or are not finite.
    """
    return torch.cat(gradients.watch(_jacobian_of))


def _jacobian_of(samples: Minibatch, forward: Callable[..., Tensor]) -> Tensor:
    leaves, spec = tree_flatten(samples.inputs)
    numbers = [i for i, leaf in enumerate(leaves) if is_sampled(leaf, samples.size) and leaf.is_floating_point()]
    if reads_tokens(samples):
        with first_embedding(lambda output: output.detach().requires_grad_()) as found:
            outputs = forward()
        inputs = found
    else:
        inputs = [leaves[i].detach().requires_grad_() for i in numbers]
        for i, leaf in zip(numbers, inputs):
            leaves[i] = leaf
        outputs = forward(tree_unflatten(leaves, spec))
    check_finite(outputs)
    if inputs and outputs.requires_grad:
        every = torch.autograd.grad(outputs.sum(), inputs, allow_unused=True)
        found_ones = [g.reshape(samples.size, -1) for g in every if g is not None]
        if found_ones:
            return torch.cat(found_ones, 1)
    raise ScoringError('the outputs do not depend on the inputs')


def reads_tokens(samples: Minibatch) -> bool:
    """Whether the samples are token ids rather than numbers."""
    leaves = [leaf for leaf in tree_flatten(samples.inputs)[0] if isinstance(leaf, Tensor)]
    return any(not (leaf.is_floating_point() or leaf.is_complex() or leaf.dtype == torch.bool) for leaf in leaves)


def check_finite(outputs: Tensor) -> None:
    if not torch.isfinite(outputs).all():
        raise ScoringError('the outputs are not finite: the network explodes at its initial weights')


@contextlib.contextmanager
def first_embedding(replace: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Put something in the place of the output of the first embedding that is looked up within.

    Yields
    ------
    list of Tensor
        What was put there; empty until then.
    """
    mode = _FirstEmbedding(replace)
    with mode:
        yield mode.found


class _FirstEmbedding(TorchFunctionMode):
    def __init__(self, replace: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.replace = replace
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **kwargs or {})
        if func in _EMBEDDINGS and not self.found:
            self.found.append(self.replace(output))
            return self.found[0]
        return output
