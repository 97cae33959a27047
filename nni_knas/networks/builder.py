"""Networks of a space's candidates, one after another, without constructing each of them anew.

NNI constructs a candidate's network by running the space's constructor, which makes and initialises every option of every
choice, and keeps one. Here the constructor is run once, and the options are kept: a *skeleton*. The network of another
candidate is then the same skeleton with other options in their places. Where hardly two candidates have a skeleton in
common, the constructor is run for each, and the layers are kept (:mod:`nni_knas.networks.layers`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace
from torch import nn

from nni_knas.gradients import Fork
from nni_knas.networks.construction import construct, construct_by_layers, has_dear_structure
from nni_knas.networks.layers import Layers
from nni_knas.networks.watch import TAG, Watch

__all__ = ['NetworkBuilder', 'Skeleton', 'are_alike']

_logger = logging.getLogger(__name__)
_CONTEXT = '_frozen_context'  # where NNI's spaces keep the sample that they were constructed for


class NetworkBuilder:
    """Builds the networks that :func:`~nni_knas.networks.build_network` builds, in a fraction of its time.

    The weights are the same to the last bit. That is checked, since a space's constructor may do anything: each option of
    each choice, and each kind of layer, is compared with what is constructed anew when it is used for the first time. A
    space that does not bear it is constructed as ``build_network`` does.

    Parameters
    ----------
    space
        The candidates' space, in any of NNI's formats.
    seed
        The seed of the initial weights.
    device
        The device for the networks; the CPU, or wherever the space puts them, by default.
    prepare
        Called with each network, or part of one, that was constructed, to change its tensors in place; what it does may
        depend on a layer's kind and shapes alone.
    """

    capacity = 4
    """How many skeletons are kept, for candidates of different structure."""

    patience = 12
    """How many candidates in a row may need a skeleton of their own before no more are made."""

    def __init__(
        self,
        space: ExecutableModelSpace,
        seed: int,
        device: torch.device | None = None,
        prepare: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.space = space
        self.seed = seed
        self.device = device
        self.prepare = prepare
        self._skeletons: list[Skeleton] = []  # the one used last at the end
        self._misses = 0
        self._layered = _Layered(space, seed, self._prepare)
        self._dear = False  # whether the last candidate's structure was

    def network(self, sample: Sample) -> nn.Module:
        """The freshly initialised network of a candidate.

        It is valid until the next one is asked for: both may be the same object. It has to be left as it was given.
        """
        network = self._layered.network(sample) if self._dear else None
        self._dear = network is not None
        return network or self._of_skeleton(sample)

    def _of_skeleton(self, sample: Sample) -> nn.Module:
        """The network of a candidate whose weights are drawn as NNI draws them, if its structure is not dear."""
        if self._misses > self.patience:
            return self._construct(sample)[0]
        skeleton = next((each for each in self._skeletons if each.fits(sample)), None)
        if skeleton is None:
            return self._new_skeleton(sample)
        self._misses = 0
        self._skeletons.remove(skeleton)
        self._skeletons.append(skeleton)
        network = skeleton.set(sample)
        if not skeleton.unproven(sample):
            return network
        constructed = self._construct(sample)[0]
        if are_alike(network, constructed):
            skeleton.prove(sample)
            return network
        _logger.debug("The space's networks are constructed one by one: they do not differ in single layers alone.")
        self._stop_reusing()
        return constructed

    def skeleton(self, sample: Sample) -> Skeleton | None:
        """The skeleton that bears a candidate's network, if there is one, and its options were compared with NNI's."""
        skeleton = next((each for each in self._skeletons if each.fits(sample)), None)
        return skeleton if skeleton is not None and not skeleton.unproven(sample) else None

    def _construct(self, sample: Sample, keep_options: bool = False) -> tuple[nn.Module, Watch]:
        """The network as it is constructed anew, and what was seen of that; of kept layers, if its structure is dear."""
        network, watch = construct(self.space.freeze(sample), self.seed, keep_options)
        self._dear = has_dear_structure(network, watch)
        of_layers = self._layered.network(sample) if self._dear else None
        return of_layers or self._prepare(network), watch

    def _prepare(self, network: nn.Module) -> nn.Module:
        if self.device is not None:
            network.to(self.device)
        if self.prepare is not None:
            self.prepare(network)
        return network

    def _new_skeleton(self, sample: Sample) -> nn.Module:
        del self._skeletons[: max(0, 1 + len(self._skeletons) - self.capacity)]  # before the new one takes its memory
        network, watch = self._construct(sample, keep_options=True)
        if self._dear:
            return network
        self._misses += 1
        if self._misses > self.patience:
            self._stop_reusing()
            return network
        try:
            read = {label: sample[label] for label in watch.reads & sample.keys()}
            skeleton = Skeleton(network, read, _layer_slots(network), sample)
        except _NotSwappable:
            self._stop_reusing()
        else:
            self._skeletons.append(skeleton)
            for option in skeleton.others():
                self._prepare(option)
        return network

    def _stop_reusing(self) -> None:
        self._skeletons.clear()
        self._misses = self.patience + 1


class _Layered:
    """Networks of layers that are kept, of candidates whose structure is dear.

    Parameters
    ----------
    space
        The candidates' space.
    seed
        The seed of the initial weights.
    prepare
        Called with each network.
    """

    def __init__(self, space: ExecutableModelSpace, seed: int, prepare: Callable[[nn.Module], nn.Module]) -> None:
        self.space = space
        self.prepare = prepare
        self._layers = Layers(seed)
        self._proven: set[type[nn.Module]] = set()
        self._count = 0
        self._sound = True  # whether layers may be used again

    def network(self, sample: Sample) -> nn.Module | None:
        """The network of a candidate, or None if its structure is not dear."""
        network, watch = construct_by_layers(self.space.freeze(sample), self._layers, self._sound)
        if not has_dear_structure(network, watch):
            return None
        self.prepare(network)
        if not self._sound or not self._is_due():
            return network
        anew = self.prepare(construct_by_layers(self.space.freeze(sample), Layers(self._layers.seed), reuse=False)[0])
        self._sound = are_alike(network, anew)
        if not self._sound:
            _logger.debug("The space's networks are constructed anew: their layers are not left as they were made.")
            self._layers = Layers(self._layers.seed)
            return anew
        self._proven |= self._layers.reused
        return network

    def _is_due(self) -> bool:
        """Whether a network is to be compared with one of new layers: now and then, and where a class was not seen yet."""
        self._count += 1
        return not self._layers.reused <= self._proven or self._count & (self._count - 1) == 0


class _NotSwappable(Exception):
    """A chosen layer stands where it cannot be exchanged."""


class _Slot(NamedTuple):
    """A place in a network where the chosen option of a layer choice stands."""

    place: dict[str, nn.Module | None]  # the children of the module that it is in
    name: str
    label: str
    options: dict[Any, nn.Module]


class Skeleton:
    """A network with all options of its layer choices.

    Parameters
    ----------
    network
        The network as it was constructed.
    structure
        The choices that its construction depended on otherwise than by choosing a layer.
    slots
        The places of the others.
    sample
        The candidate that it was constructed for.
    """

    def __init__(self, network: nn.Module, structure: Sample, slots: list[_Slot], sample: Sample) -> None:
        self.network = network
        self.structure = structure
        self.slots = slots
        self.labels = {slot.label for slot in slots}
        self._proven = {(label, sample[label]) for label in self.labels}

    def fits(self, sample: Sample) -> bool:
        """Whether a candidate differs in chosen layers alone."""
        return all(label in sample and sample[label] == value for label, value in self.structure.items()) and all(
            slot.label in sample and sample[slot.label] in slot.options for slot in self.slots
        )

    def set(self, sample: Sample) -> nn.Module:
        """The network of a candidate."""
        for place, name, label, options in self.slots:
            place[name] = options[sample[label]]
        if _CONTEXT in self.network.__dict__:
            self.network.__dict__[_CONTEXT] = {**sample, '__arch__': True}
        return self.network

    @contextlib.contextmanager
    def forked(self, samples: Sequence[Sample]) -> Iterator[nn.Module]:
        """The network of several candidates inside, with a fork where they differ."""
        for place, name, label, options in self.slots:
            used = list(dict.fromkeys(sample[label] for sample in samples))
            layers = [options[each] for each in used]
            chosen = [used.index(sample[label]) for sample in samples]
            place[name] = layers[0] if len(used) == 1 else Fork(layers, chosen)
        try:
            yield self.network
        finally:
            self.set(samples[-1])

    def others(self) -> list[nn.Module]:
        """The options that do not stand in the network at present."""
        return [option for slot in self.slots for option in slot.options.values() if option is not slot.place[slot.name]]

    def unproven(self, sample: Sample) -> bool:
        """Whether an option is used that was not compared with NNI's yet."""
        return any((label, sample[label]) not in self._proven for label in self.labels)

    def prove(self, sample: Sample) -> None:
        """A candidate's network was compared with NNI's, and is the same."""
        self._proven.update((label, sample[label]) for label in self.labels)


