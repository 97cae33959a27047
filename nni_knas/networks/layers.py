"""Layers of networks that are constructed one after another: made once, and put into each network that has one like it.

Where a space's choices change the structure of its networks, hardly two of them have a skeleton in common. They are made of
the same layers, though. While a network is constructed here, a layer that is made with the same arguments as one of an
earlier network is that one. So that this changes nothing, a layer's initial weights depend on the seed, on its class and
arguments, and on how many such layers the network's constructor has made before it: each is made by its own constructor,
with the random generators seeded by these alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from nni.mutable import Mutable
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from nni_knas.gradients import seeded
from nni_knas.networks.watch import Watch

__all__ = ['Layers', 'learn_kinds']

_PLAIN = (int, float, bool, str, type(None), torch.dtype, np.int64, np.float64)
_OWN = ('_parameters', '_buffers', '_modules')
_LOCAL = '<locals>'  # a class within a function is another one each time


class _Kind(NamedTuple):
    """What a layer is made by: its class, and the text of it and its arguments."""

    kind: type[nn.Module]
    text: str


class _Kept(NamedTuple):
    """A layer as its constructor made it: its attributes, how many layers it holds with itself, and their bytes."""

    attributes: dict[str, Any]
    layers: int
    size: int


# What does not depend on a space: which classes there are, and which layers cannot be kept, by what their constructors do.
_classes: set[type[nn.Module]] = set()
_unfit: set[_Kind] = set()


class Layers:
    """Layers that were made, by their kind and their number among those of their kind in a network.

    Parameters
    ----------
    seed
        The seed of the initial weights.
    """

    capacity = 2**29
    """How many bytes of weights are kept; those that were used longest ago are made anew when they are needed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.reused: set[type[nn.Module]] = set()
        """Classes of which a kept layer stands in the network that was constructed last."""
        self._kept: OrderedDict[tuple[_Kind, int], _Kept] = OrderedDict()
        self._size = 0
        self._made: Counter[_Kind] = Counter()
        self._watch = Watch()
        self._thread: int | None = None  # the one that constructs; None within a layer's constructor
        self._reuse = True

    @contextlib.contextmanager
    def in_use(self, watch: Watch, reuse: bool) -> Iterator[Callable[[], bool]]:
        """While a network is constructed under watch: its layers are made here, or taken from those that are kept.

        Parameters
        ----------
        watch
            Sees what is asked of the sample.
        reuse
            Whether layers are taken from those that are kept, and kept.

        Yields
        ------
        Whether none was made that turned out not to be one that can be kept.
        """
        unfit = len(_unfit)
        self._made.clear()
        self.reused.clear()
        self._watch, self._reuse, self._thread = watch, reuse, threading.get_ident()
        inits = {kind: (vars(kind).get('__init__'), kind.__init__) for kind in _classes}
        try:
            for kind, (_, init) in inits.items():
                kind.__init__ = self._constructor(kind, init)  # type: ignore[method-assign]
            yield lambda: len(_unfit) == unfit
        finally:
            self._thread = None
            for kind, (own, _) in inits.items():
                if own is None:
                    del kind.__init__
                else:
                    kind.__init__ = own  # type: ignore[method-assign]
            self._forget()

    def _constructor(self, kind: type[nn.Module], init: Callable[..., None]) -> Callable[..., None]:
        """In the place of a class's constructor."""

        def make(module: nn.Module, *arguments: Any, **keywords: Any) -> None:
            if type(module) is not kind or threading.get_ident() != self._thread:
                init(module, *arguments, **keywords)
                return
            made_by = _kind_of(kind, arguments, keywords)
            if made_by is None or made_by in _unfit:
                init(module, *arguments, **keywords)
            else:
                self._fill(module, made_by, lambda: init(module, *arguments, **keywords))

        return make

    def _fill(self, module: nn.Module, kind: _Kind, init: Callable[[], None]) -> None:
        """Make a layer, or let it be like one that is kept."""
        key = kind, self._made[kind]
        self._made[kind] += 1
        kept = self._kept.get(key) if self._reuse else None
        if kept is None:
            self._make(module, key, init)
            return
        self._kept.move_to_end(key)
        self.reused.add(kind.kind)
        self._watch.layers += kept.layers
        module.__dict__.update(_copied(kept.attributes))

    def _make(self, module: nn.Module, key: tuple[_Kind, int], init: Callable[[], None]) -> None:
        looks, layers = self._watch.looks, self._watch.layers
        thread, self._thread = self._thread, None  # what is made within belongs to it
        try:
            with _stream(_seed_of(self.seed, *key), key[0].kind):
                init()
        finally:
            self._thread = thread
        if self._watch.looks != looks or not _can_be_kept(module, key[0].kind):
            _unfit.add(key[0])
        elif self._reuse:
            size = sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
            self._kept[key] = _Kept(_copied(module.__dict__), self._watch.layers - layers, size)
            self._size += size

    def _forget(self) -> None:
        """The layers that were used longest ago, so that not too many are kept."""
        while self._size > self.capacity:
            self._size -= self._kept.popitem(last=False)[1].size


