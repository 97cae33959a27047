"""The setting in which a network is scored: its state, its layers that act differently, and the random generators."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from nni_knas.gradients.errors import CoupledSamples, ScoringError

__all__ = ['Normalization', 'ScoringMode', 'seeded', 'undisturbed']

Normalization = Literal['sample', 'batch']


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global random generators, and give them their old states back at the end."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
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
def undisturbed(network: nn.Module, *, seed: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """Set a network up for scoring, and leave it as it was found: buffers, modes, device, and all random generators.

    The network is in training mode, so that auxiliary heads answer and every BatchNorm normalises; dropout, drop-path and
    the like are off, since their noise says nothing about the architecture and would differ from part to part of a
    minibatch.
    """
    modes = [(module, module.training) for module in network.modules()]  # going over a network's modules takes its time
    parameters = [p for module, _ in modes for p in module._parameters.values() if p is not None]
    found = [(module, name, buffer) for module, _ in modes for name, buffer in module._buffers.items()]
    if any(is_lazy(tensor) for tensor in (*parameters, *(buffer for *_, buffer in found)) if tensor is not None):
        raise ScoringError('the network has lazy layers that do not know their shapes yet: pass it some data once before')
    buffers = [(module, name, buffer, None if buffer is None else buffer.clone()) for module, name, buffer in found]
    # Embeddings with a largest norm scale their weights down in the forward pass.
    weights = [(module.weight, module.weight.detach().clone()) for module, _ in modes
               if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None]
    devices = {p.device for p in parameters}
    home = devices.pop() if len(devices) == 1 else None  # a network spread over several devices stays where it is
    away = device is not None and home is not None and home != device
    with seeded(seed), torch.inference_mode(False), torch.enable_grad(), \
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        try:
            if away:
                network.to(device)
            network.train()
            for module, _ in modes:
                if _is_noise(module):
                    module.training = False
            yield
        finally:
            if away:
                network.to(home)
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    if buffer is not None and value is not None:
                        buffer.copy_(value)
                    module._buffers[name] = buffer
                for weight, value in weights:
                    weight.copy_(value)


def _is_noise(module: nn.Module) -> bool:
    """Whether all that training mode adds to this module is noise.

    So it is with a module that holds nothing (dropout, drop-path, stochastic depth), and with the two of torch's own that
    have dropout built in.
    """
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return True
    return not (module._modules or module._parameters or module._buffers)


class ScoringMode(TorchFunctionMode):
    """What normalisation and dropout functions do while a network is scored.

    The functions are replaced rather than the layers, so that layers that call them in their own way are served too.

    Parameters
    ----------
    normalization
        See :class:`Gradients`.
    samples
        Number of samples that the network is given.
    whole
        Whether these are the whole minibatch.
    """

    def __init__(self, normalization: Normalization, samples: int, whole: bool = True) -> None:
        super().__init__()
        self.normalization = normalization
        self.samples = samples
        self.whole = whole

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func in _DROPOUTS:
            return args[0] if args else kwargs['input']
        if func in _ATTENTIONS:
            bound = _ATTENTIONS[func].bind(*args, **kwargs)
            bound.arguments['dropout_p'] = 0.0
            return func(*bound.args, **bound.kwargs)
        return func(*args, **kwargs)

    def _batch_norm(self, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
                    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
                    momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        if self.normalization == 'batch':
            if not self.whole:
                raise CoupledSamples
            return F.batch_norm(input, None, None, weight, bias, True, momentum, eps)
        rows = len(input)
        if rows > self.samples and rows % self.samples == 0:  # a sample has several rows: tokens, frames, patches
            together = input.unflatten(0, (self.samples, -1)).transpose(1, 2)
            normalised = F.instance_norm(together, None, None, weight, bias, True, momentum, eps)
            return normalised.transpose(1, 2).flatten(0, 1)
        if input.shape[2:].numel() > 1:
            return F.instance_norm(input, None, None, weight, bias, True, momentum, eps)
        # One value per channel has no statistics of its own.
        mean = input.new_zeros(input.shape[1]) if running_mean is None else running_mean
        var = input.new_ones(input.shape[1]) if running_var is None else running_var
        return F.batch_norm(input, mean, var, weight, bias, False, momentum, eps)


_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
_ATTENTIONS = {  # that of scaled_dot_product_attention, a built-in function, cannot be looked up
    F.scaled_dot_product_attention: inspect.Signature([
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default) for name, default in
        [('query', inspect.Parameter.empty), ('key', inspect.Parameter.empty), ('value', inspect.Parameter.empty),
         ('attn_mask', None), ('dropout_p', 0.0), ('is_causal', False)]
    ] + [inspect.Parameter('others', inspect.Parameter.VAR_KEYWORD)]),
    F.multi_head_attention_forward: inspect.signature(F.multi_head_attention_forward),
}
