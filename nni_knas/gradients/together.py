"""Mean gradients and traces of several networks that have their layers in common, from one forward-backward pass.

The minibatch is repeated, once for each network. Where the networks differ stands a :class:`Fork`, which sends the samples
of each through the layer that it has chosen; so each layer is called once for all networks that have it. The gradients of
its weights are taken network by network, of what went in and of the gradient that came back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from nni_knas.gradients.errors import Apart
from nni_knas.gradients.gradients import Gradients, Share
from nni_knas.gradients.layers import is_separable, weight_gradients
from nni_knas.gradients.samples import Minibatch, is_sampled
from nni_knas.gradients.scoring_mode import ScoringMode, modules_of
from nni_knas.gradients.traces import Trace, Tracer, has_weights, is_frozen

__all__ = ['Fork', 'pass_together']


class Fork(nn.Module):
    """Several layers in one place, of which each network has chosen one.

    Parameters
    ----------
    options
        The layers.
    chosen
        For each network the place of its layer among them.
    """

    def __init__(self, options: Sequence[nn.Module], chosen: Sequence[int]) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.chosen = chosen
        self.together: _Pass | None = None  # while there is one

    def forward(self, *inputs: Any) -> Any:
        """Send each network's samples through its layer."""
        assert self.together is not None
        return self.together.part_ways(self, inputs)


def pass_together(gradients: Gradients, networks: int) -> list[Share]:
    """Gradients of several networks from one pass.

    Parameters
    ----------
    gradients
        Those of a network with forks, set up for one of the networks; nothing was computed of it yet.
    networks
        How many there are.

    Raises
    ------
    Apart
        If it cannot be done for networks of this kind.
    """
    return _Pass(gradients, networks).shares()