def learn_kinds(watch: Watch) -> bool:
    """Remember the classes of which layers were made under watch; whether any is new."""
    new = {kind for kind in watch.kinds - _classes if _may_be_kept(kind)}
    _classes.update(new)
    return bool(new)


def _may_be_kept(kind: type[nn.Module]) -> bool:
    """Whether layers of a class may be kept: not those that are choices, change their class, or are known here alone."""
    others = (Mutable, LazyModuleMixin, torch.jit.ScriptModule)
    return type(kind) is type and kind is not nn.Module and not issubclass(kind, others) and _LOCAL not in kind.__qualname__


def _can_be_kept(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether nothing of a layer that was made refers to itself: what it becomes a part of is another object each time."""
    values = [value for module in layer.modules() for value in module.__dict__.values()]
    hooked = any(value for module in layer.modules() for name, value in module.__dict__.items() if name.endswith('_hooks'))
    return type(layer) is kind and not hooked and not any(map(_has_a_closure, values))


def _has_a_closure(value: Any) -> bool:
    return getattr(value, '__closure__', None) is not None or isinstance(getattr(value, '__self__', None), nn.Module)


@contextlib.contextmanager
def _stream(seed: int, kind: type[nn.Module]) -> Iterator[None]:
    """Random generators for a layer's constructor; PyTorch's own layers need but one, which is several times faster."""
    if not kind.__module__.startswith('torch.nn.'):
        with seeded(seed):
            yield
        return
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    return {**attributes, **{name: attributes[name].copy() for name in _OWN}}


def _kind_of(kind: type[nn.Module], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> _Kind | None:
    """What a layer is made by, or None where its arguments are no plain values."""
    values = [*arguments, *keywords.values()]
    texts = [*map(_text_of, values)]
    if None in texts:
        return None
    # Constructors of NNI's hub ask whether two widths are one object, which equal numbers above 256 need not be.
    large = [value for value in values if type(value) is int and value > 256]
    same = [one is other for i, one in enumerate(large) for other in large[:i] if one == other]
    return _Kind(kind, f'{kind.__qualname__} {texts} {[*keywords]} {same}')


def _text_of(value: Any) -> str | None:
    """The same text in each process, or None if a value is not plain."""
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) in (tuple, list):
        texts = [*map(_text_of, value)]
        return None if None in texts else f'{type(value).__name__}{texts}'
    if isinstance(value, type) and _LOCAL not in value.__qualname__:
        return value.__qualname__
    return None


def _seed_of(seed: int, kind: _Kind, number: int) -> int:
    digest = hashlib.sha256(f'{seed} {kind.text} {number}'.encode()).digest()
    return int.from_bytes(digest[:7], 'big')