def _layer_slots(network: nn.Module) -> list[_Slot]:
    """The places of chosen layers in a network that was constructed under watch, and in their other options."""
    if TAG in network.__dict__:
        raise _NotSwappable
    slots, tagged = [], []
    waiting, met = [network], {id(network)}
    while waiting:
        parent = waiting.pop()
        for name, child in parent._modules.items():
            choices = child.__dict__.get(TAG, ()) if child is not None else ()
            if len(choices) > 1:  # one layer is an option of several choices
                raise _NotSwappable
            for label, options in choices:
                tagged.append(child)
                slots.append(_Slot(parent._modules, name, label, options))
                children = [child, *options.values()]
            if not choices:
                children = [child]
            for each in children:
                if each is not None and id(each) not in met:
                    met.add(id(each))
                    waiting.append(each)
    for child in tagged:
        child.__dict__.pop(TAG, None)
    return slots


def are_alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks are alike: in structure, weights, buffers, and whatever their layers are told by plain values."""
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if (
            type(a) is not type(b)
            or [*a._modules] != [*b._modules]
            or not _values_are_alike(a._parameters, b._parameters)
            or not _values_are_alike(a._buffers, b._buffers)
            or not _values_are_alike(_plain_attributes(a), _plain_attributes(b))
        ):
            return False
        for name, child in a._modules.items():
            counterpart = b._modules[name]
            if child is not None and counterpart is not None:
                pairs.append((child, counterpart))
            elif child is not counterpart:
                return False
    return True


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    others = ('_modules', '_parameters', '_buffers', TAG, _CONTEXT)
    return {name: value for name, value in module.__dict__.items() if name not in others}


def _values_are_alike(a: Any, b: Any) -> bool:
    """Whether two values are equal, as far as they are plain; objects of other kinds pass for equal if of one type.

    Layers in a list or dict of their own, where they are not exchanged with the others, are not.
    """
    if type(a) is not type(b) or isinstance(a, nn.Module):
        return False
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.requires_grad == b.requires_grad and torch.equal(a, b)
    if isinstance(a, dict):
        return [*a] == [*b] and all(_values_are_alike(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_values_are_alike, a, b))
    return a == b if isinstance(a, (int, float, complex, str, bytes, bool, torch.Size, torch.dtype)) else True