class _Call(NamedTuple):
    """A call of a layer whose weights get a gradient, by some of the networks."""

    layer: nn.Module
    inputs: Tensor
    version: int
    members: list[int]
    arrived: list[Tensor]  # the gradient at its output, once it has come

    def gradients(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Each parameter with its gradients by member."""
        if not self.arrived:
            return []
        if self.inputs._version != self.version:
            raise Apart('what went into a layer is written over')
        shape = (len(self.members), -1)
        one_by_one = self.inputs.device.type == 'cpu'  # where one call for all is no faster, and rounds differently
        return weight_gradients(
            self.layer, self.inputs.unflatten(0, shape), self.arrived[0].unflatten(0, shape), one_by_one=one_by_one
        )


class _Pass:
    """One pass of several networks; see :func:`pass_together`."""

    def __init__(self, gradients: Gradients, networks: int) -> None:
        self._of = gradients
        self._n = gradients.minibatch.size
        self._members = list(range(networks))  # those whose samples are under way
        self._tracer = Tracer((), self._n)  # whose hooks are set here
        self._traced: list[list[int]] = []  # whose the traces are
        self._calls: list[_Call] = []
        self._orders: dict[tuple[int, ...], Tensor] = {}
        self._mode = ScoringMode('sample', networks * self._n)
        if gradients.normalization != 'sample' or gradients.micro_batch < self._n:
            raise Apart('samples are coupled, or go through the network in parts')

    def shares(self) -> list[Share]:
        modules, networks = modules_of(self._of.network), len(self._members)
        trained = [module for module in modules if not is_frozen(module)]
        if not all(map(is_separable, trained)):
            raise Apart('a layer does more with its weights than is known of it')
        with _frozen(trained), self._watching(modules, trained), self._mode:
            samples = Minibatch(*(_repeated(tree, self._n, networks) for tree in self._of.minibatch))
            sources = [leaf for leaf in tree_leaves(samples.inputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
            if not sources:
                raise Apart('inputs that are no numbers have no gradient, which here comes back to them')
            for leaf in sources:  # so that gradients come back to all layers, though none to the weights
                leaf.requires_grad_()
            self._tracer.begin(backward=True)
            losses = self._of.losses(samples)
            inputs: list[Any] = [*sources, *self._tracer.edges()]
            found = torch.autograd.grad(losses.sum() * (1 / self._n), inputs, allow_unused=True)
        traces = self._tracer.traces(found[len(sources) :])
        with self._mode, torch.no_grad():
            means = self._means()
        return [Share(mean, self._traces_of(number, traces)) for number, mean in enumerate(means)]

    def _means(self) -> list[dict[int, Tensor]]:
        means: list[dict[int, Tensor]] = [{} for _ in self._members]
        self._mode.samples = self._n
        for call in self._calls:
            for parameter, gradients in call.gradients():
                for number, gradient in zip(call.members, gradients):
                    before = means[number].get(id(parameter))
                    means[number][id(parameter)] = gradient if before is None else before + gradient
        return means

    def _traces_of(self, number: int, traces: list[Trace]) -> list[Trace]:
        found = []
        for members, (features, gradients, units) in zip(self._traced, traces):
            if number in members:
                rows = slice(members.index(number) * self._n, (members.index(number) + 1) * self._n)
                found.append(Trace(features[rows], None if gradients is None else gradients[rows], units))
        return found

    def part_ways(self, fork: Fork, inputs: Any) -> Any:
        """The outputs of a fork's layers for those that have chosen them."""
        before, chosen = self._members, [fork.chosen[number] for number in self._members]
        if len(set(chosen)) == 1:
            return fork.options[chosen[0]](*inputs)
        order = sorted(range(len(before)), key=lambda place: chosen[place])
        counts = [chosen.count(option) for option in sorted(set(chosen))]
        there, back = self._order_of(order), self._order_of(sorted(range(len(before)), key=order.__getitem__))
        split = [self._split(leaf, there, back, counts) for leaf in inputs]
        outputs, start = [], 0
        try:
            for i, (option, count) in enumerate(zip(sorted(set(chosen)), counts)):
                self._go_on_with([before[place] for place in order[start : start + count]])
                outputs.append(self._checked(fork.options[option](*[leaf[i] for leaf in split]), inputs))
                start += count
        finally:
            self._go_on_with(before)
        return _Reordered.apply(torch.cat(outputs).unflatten(0, (len(before), -1)), back, there).flatten(0, 1)

    def _go_on_with(self, members: list[int]) -> None:
        self._members = members
        self._mode.samples = len(members) * self._n

    def _order_of(self, places: list[int]) -> Tensor:
        if tuple(places) not in self._orders:
            self._orders[tuple(places)] = torch.tensor(places, device=tree_leaves(self._of.minibatch.inputs)[0].device)
        return self._orders[tuple(places)]

    def _split(self, leaf: Any, there: Tensor, back: Tensor, counts: list[int]) -> Sequence[Any]:
        if not isinstance(leaf, Tensor) or not len(leaf) == self._mode.samples:
            raise Apart('a choice of layers is given something else than samples')
        by_network = leaf.unflatten(0, (len(there), -1))
        return [part.flatten(0, 1) for part in _Reordered.apply(by_network, there, back).split(counts)]

    def _checked(self, output: Any, inputs: Any) -> Tensor:
        if not isinstance(output, Tensor) or len(output) != self._mode.samples:
            raise Apart('a chosen layer gives something else than samples')
        if not output.requires_grad and any(leaf.requires_grad for leaf in inputs):
            raise Apart('a chosen layer lets no gradient through, where others do')  # which is no gradient of zero
        return output

    @contextlib.contextmanager
    def _watching(self, modules: list[nn.Module], trained: list[nn.Module]) -> Iterator[None]:
        hooks = [module.register_forward_hook(self._keep_call) for module in trained]
        hooks += [module.register_forward_hook(self._keep_trace) for module in trained if has_weights(module)]
        forks = [module for module in modules if isinstance(module, Fork)]
        try:
            for fork in forks:
                fork.together = self
            yield
        finally:
            for fork in forks:
                fork.together = None
            for hook in hooks:
                hook.remove()

    def _keep_call(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        if len(inputs) != 1 or len(inputs[0]) % self._mode.samples or len(output) % self._mode.samples:
            raise Apart('a layer is given something else than samples')
        arrived: list[Tensor] = []
        self._calls.append(_Call(layer, inputs[0].detach(), inputs[0]._version, self._members, arrived))
        if output.requires_grad:
            output.register_hook(lambda gradient: arrived.append(gradient.detach()))

    def _keep_trace(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._tracer.look(self._mode.samples, layer, inputs, output)
        self._traced += [self._members] * (self._tracer.calls - len(self._traced))


class _Reordered(torch.autograd.Function):
    """Rows in another order; back they come by the inverse order, at no more than a copy."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient.index_select(0, ctx.back), None, None


def _repeated(tree: Any, n: int, times: int) -> Any:
    """The samples so many times, one after the other."""
    return tree_map(lambda leaf: leaf.repeat(times, *[1] * (leaf.dim() - 1)) if is_sampled(leaf, n) else leaf, tree)


@contextlib.contextmanager
def _frozen(layers: list[nn.Module]) -> Iterator[None]:
    """Inside, no gradients of the layers' weights are computed: it would be one of all networks."""
    trained = [p for layer in layers for p in layer._parameters.values() if p is not None and p.requires_grad]
    try:
        for p in trained:
            p.requires_grad_(False)
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
