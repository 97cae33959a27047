"""Gradients of a network at initialisation, on one minibatch.

This module knows torch only: a network, a minibatch, a loss. It answers with the mean gradient (one forward-backward
pass, whatever the minibatch) or with per-sample gradients (one vectorised pass), and leaves the network as it found it.
What is made of the gradients is the business of :mod:`nni_knas.scores`.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

__all__ = ['Gradients', 'Loss', 'Minibatch', 'MisfitError', 'Normalization', 'ScoringError', 'seeded', 'undisturbed']

Loss = Callable[[Any, Any], Tensor]
Normalization = Literal['sample', 'batch']
T = TypeVar('T')


class ScoringError(ValueError):
    """A network cannot be scored. The message is one sentence that says why."""


class MisfitError(ScoringError):
    """The minibatch does not fit the network: it cannot take the inputs, or its outputs do not go with the targets."""


class _CoupledSamples(Exception):
    """A BatchNorm that uses the minibatch's statistics was given only a part of the minibatch."""


class Minibatch(NamedTuple):
    """The samples that the gradients are taken on.

    Attributes
    ----------
    inputs
        What the network takes: a tensor of shape ``n x ...``, or a tuple or dict of them.
    targets
        What the loss compares the outputs with: a tensor of shape ``n x ...``, or a tuple or dict of them.
    """

    inputs: Any
    targets: Any

    @property
    def size(self) -> int:
        """Number of samples ``n``."""
        return next(len(leaf) for leaf in tree_flatten(self.inputs)[0] if isinstance(leaf, Tensor))

    def part(self, start: int, stop: int) -> Minibatch:
        """The samples ``start`` to ``stop - 1``."""
        n = self.size

        def cut(leaf: Any) -> Any:
            return leaf[start:stop] if _is_sampled(leaf, n) else leaf

        return Minibatch(tree_map(cut, self.inputs), tree_map(cut, self.targets))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Minibatch:
        """The same samples on ``device``; floating-point tensors become ``dtype`` where it is given."""

        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.to(device, dtype if leaf.is_floating_point() else None)

        return Minibatch(tree_map(move, self.inputs), tree_map(move, self.targets))


