"""The mean gradient and the per-sample gradients of a network on one minibatch."""

from __future__ import annotations

import enum
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from nni_knas.basics.failures import failure
from nni_knas.gradients.errors import (
    Apart,
    CoupledSamples,
    MisfitError,
    ScoringError,
    first_line,
    is_out_of_memory,
    is_raised_by_user,
)
from nni_knas.gradients.losses import Loss, check_classes, check_one_output, main_output, sample_losses, scalar_loss
from nni_knas.gradients.samples import Minibatch, described, per_sample_leaves
from nni_knas.gradients.scoring_mode import Normalization, ScoringMode
from nni_knas.gradients.traces import Trace, Tracer, joined

__all__ = ['Gradients', 'Share', 'arguments_of']

T = TypeVar('T')


class Share(NamedTuple):
    """What one of several networks has of their pass.

    Attributes
    ----------
    mean
        The mean gradients by the parameters' ``id``.
    traces
        As of :meth:`~nni_knas.gradients.Gradients.traces`.
    """

    mean: dict[int, Tensor]
    traces: list[Trace]


class _Seen(enum.IntEnum):
    """What was kept of what passes through the layers."""

    NOTHING = 0
    FEATURES = 1
    BOTH = 2


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
        ones, which at initialisation are mean 0 and variance 1.) ``'batch'``: the minibatch's. ``'none'``: nobody's, it
        passes on what it gets.
    micro_batch
        Number of samples that go through the network at once; all of them by default. When memory runs out it is
        halved and the pass goes on.
    seed
        The seed for scores that draw entries of the gradients at random.

    Attributes
    ----------
    tracing
        Whether the pass of the mean gradient keeps :meth:`traces`, too. Set it before the first pass where both are wanted:
        they then share it.
    """

    def __init__(
        self,
        network: nn.Module,
        minibatch: Minibatch,
        *,
        loss: Loss | None = None,
        normalization: Normalization | Literal['none'] = 'sample',
        micro_batch: int | None = None,
        seed: int = 0,
    ) -> None:
        self.network = network
        self.minibatch = minibatch
        self.loss = loss
        self.normalization = normalization
        self.micro_batch = micro_batch or minibatch.size
        self.seed = seed
        self._mean: dict[str, Tensor] | None = None
        self._per_sample: dict[str, Tensor] | None = None
        self._gram: Tensor | None = None
        self.tracing = False
        self._seen = _Seen.NOTHING
        self._traces: list[Trace] | None = None
        self._begun = False
        self._adopted = False
        self._mean_came_first = False

    @functools.cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, in the order of ``named_parameters``."""
        found: dict[int, tuple[str, nn.Parameter]] = {}
        for prefix, module in self._owners:
            for name, p in module._parameters.items():
                if p is not None and p.requires_grad:
                    found.setdefault(id(p), (prefix + name, p))
        return dict(found.values())

    @functools.cached_property
    def _owners(self) -> list[tuple[str, nn.Module]]:
        """The modules that have parameters of their own, in the order of ``named_modules``, and their prefixes."""
        return _owners_of(self.network)

    @functools.cached_property
    def _is_binary(self) -> bool:
        """Whether the targets are classes 0 and 1, which one output tells apart."""
        targets = self.minibatch.targets
        return isinstance(targets, Tensor) and not bool(((targets != 0) & (targets != 1)).any())

    def mean(self) -> dict[str, Tensor]:
        r"""The mean gradient :math:`\bar g`, from one forward-backward pass of the mean loss.

        Returns
        -------
        dict of str to Tensor
            A tensor of the parameter's shape for each parameter that the loss depends on.

        Raises
        ------
        ScoringError
            If no parameter receives a gradient, or if inputs or targets do not fit.
        """
        if self._mean is None:
            self._differentiate_mean(_Seen.BOTH if self.tracing else _Seen.NOTHING)
        assert self._mean is not None
        return self._mean

    def traces(self, *, backward: bool = True) -> list[Trace]:
        """What passes through each layer, forth and back, in the order of the forward pass; from the pass of :meth:`mean`.

        Parameters
        ----------
        backward
            Whether gradients are needed; without them the pass costs less.

        Returns
        -------
        list of Trace
            One for each call of a layer that leaves one; see :class:`Trace`.

        Raises
        ------
        ScoringError
            As :meth:`mean` does; and if parts of the minibatch go different ways through the network.
        """
        needed = _Seen.BOTH if backward or self.tracing else _Seen.FEATURES
        if self._seen < needed:
            self._differentiate_mean(needed)
        if self._traces is None:
            raise ScoringError('samples go different ways through the network: its layers cannot be compared')
        return self._traces

    def adopt(self, share: Share) -> None:
        """Take mean gradient and traces from a pass of several networks. What needs another pass raises ``Apart`` then."""
        self._mean = {name: share.mean[id(p)] for name, p in self.parameters.items() if id(p) in share.mean} or None
        self._traces, self.tracing, self._seen = share.traces, True, _Seen.BOTH
        self._adopted = True

    def _begin(self) -> None:
        """There will be a pass."""
        if self._adopted:
            raise Apart('a score needs more than the pass that networks share')
        self._begun = True

    def _differentiate_mean(self, seen: _Seen) -> None:
        """The pass of the mean gradient, and of what is to be seen on its way."""
        self._mean_came_first = not self._begun
        parameters = list(self.parameters.values())
        total: list[Tensor | None] = [None] * len(parameters)
        traces: list[list[Trace]] = []

        def differentiate(samples: Minibatch) -> tuple[list[Tensor | None], list[Trace]]:
            return self._differentiate_traced(samples, parameters, seen)

        for part, found in self._in_parts(differentiate, refuse_coupled=True):
            _add_in_place(total, part)
            traces.append(found)
        self._mean = {name: g for name, g in zip(self.parameters, total) if g is not None}
        self._seen, self._traces = seen, joined(traces) if seen else None

    def _differentiate_traced(
        self, samples: Minibatch, parameters: list[nn.Parameter], seen: _Seen
    ) -> tuple[list[Tensor | None], list[Trace]]:
        """The part of the mean gradient that is of these samples, and their traces."""
        weight = 1 / self.minibatch.size
        if not seen:
            return self._differentiate(samples, parameters, weight), []
        with self._scoring(samples):
            with self._tracer.watching(samples.size, seen == _Seen.BOTH):
                losses = self._losses(self._forward(samples), samples)
            found = _gradient(losses.sum() * weight, parameters, self._tracer.edges())
        part, arrived = found[: len(parameters)], found[len(parameters) :]
        return part, self._tracer.traces(arrived)

    @functools.cached_property
    def _tracer(self) -> Tracer:
        return Tracer([module for _, module in self._owners], self.minibatch.size)

    @property
    def began_with_mean(self) -> bool:
        """Whether the mean gradient is known, from the first pass of all.

        It is then that of a network as it was found. A pass may change what the next one sees: spectral normalisation, a
        buffer that counts passes, a network that draws random numbers.
        """
        return self._mean is not None and self._mean_came_first

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
            A tensor of shape ``n x`` the parameter's shape for each parameter.

        Raises
        ------
        ScoringError
            If the network has no such parameter that can receive a gradient, or cannot be passed through.
        """
        chosen = {name: p for name, p in self.parameters.items() if names is None or name in names}
        if not chosen:
            raise ScoringError('no parameter of the network can receive a gradient')
        if self._per_sample is None or not chosen.keys() <= self._per_sample.keys():
            try:
                parts = list(self._in_parts(lambda samples: self._map_samples(samples, chosen)))
                self._per_sample = {name: torch.cat([part[name] for part in parts]) for name in chosen}
            except CoupledSamples:
                self._per_sample = self._differentiate_each(chosen)
        return {name: self._per_sample[name] for name in chosen}

    def gram(self) -> Tensor:
        r"""The Gram matrix of the per-sample gradients over all parameters, :math:`\langle g_i, g_j \rangle`.

        Returns
        -------
        Tensor of float64, shape n x n
        """
        if self._gram is None:
            rows = [g.reshape(len(g), -1) for g in self.per_sample().values()]  # of a single number, too
            self._gram = torch.stack([(g @ g.T).double() for g in rows]).sum(0)
        return self._gram

    def at_outputs(self) -> dict[str, Tensor]:
        r"""The gradient of the summed loss with respect to the outputs of each convolution and linear layer.

        Returns
        -------
        dict of str to Tensor
            For each such module that the loss depends on, by its name, a tensor of shape ``positions x channels``, with the
            samples and their positions (pixels, tokens) along the first dimension. A module that is called several times
            has the positions of all its calls; one whose weights are used without calling it, as the output projection of
            ``nn.MultiheadAttention``, is left out.

        Raises
        ------
        ScoringError
            If no parameter receives a gradient, or if inputs or targets do not fit.
        """
        parts = list(self._in_parts(self._differentiate_outputs, refuse_coupled=True))
        names = [name for name, _ in self.network.named_modules() if any(name in part for part in parts)]
        return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}

    def watch(self, look: Callable[[Minibatch, Callable[..., Tensor]], T]) -> list[T]:
        """Look at forward passes of the network.

        Parameters
        ----------
        look
            ``look(samples, forward)`` is called with each micro-batch in turn. ``forward()`` gives the main output of these
            samples, with a graph where gradients are on, and ``forward(inputs)`` that of other inputs in their place.

        Returns
        -------
        list
            What ``look`` gives for each micro-batch; for the minibatch as a whole where its samples are coupled.
        """

        def of(samples: Minibatch) -> T:
            def forward(inputs: Any = None) -> Tensor:
                with self._scoring(samples):
                    return main_output(self._forward(samples if inputs is None else samples._replace(inputs=inputs)))

            return look(samples, forward)

        try:
            return list(self._in_parts(of))
        except CoupledSamples:
            return [of(self.minibatch)]

    def _all_outputs(self) -> Tensor:
        """The main output of every sample, in micro-batches, without a graph."""
        with torch.no_grad():
            return torch.cat(self.watch(lambda samples, forward: forward()))

    def of_class(self, number: int) -> Gradients:
        """The gradients of one of the main output's columns, of shape ``n x classes``, in place of the loss."""
        return self._gradients_with(self.minibatch, lambda outputs, targets: main_output(outputs)[..., number].sum())

    @functools.cached_property
    def _of_outputs(self) -> Gradients:
        outputs = self._all_outputs()
        generator = torch.Generator().manual_seed(self.seed)
        signs = (2 * torch.randint(2, outputs.shape[1:], generator=generator) - 1).to(outputs)
        return self._gradients_with(self.minibatch, lambda outputs, targets: (signs * main_output(outputs)).sum())

    def of_outputs(self) -> Gradients:
        """The gradients of the main output in place of the loss: of its sum with random signs, drawn by the seed."""
        return self._of_outputs

    def predictions(self) -> Tensor:
        """The predicted probabilities of the classes, shape ``n x classes``, in double precision, from one forward pass.

        Raises
        ------
        ScoringError
            If the network is not a classifier with cross-entropy.
        """
        logits = self._all_outputs()
        if not self._is_cross_entropy or logits.dim() != 2:
            raise ScoringError('labels can be drawn from the predictions of a classifier with cross-entropy only')
        if not torch.isfinite(logits).all():
            raise ScoringError('the outputs are not finite: the network explodes at its initial weights')
        return logits.double().softmax(1)

    @functools.cached_property
    def _of_predictions(self) -> Gradients:
        predictions = self.predictions()
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.multinomial(predictions.cpu(), 1, generator=generator)[:, 0].to(predictions.device)
        return self._gradients_with(self.minibatch._replace(targets=drawn), self.loss)

    def of_predictions(self) -> Gradients:
        """The gradients for labels that are drawn, by the seed, from the network's own predictions.

        Raises
        ------
        ScoringError
            If the network is not a classifier with cross-entropy.
        """
        return self._of_predictions

    def _gradients_with(self, minibatch: Minibatch, loss: Loss | None) -> Gradients:
        if self._adopted:
            self._begin()
        return Gradients(
            self.network,
            minibatch,
            loss=loss,
            normalization=self.normalization,
            micro_batch=self.micro_batch,
            seed=self.seed,
        )

    def used(self) -> list[str]:
        """Names of the parameters that receive a gradient, in order, found on the smallest possible part of the data."""
        parameters = self.parameters
        try:
            gradients = self._differentiate(self.minibatch.part(0, 1), list(parameters.values()))
        except CoupledSamples:
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
        with torch.no_grad(), ScoringMode(self.normalization, samples.size):
            self.losses(samples)

    def _in_parts(self, function: Callable[[Minibatch], T], refuse_coupled: bool = False) -> Iterator[T]:
        """``function`` of each micro-batch. When memory runs out, the part is repeated as two of half the size.

        ``refuse_coupled`` is for where there is no other way to treat samples that are coupled: the error says what to do.
        """
        start, n = 0, self.minibatch.size
        while start < n:
            stop = min(start + self.micro_batch, n)
            try:
                result = function(self.minibatch.part(start, stop))
            except CoupledSamples:
                if not refuse_coupled:
                    raise
                raise ScoringError(
                    'a BatchNorm with normalization="batch" needs the whole minibatch at once: take a smaller '
                    'batch_size, leave micro_batch out, or take normalization="sample"'
                ) from None
            except Exception as error:
                if not is_out_of_memory(error) or stop - start == 1:
                    raise
                result = None
            if result is None:  # outside of the handler, which would keep the failed pass alive
                self.micro_batch = (stop - start) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            yield result
            start = stop

    def _differentiate(self, samples: Minibatch, parameters: list[nn.Parameter], weight: float = 1) -> list[Tensor | None]:
        """Gradient of the sum of the samples' losses, times ``weight``."""
        with self._scoring(samples):
            losses = self.losses(samples)
            return _gradient(losses.sum() * weight, parameters)

    def _scoring(self, samples: Minibatch) -> ScoringMode:
        return ScoringMode(self.normalization, samples.size, whole=samples.size == self.minibatch.size)

    def _differentiate_outputs(self, samples: Minibatch) -> dict[str, Tensor]:
        """Gradient of the sum of the samples' losses with respect to the outputs of the weight layers."""
        arrived: dict[str, list[Tensor]] = {}
        hooks = [
            module.register_forward_hook(functools.partial(_keep_gradient, arrived.setdefault(name, [])))
            for name, module in self.network.named_modules()
            if isinstance(module, (nn.Linear, _ConvNd))
        ]
        try:
            self._differentiate(samples, list(self.parameters.values()))
        finally:
            for hook in hooks:
                hook.remove()
        return {name: torch.cat(gradients) for name, gradients in arrived.items() if gradients}

    def _map_samples(self, samples: Minibatch, chosen: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        if not any(isinstance(module, nn.RNNBase) for module in self.network.modules()):  # functorch has no rule for them
            try:
                return self._map_with_functorch(samples, chosen)
            except Exception as error:  # what functorch cannot map; a fault of the network shows again below
                if isinstance(error, CoupledSamples) or is_out_of_memory(error):
                    raise
        rows = [self._differentiate(samples.part(i, i + 1), list(chosen.values())) for i in range(samples.size)]
        return _stack_samples(chosen, rows)

    def _map_with_functorch(self, samples: Minibatch, chosen: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        self._begin()
        n = samples.size
        inputs, one_input = per_sample_leaves(samples.inputs, n)
        targets, one_target = per_sample_leaves(samples.targets, n)

        def loss_of_one(
            values: dict[str, Tensor], buffers: dict[str, Tensor], inputs: list[Tensor], targets: list[Tensor]
        ) -> Tensor:
            arguments = arguments_of(self.network, one_input(inputs))
            with ScoringMode(self.normalization, 1, whole=n == 1 == self.minibatch.size):
                outputs = torch.func.functional_call(
                    self.network,
                    {place: values[name] for place, name in places.items()} | buffers,
                    *arguments,
                    tie_weights=False,
                )
            if self.loss is None and not self._is_binary and main_output(outputs).numel() == 1:
                raise MisfitError  # a pass of one sample after the other says it
            return scalar_loss(self.loss, outputs, one_target(targets))

        values = {name: p.detach() for name, p in chosen.items()}
        buffers = dict(self.network.named_buffers())
        # A layer that stands in the network twice is named once only: torch would not put its parameters back.
        names = {id(p): name for name, p in chosen.items()}
        places = {
            f'{path}.{name}'.lstrip('.'): names[id(p)]
            for path, module in self.network.named_modules()
            for name, p in module._parameters.items()
            if id(p) in names
        }
        mapped = torch.func.vmap(torch.func.grad(loss_of_one), in_dims=(None, None, 0, 0), randomness='same')
        # The gradients are functorch's; no graph of the other parameters is needed. Where it has no rule for an operation it
        # goes over the samples in a loop of its own, and warns that this is slower.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='There is a performance drop', category=UserWarning)
            found: dict[str, Tensor] = mapped(values, buffers, inputs, targets)
        return found

    def _differentiate_each(self, chosen: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        """Coupled samples: one forward pass of all, then the derivative of each one's loss."""
        parameters = list(chosen.values())
        with ScoringMode(self.normalization, self.minibatch.size):
            losses = self.losses(self.minibatch)
            try:
                every = torch.autograd.grad(
                    losses,
                    parameters,
                    torch.eye(len(losses)).to(losses),
                    is_grads_batched=True,
                    allow_unused=True,
                    retain_graph=True,
                )
            except RuntimeError as error:  # an operation whose derivative cannot be batched
                if is_out_of_memory(error):
                    raise
                return _stack_samples(chosen, [_gradient(loss, parameters, retain_graph=True) for loss in losses])
        return {name: p.new_zeros(len(losses), *p.shape) if g is None else g for (name, p), g in zip(chosen.items(), every)}

    def _forward(self, samples: Minibatch) -> Any:
        self._begin()
        arguments, keywords = arguments_of(self.network, samples.inputs)
        try:
            return self.network(*arguments, **keywords)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, CoupledSamples) or is_raised_by_user(error):
                raise
            # torch says of inputs that do not fit all there is to say; any other error is one of the network's code
            said = first_line(error) if isinstance(error, (RuntimeError, ValueError, TypeError)) else failure(error)
            raise MisfitError(f'the network cannot take inputs {described(self.minibatch.inputs)}: {said}') from error

    def losses(self, samples: Minibatch) -> Tensor:
        """The loss of each of these samples, in place of the minibatch's, from one forward pass."""
        return self._losses(self._forward(samples), samples)

    @property
    def _is_cross_entropy(self) -> bool:
        return self.loss in (None, F.cross_entropy) or isinstance(self.loss, nn.CrossEntropyLoss)

    def _losses(self, outputs: Any, samples: Minibatch) -> Tensor:
        """The loss of each sample, shape ``n``."""
        if self.loss is None and not self._is_binary:
            check_one_output(main_output(outputs), self.minibatch.targets)
        if self._is_cross_entropy:
            check_classes(main_output(outputs), self.minibatch.targets, getattr(self.loss, 'ignore_index', -100))
        try:
            return sample_losses(self.loss, outputs, samples.targets, samples.size)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise MisfitError(
                f'the loss cannot compare outputs {described(outputs)} with targets '
                f'{described(samples.targets)}: {first_line(error)}'
            ) from error


def _owners_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules with parameters of their own, in a fraction of the time that ``network.named_modules()`` takes."""
    found: list[tuple[str, nn.Module]] = []
    met: set[int] = set()

    def visit(prefix: str, module: nn.Module) -> None:
        if module._parameters:
            found.append((prefix, module))
        for name, child in module._modules.items():
            if child is not None and id(child) not in met:
                met.add(id(child))
                if child._modules or child._parameters:
                    visit(f'{prefix}{name}.', child)

    visit('', network)
    return found


def _keep_gradient(kept: list[Tensor], module: nn.Module, inputs: Any, output: Tensor) -> None:
    """Forward hook: keep the gradient that arrives at the output, as ``positions x channels``."""
    channels = -1 - len(module.kernel_size) if isinstance(module, _ConvNd) else -1  # there may be no sample dimension
    if output.requires_grad:
        output.register_hook(lambda g: kept.append(g.movedim(channels, -1).reshape(-1, g.shape[channels])))


def arguments_of(network: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the network: tuples and dicts are spread where ``forward`` takes them so."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
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


def _gradient(
    loss: Tensor, parameters: list[nn.Parameter], edges: Sequence[GradientEdge] = (), *, retain_graph: bool = False
) -> list[Tensor | None]:
    """The gradients with respect to the parameters, and what arrives at other places of the graph."""
    if parameters and loss.requires_grad:
        inputs: list[Any] = [*parameters, *edges]
        gradients: list[Tensor | None] = [*torch.autograd.grad(loss, inputs, retain_graph=retain_graph, allow_unused=True)]
        if any(g is not None for g in gradients[: len(parameters)]):
            with torch._C.DisableTorchFunction():  # nothing here is for the modes that the pass is made in
                return [g.to_dense() if g is not None and g.is_sparse else g for g in gradients]
    raise ScoringError('no parameter of the network receives a gradient from the loss')


def _add_in_place(total: list[Tensor | None], part: list[Tensor | None]) -> None:
    """Add to ``total`` in place; ``None`` stands for a zero."""
    both = [i for i, g in enumerate(part) if g is not None and total[i] is not None]
    if both:
        torch._foreach_add_([total[i] for i in both], [part[i] for i in both])  # type: ignore[misc]
    for i, g in enumerate(part):
        total[i] = g if total[i] is None else total[i]


def _stack_samples(parameters: dict[str, nn.Parameter], rows: list[list[Tensor | None]]) -> dict[str, Tensor]:
    return {
        name: torch.stack([torch.zeros_like(p) if row[i] is None else row[i] for row in rows])  # type: ignore[misc]
        for i, (name, p) in enumerate(parameters.items())
    }
