"""The setting in which a network is scored: its state, its layers that act differently, and the random generators."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import random
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors as flatten_dense_tensors
from torch._utils import _unflatten_dense_tensors as unflatten_dense_tensors
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from nni_knas.basics.names import Normalization
from nni_knas.gradients.errors import CoupledSamples, ScoringError

__all__ = [
    'Normalization',
    'ScoringMode',
    'cpu_threads',
    'evaluating',
    'is_scoring',
    'modules_of',
    'seeded',
    'undisturbed',
    'wait_for_device',
]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global random generators, and give them their old states back at the end."""
    cuda = torch.cuda.is_initialized()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    try:
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)


@contextlib.contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Compute on this many CPU threads; ``None`` leaves their number as it is."""
    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_for_device(device: torch.device) -> None:
    """Return when the device has done what it was given, which a CUDA device does beside the program."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def undisturbed(network: nn.Module, *, seed: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """Set a network up for scoring, and leave it as it was found: buffers, modes, device, and all random generators.

    The network is in training mode, so that auxiliary heads answer and every BatchNorm normalises; dropout, drop-path and
    the like are off, since their noise says nothing about the architecture and would differ from part to part of a
    minibatch.

    Raises
    ------
    ScoringError
        If the network has lazy layers that do not know their shapes yet.
    """
    modules = modules_of(network)
    parameters = [p for module in modules for p in module._parameters.values() if p is not None]
    buffers = [buffer for module in modules for buffer in module._buffers.values() if buffer is not None]
    if any(map(is_lazy, {type(tensor): tensor for tensor in (*parameters, *buffers)}.values())):  # one of each type
        raise ScoringError('the network has lazy layers that do not know their shapes yet: pass it some data once before')
    modes = [module.training for module in modules]
    devices = {p.device for p in parameters}
    home = devices.pop() if len(devices) == 1 else None  # a network spread over several devices stays where it is
    away = device is not None and home is not None and home != device
    with (
        seeded(seed),
        torch.inference_mode(False),
        torch.enable_grad(),
        _restored_tensors(modules),
        _direct_normalisation(modules),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        try:
            if away:
                network.to(device)
            _switch_mode(network, modules, True)
            for module in filter(_is_noise, modules):
                set_training(module, False)
            yield
        finally:
            if away:
                network.to(home)
            for module, training in zip(modules, modes):
                set_training(module, training)


def modules_of(network: nn.Module) -> list[nn.Module]:
    """All modules of a network, each once, the network first; faster than ``network.modules()``, which makes names."""
    found, met = [network], {id(network)}
    for module in found:  # grows meanwhile
        for child in module._modules.values():
            if child is not None and id(child) not in met:
                met.add(id(child))
                found.append(child)
    return found


def set_training(module: nn.Module, training: bool) -> None:
    """``module.training = training`` without the detour through torch's search for parameters."""
    own = module.__dict__
    if 'training' in own:
        own['training'] = training
    else:
        module.training = training


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside: no layer normalises by the data or adds noise. All modules get their own modes back."""
    modules = modules_of(network)
    modes = [module.training for module in modules]
    try:
        _switch_mode(network, modules, False)
        yield
    finally:
        for module, training in zip(modules, modes):
            set_training(module, training)


def _switch_mode(network: nn.Module, modules: list[nn.Module], training: bool) -> None:
    """``network.train(training)``, faster where no module has a ``train`` of its own."""
    kinds: set[type[nn.Module]] = set(map(type, modules))
    if all(kind.train is nn.Module.train for kind in kinds):
        for module in modules:
            set_training(module, training)
    else:
        network.train(training)


@contextlib.contextmanager
def _restored_tensors(modules: list[nn.Module]) -> Iterator[None]:
    """Give buffers, and weights that a forward pass rescales, their old values back at the end."""
    buffers = [(own, name, buffer) for module in modules if (own := module._buffers) for name, buffer in own.items()]
    # BatchNorm counts batches, which would only have to be undone; without a counter it does not.
    for module in filter(_is_batch_norm, modules):
        if 'num_batches_tracked' in module._buffers:
            module._buffers['num_batches_tracked'] = None
    held = [buffer for place, name, buffer in buffers if buffer is not None and place[name] is not None]
    # Embeddings with a largest norm scale their weights down in the forward pass.
    held += [
        module.weight
        for module in modules
        if module._parameters and isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None
    ]
    kinds = defaultdict(list)
    for tensor in held:
        kinds[tensor.dtype, tensor.device].append(tensor.detach())
    before = [(tensors, _flat_copy(tensors)) for tensors in kinds.values()]
    try:
        yield
    finally:
        for tensors, values in before:
            if not torch.equal(flatten_dense_tensors(tensors), values):  # hardly ever: it costs a fifth of writing them
                torch._foreach_copy_(tensors, list(unflatten_dense_tensors(values, tensors)))
        for place, name, buffer in buffers:
            place[name] = buffer


def _flat_copy(tensors: list[Tensor]) -> Tensor:
    flat: Tensor = flatten_dense_tensors(tensors)
    return flat.clone() if len(tensors) == 1 else flat  # of a single tensor it is a view


@contextlib.contextmanager
def _direct_normalisation(modules: list[nn.Module]) -> Iterator[None]:
    """Let torch's own BatchNorm layers normalise as :class:`ScoringMode` says without calling the function it replaces.

    It comes to the same: but on its way through torch's hooks for functions a call takes longer than it computes.
    """
    layers = [module for module in filter(_is_batch_norm, modules) if 'forward' not in module.__dict__]
    for layer in layers:
        layer.__dict__['forward'] = types.MethodType(_normalise, layer)  # a copy of the network has one of its own
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__['forward']


def _normalise(layer: _BatchNorm, input: Tensor) -> Tensor:
    mode = _SCORING.get()
    if mode is None or not layer.training:
        return _BatchNorm.forward(layer, input)
    with torch._C.DisableTorchFunction():
        layer._check_input_dim(input)
        mean, var = (layer.running_mean, layer.running_var) if layer.track_running_stats else (None, None)
        return mode.normalise(input, mean, var, layer.weight, layer.bias, layer.eps)


def has_own_forward(module: nn.Module) -> bool:
    """Whether somebody has put another ``forward`` on a module; what is put there while it is scored does not count."""
    own = module.__dict__.get('forward')
    return own is not None and getattr(own, '__func__', None) is not _normalise


def _is_batch_norm(module: nn.Module) -> bool:
    return type(module).forward is _BatchNorm.forward


def _is_noise(module: nn.Module) -> bool:
    """Whether all that training mode adds to this module is noise.

    So it is with a module that holds nothing (dropout, drop-path, stochastic depth), and with the two of torch's own that
    have dropout built in.
    """
    own = module.__dict__
    if not (own['_modules'] or own['_parameters'] or own['_buffers']):
        return True
    return isinstance(module, (nn.MultiheadAttention, nn.RNNBase))


_SCORING: contextvars.ContextVar[ScoringMode | None] = contextvars.ContextVar('scoring', default=None)


def is_scoring() -> bool:
    """Whether a network is being passed through to be scored: its weights do not change meanwhile."""
    return _SCORING.get() is not None


class ScoringMode(TorchFunctionMode):
    """What normalisation and dropout functions do while a network is scored.

    The functions are replaced rather than the layers, so that layers that call them in their own way are served too.

    Parameters
    ----------
    normalization
        The statistics that BatchNorm normalises by, see :class:`Gradients`.
    samples
        Number of samples that the network is given.
    whole
        Whether these are the whole minibatch.
    """

    def __init__(self, normalization: Normalization | Literal['none'], samples: int, whole: bool = True) -> None:
        super().__init__()
        self.normalization = normalization
        self.samples = samples
        self.whole = whole

    def __enter__(self) -> ScoringMode:
        self._before = _SCORING.set(self)
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        _SCORING.reset(self._before)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacement = _REPLACED.get(func)
        if replacement is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        return replacement(self, func, *args, **kwargs or {})

    def _skip_dropout(self, func: Callable[..., Any], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return input

    def _attention_without_dropout(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        bound = _ATTENTIONS[func].bind(*args, **kwargs)
        bound.arguments['dropout_p'] = 0.0
        return func(*bound.args, **bound.kwargs)

    def _normalise_batch(
        self,
        func: Callable[..., Any],
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training and self.normalization != 'none':
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        return self.normalise(input, running_mean, running_var, weight, bias, eps)

    def normalise(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        """What a BatchNorm in training makes of its input."""
        if self.normalization == 'none':
            return input
        if self.normalization == 'batch':
            if not self.whole:
                raise CoupledSamples
            return F.batch_norm(input, None, None, weight, bias, True, eps=eps)
        rows = input.shape[0]
        if rows > self.samples and rows % self.samples == 0:  # a sample has several rows: tokens, frames, patches
            together = input.unflatten(0, (self.samples, -1)).transpose(1, 2)
            return _normalise_each(together, weight, bias, eps).transpose(1, 2).flatten(0, 1)
        if input.shape[2:].numel() > 1:
            return _normalise_each(input, weight, bias, eps)
        # One value per channel has no statistics of its own.
        mean = input.new_zeros(input.shape[1]) if running_mean is None else running_mean
        var = input.new_ones(input.shape[1]) if running_var is None else running_var
        return F.batch_norm(input, mean, var, weight, bias, eps=eps)


def _normalise_each(input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each channel of each sample by its own statistics: what ``F.instance_norm`` computes, by one operation, not ten."""
    return torch.group_norm(input, input.shape[1], weight, bias, eps)


_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
_ATTENTIONS = {  # that of scaled_dot_product_attention, a built-in function, cannot be looked up
    F.scaled_dot_product_attention: inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
            for name, default in [
                ('query', inspect.Parameter.empty),
                ('key', inspect.Parameter.empty),
                ('value', inspect.Parameter.empty),
                ('attn_mask', None),
                ('dropout_p', 0.0),
                ('is_causal', False),
            ]
        ]
        + [inspect.Parameter('others', inspect.Parameter.VAR_KEYWORD)]
    ),
    F.multi_head_attention_forward: inspect.signature(F.multi_head_attention_forward),
}
_REPLACED: dict[Any, Callable[..., Any]] = {F.batch_norm: ScoringMode._normalise_batch}
_REPLACED.update((function, ScoringMode._skip_dropout) for function in _DROPOUTS)
_REPLACED.update((function, ScoringMode._attention_without_dropout) for function in _ATTENTIONS)
