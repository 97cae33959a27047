"""Networks of a space's candidates, one after another, without constructing each of them anew.

NNI constructs a candidate's network by running the space's constructor, which makes and initialises every option of every
choice, and keeps one. Here the constructor is run once, and the options are kept: a *skeleton*. The network of another
candidate is then the same skeleton with other options in their places.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import nni.nas.nn.pytorch.base as nni_layers
import torch
from nni.mutable import Sample, frozen_context
from nni.nas.nn.pytorch import LayerChoice, Repeat
from nni.nas.space import ExecutableModelSpace, model_context
from torch import nn

from nni_knas.gradients import Fork
from nni_knas.networks.candidates import build_network

__all__ = [
    'NetworkBuilder',
    'Skeleton',
    'Watch',
    'are_alike',
    'past_the_watch',
    'watched_construction',
    'watched_parameters',
]

_logger = logging.getLogger(__name__)
_LOCK = threading.Lock()  # constructors are watched through names that all threads share
_TAG = '_knas_options'
_CONTEXT = '_frozen_context'  # where NNI's spaces keep the sample that they were constructed for


class NetworkBuilder:
    """Builds the networks that :func:`~nni_knas.networks.candidates.build_network` builds, in a fraction of its time.

    The weights are the same to the last bit. That is checked, since a space's constructor may do anything: each option of
    each choice is compared with what NNI constructs when it is used for the first time. A space that does not bear it, and
    one whose choices change its structure rather than its layers, is constructed as NNI does.

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

    def network(self, sample: Sample) -> nn.Module:
        """The freshly initialised network of a candidate.

        It is valid until the next one is asked for: both may be the same object. It has to be left as it was given.
        """
        if self._misses > self.patience:
            return self._construct(sample)
        skeleton = next((each for each in self._skeletons if each.fits(sample)), None)
        if skeleton is None:
            return self._new_skeleton(sample)
        self._misses = 0
        self._skeletons.remove(skeleton)
        self._skeletons.append(skeleton)
        network = skeleton.set(sample)
        if not skeleton.unproven(sample):
            return network
        constructed = self._construct(sample)
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

    def _construct(self, sample: Sample) -> nn.Module:
        """The network as NNI constructs it."""
        return self._prepare(build_network(self.space.freeze(sample), self.seed))

    def _prepare(self, network: nn.Module) -> nn.Module:
        if self.device is not None:
            network.to(self.device)
        if self.prepare is not None:
            self.prepare(network)
        return network

    def _new_skeleton(self, sample: Sample) -> nn.Module:
        self._misses += 1
        if self._misses > self.patience:
            self._stop_reusing()
            return self._construct(sample)
        del self._skeletons[: max(0, 1 + len(self._skeletons) - self.capacity)]  # before the new one takes its memory
        with watched_construction() as watch:
            network = build_network(self.space.freeze(sample), self.seed)
        try:
            read = {label: sample[label] for label in watch.reads & sample.keys()}
            skeleton = Skeleton(network, read, _layer_slots(network), sample)
        except _NotSwappable:
            self._stop_reusing()
        else:
            self._skeletons.append(skeleton)
            for option in skeleton.others():
                self._prepare(option)
        return self._prepare(network)

    def _stop_reusing(self) -> None:
        self._skeletons.clear()
        self._misses = self.patience + 1


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


class _Reads(dict[str, Any]):
    """A sample that notes which of its labels are looked at."""

    def __init__(self, sample: Sample, seen: set[str]) -> None:
        super().__init__(sample)
        self.seen = seen

    def __getitem__(self, label: str) -> Any:
        self.seen.add(label)
        return super().__getitem__(label)

    def get(self, label: str, default: Any = None) -> Any:
        self.seen.add(label)
        return super().get(label, default)

    def __iter__(self) -> Iterator[str]:
        self.seen.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self.seen.update(super().keys())
        return super().keys()

    def values(self) -> Any:
        self.seen.update(super().keys())
        return super().values()

    def items(self) -> Any:
        self.seen.update(super().keys())
        return super().items()

    def __copy__(self) -> _Reads:
        return _Reads(dict(super().items()), self.seen)

    def pop(self, label: str, *default: Any) -> Any:
        self.seen.add(label)
        return super().pop(label, *default)


def _looking_at_all(name: str) -> Callable[..., Any]:
    def method(self: _Reads, *arguments: Any) -> Any:
        self.seen.update(dict.keys(self))
        return getattr(dict, name)(self, *arguments)

    return method