class Gradients:
    r"""Gradients of the loss of one network on one minibatch, at the network's present weights.

    With :math:`g_i = \nabla_w \ell(f(x_i), y_i)` the gradient of sample ``i`` over the trainable parameters ``w``, it
    gives the mean gradient :math:`\bar g = \frac{1}{n} \sum_i g_i` and, where a score needs them, the :math:`g_i`
    themselves. The loss is applied to each sample by itself, so it does not matter whether the callable averages or
    sums over a batch.

    Use it within :func:`undisturbed`, which sets the network up for scoring and puts it back afterwards.

    Parameters
    ----------
    network
        Any ``nn.Module`` whose inputs and outputs have the samples along the first dimension.
    minibatch
        ``n`` samples, on the network's device.
    loss
        ``loss(outputs, targets)`` gives a tensor, which is averaged where it is not a scalar. Losses of ``torch.nn``
        receive the main output (the first of a tuple, the ``logits`` of a dict); any other callable receives the
        outputs as the network returned them. Default: cross-entropy of the main output.
    normalization
        Whose statistics a BatchNorm uses. ``'sample'``: each sample's own, as in a loop over samples at batch size 1.
        (A layer that sees one value per channel and sample has no statistics of its own there and uses its running
        ones, which at initialisation are mean 0 and variance 1.) ``'batch'``: the minibatch's.
    micro_batch
        Number of samples that go through the network at once; all of them by default. When memory runs out it is
        halved and the pass goes on.
    seed
        For scores that draw entries of the gradients at random.
    """

    def __init__(self, network: nn.Module, minibatch: Minibatch, *, loss: Loss | None = None,
                 normalization: Normalization = 'sample', micro_batch: int | None = None, seed: int = 0) -> None:
        self.network = network
        self.minibatch = minibatch
        self.loss = loss
        self.normalization = normalization
        self.micro_batch = micro_batch or minibatch.size
        self.seed = seed
        self._mean: dict[str, Tensor] | None = None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, in the order of ``named_parameters``."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    def mean(self) -> dict[str, Tensor]:
        r"""The mean gradient :math:`\bar g`, from one forward-backward pass of the mean loss.

        Returns
        -------
        dict of str to Tensor
            For each parameter that the loss depends on, a tensor of the parameter's shape.

        Raises
        ------
        ScoringError
            If no parameter receives a gradient, or if inputs or targets do not fit.
        """
        if self._mean is None:
            parameters = self.parameters
            total: list[Tensor | None] = [None] * len(parameters)
            try:
                for part in self._in_parts(lambda samples: self._differentiate(samples, list(parameters.values()))):
                    _add(total, part)
            except _CoupledSamples:
                raise ScoringError(
                    'a BatchNorm with normalization="batch" needs the whole minibatch at once: take a smaller '
                    'batch_size, leave micro_batch out, or take normalization="sample"') from None
            self._mean = {name: g / self.minibatch.size for name, g in zip(parameters, total) if g is not None}
        return self._mean

    def per_sample(self, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The gradient of each sample :math:`g_i`, from one vectorised pass.

        ``torch.func`` maps the gradient of one sample over the minibatch. A network that it cannot map (a recurrent
        layer, control flow that depends on the data) is passed through sample by sample instead. Where samples are
        coupled (``normalization='batch'`` and a BatchNorm) there is one forward pass, and the derivatives of its
        losses are taken together.

        Parameters
        ----------
        names
            Parameters to take the gradients of; all trainable ones by default.

        Returns
        -------
        dict of str to Tensor
            For each parameter a tensor of shape ``n x`` the parameter's shape.
        """
        chosen = {name: p for name, p in self.parameters.items() if names is None or name in names}
        if not chosen:
            raise ScoringError('no parameter of the network can receive a gradient')
        try:
            parts = list(self._in_parts(lambda samples: self._map_samples(samples, chosen)))
        except _CoupledSamples:
            return self._differentiate_each(chosen)
        return {name: torch.cat([part[name] for part in parts]) for name in chosen}

    def used(self) -> list[str]:
        """Names of the parameters that receive a gradient, in order, found on the smallest possible part of the data."""
        parameters = self.parameters
        try:
            gradients = self._differentiate(self.minibatch.part(0, 1), list(parameters.values()))
        except _CoupledSamples:
            return list(self.mean())
        return [name for name, g in zip(parameters, gradients) if g is not None]

    def check(self) -> None:
        """Send the data through network and loss, without gradients, to see that they fit together.

        Raises
        ------
        MisfitError
            If the network cannot take the inputs or the loss cannot compare its outputs with the targets.
        """
        samples = self.minibatch.part(0, 1) if self.normalization == 'sample' else self.minibatch
        with torch.no_grad(), _ScoringMode(self.normalization, samples.size):
            outputs = self._forward(samples)
            if self.loss is None:
                _check_classes(_main_output(outputs), self.minibatch.targets)
            self._losses(outputs, samples)

    def _in_parts(self, function: Callable[[Minibatch], T]) -> Iterator[T]:
        """``function`` of each micro-batch. When memory runs out, the part is repeated as two of half the size."""
        start, n = 0, self.minibatch.size
        while start < n:
            stop = min(start + self.micro_batch, n)
            try:
                result = function(self.minibatch.part(start, stop))
            except Exception as error:
                if not _is_out_of_memory(error) or stop - start == 1:
                    raise
                result = None
            if result is None:  # outside of the handler, which would keep the failed pass alive
                self.micro_batch = (stop - start) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            yield result
            start = stop

    def _differentiate(self, samples: Minibatch, parameters: list[nn.Parameter]) -> list[Tensor | None]:
        """Gradient of the sum of the samples' losses."""
        with _ScoringMode(self.normalization, samples.size, whole=samples.size == self.minibatch.size):
            losses = self._losses(self._forward(samples), samples)
            return _gradient(losses.sum(), parameters)

    def _map_samples(self, samples: Minibatch, chosen: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        try:
            if any(isinstance(module, nn.RNNBase) for module in self.network.modules()):
                raise RuntimeError('functorch has no rule for recurrent layers')
            return self._map_with_functorch(samples, chosen)
        except Exception as error:  # what functorch cannot map; a fault of the network shows again below
            if isinstance(error, _CoupledSamples) or _is_out_of_memory(error):
                raise
        rows = [self._differentiate(samples.part(i, i + 1), list(chosen.values())) for i in range(samples.size)]
        return _stacked(chosen, rows)

    def _map_with_functorch(self, samples: Minibatch, chosen: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        n = samples.size
        inputs, one_input = _per_sample_leaves(samples.inputs, n)
        targets, one_target = _per_sample_leaves(samples.targets, n)

        def loss_of_one(values: dict[str, Tensor], buffers: dict[str, Tensor],
                        inputs: list[Tensor], targets: list[Tensor]) -> Tensor:
            arguments = _arguments(self.network, one_input(inputs))
            with _ScoringMode(self.normalization, 1, whole=n == 1 == self.minibatch.size):
                outputs = torch.func.functional_call(
                    self.network, {place: values[name] for place, name in places.items()} | buffers, *arguments,
                    tie_weights=False)
            return _scalar_loss(self.loss, outputs, one_target(targets))

        values = {name: p.detach() for name, p in chosen.items()}
        buffers = dict(self.network.named_buffers())
        # A layer that stands in the network twice is named once only: torch would not put its parameters back.
        names = {id(p): name for name, p in chosen.items()}
        places = {f'{path}.{name}'.lstrip('.'): names[id(p)] for path, module in self.network.named_modules()
                  for name, p in module._parameters.items() if id(p) in names}
        mapped = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, None, 0, 0), randomness='same')
        # The gradients are functorch's; no graph of the other parameters is needed. Where it has no rule for an operation it
        # goes over the samples in a loop of its own, and warns that this is slower.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='There is a performance drop', category=UserWarning)
            return mapped(values, buffers, inputs, targets)

    def _differentiate_each(self, chosen: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        """Coupled samples: one forward pass of all, then the derivative of each one's loss."""
        parameters = list(chosen.values())
        with _ScoringMode(self.normalization, self.minibatch.size):
            losses = self._losses(self._forward(self.minibatch), self.minibatch)
            try:
                every = torch.autograd.grad(losses, parameters, torch.eye(len(losses)).to(losses),
                                            is_grads_batched=True, allow_unused=True, retain_graph=True)
            except RuntimeError as error:  # an operation whose derivative cannot be batched
                if _is_out_of_memory(error):
                    raise
                return _stacked(chosen, [_gradient(loss, parameters, retain_graph=True) for loss in losses])
        return {name: p.new_zeros(len(losses), *p.shape) if g is None else g
                for (name, p), g in zip(chosen.items(), every)}

    def _forward(self, samples: Minibatch) -> Any:
        arguments, keywords = _arguments(self.network, samples.inputs)
        try:
            return self.network(*arguments, **keywords)
        except Exception as error:
            if _is_out_of_memory(error) or isinstance(error, _CoupledSamples) or _is_raised_by_user(error):
                raise
            raise MisfitError(f'the network cannot take inputs {_described(self.minibatch.inputs)}: '
                              f'{_first_line(error)}') from error

    def _losses(self, outputs: Any, samples: Minibatch) -> Tensor:
        """The loss of each sample, shape ``n``."""
        try:
            return _sample_losses(self.loss, outputs, samples.targets, samples.size)
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            raise MisfitError(f'the loss cannot compare outputs {_described(outputs)} with targets '
                              f'{_described(samples.targets)}: {_first_line(error)}') from error


# The state of the world around a network while it is scored.


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
    if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
        raise ScoringError('the network has lazy layers that do not know their shapes yet: pass it some data once before')
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(module, name, buffer, None if buffer is None else buffer.clone())
               for module, _ in modes for name, buffer in module._buffers.items()]
    # Embeddings with a largest norm scale their weights down in the forward pass.
    weights = [(module.weight, module.weight.detach().clone()) for module, _ in modes
               if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None]
    devices = {p.device for p in network.parameters()}
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


class _ScoringMode(TorchFunctionMode):
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
                raise _CoupledSamples
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


# Losses.


def _sample_losses(loss: Loss | None, outputs: Any, targets: Any, n: int) -> Tensor:
    if loss is None:
        logits = _main_output(outputs)
        if isinstance(targets, Tensor) and logits.dim() == 2:
            return F.cross_entropy(logits, targets, reduction='none')
    output_leaves, one_output = _per_sample_leaves(outputs, n)
    target_leaves, one_target = _per_sample_leaves(targets, n)

    def loss_of_one(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
        return _scalar_loss(loss, one_output(outputs), one_target(targets))

    try:
        return torch.func.vmap(loss_of_one, randomness='same')(output_leaves, target_leaves)
    except Exception as error:  # a loss that functorch cannot map; a loss that is wrong shows again below
        if _is_out_of_memory(error):
            raise
    return torch.stack([loss_of_one([leaf[i] for leaf in output_leaves], [leaf[i] for leaf in target_leaves])
                        for i in range(n)])


def _scalar_loss(loss: Loss | None, outputs: Any, targets: Any) -> Tensor:
    """The loss of a batch of one sample, without dimensions."""
    if loss is None:
        return F.cross_entropy(_main_output(outputs), targets)
    of_torch = isinstance(loss, _Loss) or getattr(loss, '__module__', None) == F.__name__
    return loss(_main_output(outputs) if of_torch else outputs, targets).mean()


def _main_output(outputs: Any) -> Tensor:
    """The output that is judged: the tensor, the first of a tuple (the others are auxiliary heads), a dict's logits."""
    while not isinstance(outputs, Tensor):
        if hasattr(outputs, 'logits'):
            outputs = outputs.logits
        elif isinstance(outputs, Mapping) and outputs:
            names = [name for name in ('logits', 'out', 'output') if name in outputs]
            outputs = outputs[names[0]] if names else next(iter(outputs.values()))
        elif isinstance(outputs, Sequence) and not isinstance(outputs, str) and outputs:
            outputs = outputs[0]
        else:
            raise MisfitError(f'the network returned {type(outputs).__name__}, not a tensor, a tuple or a dict of tensors')
    return outputs


def _check_classes(logits: Tensor, targets: Any) -> None:
    """Say it clearly when class indices do not fit the number of outputs (on a GPU torch would stop the process)."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or logits.dim() < 2:
        return
    counted = targets[targets != -100]  # cross-entropy's index for "ignore this one"
    classes = logits.shape[1]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise MisfitError(f'the targets are classes {int(counted.min())} to {int(counted.max())}, but the network has '
                          f'{classes} outputs: classes must be 0 to {classes - 1}')


# Small helpers.


def _arguments(network: nn.Module, inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Positional and keyword arguments of the network: tuples and dicts are spread where ``forward`` takes them so."""
    signature = inspect.signature(network.forward)
    try:
        if isinstance(inputs, Mapping):
            signature.bind(**inputs)
            return (), dict(inputs)
        if isinstance(inputs, (tuple, list)):
            signature.bind(*inputs)
            return tuple(inputs), {}
    except TypeError:
        pass
    return (inputs,), {}


def _gradient(loss: Tensor, parameters: list[nn.Parameter], retain_graph: bool = False) -> list[Tensor | None]:
    if parameters and loss.requires_grad:
        gradients: list[Tensor | None] = [
            *torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)]
        if any(g is not None for g in gradients):
            return [g.to_dense() if g is not None and g.is_sparse else g for g in gradients]
    raise ScoringError('no parameter of the network receives a gradient from the loss')


def _add(total: list[Tensor | None], part: list[Tensor | None]) -> None:
    """Add to ``total`` in place; ``None`` stands for a zero."""
    both = [i for i, g in enumerate(part) if g is not None and total[i] is not None]
    if both:
        torch._foreach_add_([total[i] for i in both], [part[i] for i in both])  # type: ignore[misc]
    for i, g in enumerate(part):
        total[i] = g if total[i] is None else total[i]


def _stacked(parameters: dict[str, nn.Parameter], rows: list[list[Tensor | None]]) -> dict[str, Tensor]:
    return {name: torch.stack([torch.zeros_like(p) if row[i] is None else row[i] for row in rows])  # type: ignore[misc]
            for i, (name, p) in enumerate(parameters.items())}


def _is_sampled(leaf: Any, n: int) -> bool:
    """Whether the first dimension of a tensor goes over the samples."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == n


def _per_sample_leaves(tree: Any, n: int) -> tuple[list[Tensor], Callable[[list[Tensor]], Any]]:
    """The tensors of a tree that have a sample dimension, and a function that builds the tree of a batch of one."""
    leaves, spec = tree_flatten(tree)
    where = [i for i, leaf in enumerate(leaves) if _is_sampled(leaf, n)]

    def one(tensors: list[Tensor]) -> Any:
        filled = list(leaves)
        for i, tensor in zip(where, tensors):
            filled[i] = tensor.unsqueeze(0)
        return tree_unflatten(filled, spec)

    return [leaves[i] for i in where], one


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ('out of memory' in message or "can't allocate memory" in message
                                                or 'not enough memory' in message)


def _is_raised_by_user(error: BaseException) -> bool:
    """Whether a ``raise`` statement outside of torch gave the error, rather than an operation that was given a misfit."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or Path(trace.tb_frame.f_code.co_filename).is_relative_to(Path(torch.__file__).parent):
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS']


def _described(tree: Any) -> str:
    """Shapes and types of the tensors in a tree, for messages."""
    if isinstance(tree, Tensor):
        return f'of shape {"x".join(map(str, tree.shape)) or "scalar"} ({str(tree.dtype).removeprefix("torch.")})'
    if isinstance(tree, Mapping):
        return '{' + ', '.join(f'{key} {_described(value)}' for key, value in tree.items()) + '}'
    if isinstance(tree, (tuple, list)):
        return '(' + ', '.join(map(_described, tree)) + ')'
    return type(tree).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
