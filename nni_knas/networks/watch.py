"""What is seen while NNI constructs a network: which choices are asked for, which layers are made, and which are chosen."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import nni.nas.nn.pytorch.base as nni_layers
import torch
from nni.mutable import MutableExpression, Sample, frozen_context, label_scope
from nni.mutable.symbol import SymbolicExpression
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, Repeat
from nni.nas.space import model_context
from torch import nn

__all__ = ['TAG', 'Watch', 'past_the_watch', 'watched_construction', 'watched_parameters']

_LOCK = threading.Lock()  # constructors are watched through names that all threads share
_FROZEN = '__arch__'  # where NNI notes that a sample is one, which each of its layers looks at
TAG = '_knas_options'
"""Where a chosen layer carries its choice's label and options, while it is watched."""


class _Seen(set[str]):
    """Labels, and how many times any of them was looked at."""

    times = 0

    def add(self, label: str) -> None:
        if label != _FROZEN:
            self.times += 1
            super().add(label)

    def update(self, *labels: Iterable[str]) -> None:
        self.times += 1
        super().update(*labels)


class _Reads(dict[str, Any]):
    """A sample that notes which of its labels are looked at."""

    def __init__(self, sample: Sample, seen: _Seen) -> None:
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
        The layers that were chosen: label, the layer, all options where they are kept.
    dropped
        Blocks that a depth leaves out.
    layers
        How many layers and blocks of them were made, be they kept or not.
    kinds
        Their classes.
    redrawn
        Whether weights were drawn after the space's constructor had begun to walk over the layers that it had made.
    """

    def __init__(self) -> None:
        self.reads = _Seen()
        self.choices: list[tuple[str, nn.Module, dict[Any, nn.Module]]] = []
        self.dropped: list[nn.Module] = []
        self.parameters: list[_Reads] = []
        self.layers = self.labels = 0
        self.kinds: set[type[nn.Module]] = set()
        self.redrawn = False
        self._walked: torch.Tensor | None = None  # the generator's state when the constructor walked over its layers

    @property
    def looks(self) -> int:
        """How many times anything was asked of the sample, or of the labels' numbers, until now."""
        return self.reads.times + len(self.choices) + self.labels

    def walk(self) -> None:
        """Note that the space's constructor walks over its layers."""
        if self._walked is None:
            self._walked = torch.get_rng_state()

    def close(self) -> None:
        """What can be said at the end only: who has kept the parameters may look at any of them later."""
        self.redrawn = self._walked is not None and not torch.equal(self._walked, torch.get_rng_state())
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
def watched_construction(keep_options: bool = False) -> Iterator[Watch]:
    """While networks are constructed: note what is asked of the sample, and what is made.

    What is seen is complete at the end.

    Parameters
    ----------
    keep_options
        Whether all options of layer choices are kept. Then a chosen layer carries its choice's label and options under
        ``TAG``, where they follow it when a block is copied.
    """
    watch = Watch()
    values: dict[int, tuple[Any, Any]] = {}  # with the expression, whose number no other one has meanwhile
    evaluated = SymbolicExpression.evaluate
    current, fixed_repeat = frozen_context.current, Repeat.create_fixed_module
    make_layer, named_modules, next_label = nn.Module.__init__, nn.Module.named_modules, label_scope.next_label

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
        if keep_options:
            chosen.__dict__.setdefault(TAG, []).append((choice.label, options))
        else:
            options = {}
        watch.choices.append((choice.label, chosen, options))
        return chosen

    def create_repeat(cls: type[Repeat], sample: Sample, blocks: Any, *arguments: Any, **keywords: Any) -> nn.Module:
        repeated: nn.Sequential = fixed_repeat(sample, blocks, *arguments, **keywords)
        if isinstance(blocks, list):
            watch.dropped += [block for block in blocks[len(repeated) :] if isinstance(block, nn.Module)]
        return repeated

    def walked(self: nn.Module, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(self, ModelSpace):
            watch.walk()
        return named_modules(self, *arguments, **keywords)

    def counted_label(scope: label_scope) -> str:
        watch.labels += 1
        return str(next_label(scope))

    def counted(self: nn.Module, *arguments: Any, **keywords: Any) -> None:
        watch.layers += 1
        watch.kinds.add(type(self))
        make_layer(self, *arguments, **keywords)

    def freeze(self: MutableExpression[Any], sample: Sample) -> Any:
        return self.evaluate(sample)  # the sample is known to be one of the space

    def evaluate(self: MutableExpression[Any], sample: Sample) -> Any:
        """Once for each expression, of which others are made: NNI's hub makes widths of widths of widths."""
        if not isinstance(sample, dict):
            return evaluated(self, sample)
        if id(self) not in values:
            values[id(self)] = self, evaluated(self, sample)
        return values[id(self)][1]

    def unread_context(sample: Sample) -> frozen_context:
        return model_context(dict(dict.items(sample)))  # NNI's layers put the whole sample into a context of their own

    replaced = [
        (LayerChoice, 'create_fixed_module', classmethod(create_fixed_module)),
        (Repeat, 'create_fixed_module', classmethod(create_repeat)),
        (frozen_context, 'current', staticmethod(current_reads)),
        (nni_layers, 'model_context', unread_context),
        (MutableExpression, 'freeze', freeze),
        (SymbolicExpression, 'evaluate', evaluate),
        (nn.Module, '__init__', counted),
        (nn.Module, 'named_modules', walked),
        (label_scope, 'next_label', counted_label),
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