for _name in ('__eq__', '__ne__', '__or__', '__ror__', '__repr__', '__reversed__', 'copy', 'popitem', 'setdefault'):
    setattr(_Reads, _name, _looking_at_all(_name))


class Watch:
    """What is seen while a network is constructed.

    Attributes
    ----------
    reads
        The labels that were looked at, but for the choice of a layer.
    choices
        The layers that were chosen: label, the layer, all options.
    dropped
        Blocks that a depth leaves out.
    """

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.choices: list[tuple[str, nn.Module, dict[Any, nn.Module]]] = []
        self.dropped: list[nn.Module] = []
        self.parameters: list[_Reads] = []

    def close(self) -> None:
        """Who has kept the parameters may look at any of them later."""
        while self.parameters:
            parameters = self.parameters.pop()
            if sys.getrefcount(parameters) > 2:
                self.reads.update(dict.keys(parameters))


_watches = threading.local()


def watched_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters for a function of the user's, of which the watch notes those that it looks at."""
    watch = getattr(_watches, 'current', None)
    if watch is None:
        return parameters
    reads = _Reads(parameters, watch.reads)
    watch.parameters.append(reads)
    return reads


@contextlib.contextmanager
def past_the_watch() -> Iterator[None]:
    """What is looked at inside is not noted."""
    watch, _watches.current = getattr(_watches, 'current', None), None
    try:
        yield
    finally:
        _watches.current = watch


@contextlib.contextmanager
def watched_construction() -> Iterator[Watch]:
    """While networks are constructed: keep the options of layer choices, and note what else is asked of the sample.

    What is seen is complete at the end. A chosen layer carries its choice's label and
    options under ``_TAG``, where they follow it when a block is copied.
    """
    watch = Watch()
    current, fixed_repeat = frozen_context.current, Repeat.create_fixed_module

    def current_reads() -> dict[str, Any] | None:
        sample = current()
        watching = getattr(_watches, 'current', None)
        return sample if sample is None or watching is None else _Reads(sample, watching.reads)

    def create_fixed_module(
        cls: type[LayerChoice],
        sample: Sample,
        candidates: Any,
        *,
        weights: list[float] | None = None,
        label: str | None = None,
    ) -> nn.Module:
        names, modules = cls._init_names(candidates)
        choice = cls._inner_choice(names, weights, label)
        options = dict(zip(names, modules))
        chosen: nn.Module = options[choice.freeze(dict(dict.items(sample)))]  # past the notes
        chosen.__dict__.setdefault(_TAG, []).append((choice.label, options))
        watch.choices.append((choice.label, chosen, options))
        return chosen

    def create_repeat(cls: type[Repeat], sample: Sample, blocks: Any, *arguments: Any, **keywords: Any) -> nn.Module:
        repeated: nn.Sequential = fixed_repeat(sample, blocks, *arguments, **keywords)
        if isinstance(blocks, list):
            watch.dropped += [block for block in blocks[len(repeated) :] if isinstance(block, nn.Module)]
        return repeated

    def unread_context(sample: Sample) -> frozen_context:
        return model_context(dict(dict.items(sample)))  # NNI's layers put the whole sample into a context of their own

    replaced = [
        (LayerChoice, 'create_fixed_module', classmethod(create_fixed_module)),
        (Repeat, 'create_fixed_module', classmethod(create_repeat)),
        (frozen_context, 'current', staticmethod(current_reads)),
        (nni_layers, 'model_context', unread_context),
    ]
    with _LOCK:
        before = [(owner, name, vars(owner)[name]) for owner, name, _ in replaced]
        try:
            for owner, name, replacement in replaced:
                setattr(owner, name, replacement)
            _watches.current = watch
            yield watch
        finally:
            _watches.current = None
            watch.close()
            for owner, name, original in before:
                setattr(owner, name, original)


def _layer_slots(network: nn.Module) -> list[_Slot]:
    """The places of chosen layers in a network that was constructed under watch, and in their other options."""
    if _TAG in network.__dict__:
        raise _NotSwappable
    slots, tagged = [], []
    waiting, met = [network], {id(network)}
    while waiting:
        parent = waiting.pop()
        for name, child in parent._modules.items():
            choices = child.__dict__.get(_TAG, ()) if child is not None else ()
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
        child.__dict__.pop(_TAG, None)
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
    others = ('_modules', '_parameters', '_buffers', _TAG, _CONTEXT)
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
