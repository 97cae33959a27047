"""What a user's function is, told by its content: the same in each run of a script, and another one for another function."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ['name_of_loss']

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_ARRAYS = (torch.Tensor, np.ndarray, np.generic)
_COUNTED = (*_PLAIN, *_ARRAYS, types.FunctionType, functools.partial, nn.Module, tuple, list)
"""What counts of the globals that a function reads."""


def name_of_loss(loss: Callable[..., Any] | None) -> str:
    """A loss by its name, with a digest of what it computes.

    The name alone would not do: all lambdas of a module have the same one. The digest is of code, constants, defaults,
    what it closes over and the plain globals that it reads; of a module or another object, of its state.
    """
    if loss is None:
        return 'cross-entropy'
    name = getattr(loss, '__qualname__', type(loss).__qualname__)
    if inspect.isroutine(loss) and _is_of_torch(loss):
        return name
    digest = hashlib.sha256()
    for part in _parts(loss, set()):
        digest.update(part)
        digest.update(b'\0')
    return f'{name} {digest.hexdigest()[:12]}'


def _is_of_torch(thing: Any) -> bool:
    return (getattr(thing, '__module__', None) or '').split('.')[0] == 'torch'


def _parts(thing: Any, met: set[int]) -> Iterator[bytes]:
    """What a thing is, as bytes that do not depend on the process. What is met again has been told."""
    if isinstance(thing, _PLAIN):
        yield repr(thing).encode()
    elif isinstance(thing, _ARRAYS):
        yield from _parts_of_array(thing)
    elif id(thing) in met:
        yield b'met'
    else:
        met.add(id(thing))
        yield from _parts_of_object(thing, met)


def _parts_of_array(thing: Any) -> Iterator[bytes]:
    yield f'{thing.dtype} {tuple(thing.shape)}'.encode()
    if isinstance(thing, torch.Tensor):
        yield thing.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    else:
        yield repr(thing.tolist()).encode() if thing.dtype.hasobject else thing.tobytes()


def _parts_of_object(thing: Any, met: set[int]) -> Iterator[bytes]:
    if isinstance(thing, Mapping):
        yield from _parts_of_each([each for pair in thing.items() for each in pair], met)
    elif isinstance(thing, (tuple, list)):
        yield from _parts_of_each(thing, met)
    elif isinstance(thing, (set, frozenset)):
        yield from _parts_of_each(sorted(thing, key=repr), met)
    elif isinstance(thing, functools.partial):
        yield from _parts_of_each([thing.func, thing.args, thing.keywords], met)
    elif isinstance(thing, types.MethodType):
        yield from _parts_of_each([thing.__func__, thing.__self__], met)
    elif isinstance(thing, types.FunctionType) and not _is_of_torch(thing):
        yield from _parts_of_function(thing, met)
    elif inspect.isroutine(thing) or isinstance(thing, (type, types.ModuleType)):
        yield f'{getattr(thing, "__module__", "")}.{getattr(thing, "__qualname__", thing.__name__)}'.encode()
    else:
        yield from _parts_of_instance(thing, met)


def _parts_of_each(things: Any, met: set[int]) -> Iterator[bytes]:
    yield str(len(things)).encode()
    for each in things:
        yield from _parts(each, met)


def _parts_of_function(function: types.FunctionType, met: set[int]) -> Iterator[bytes]:
    yield from _parts_of_code(function.__code__, met)
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    yield from _parts_of_each([function.__defaults__, function.__kwdefaults__, *cells], met)
    read = [function.__globals__.get(name) for name in function.__code__.co_names]
    # Other objects that a module has, such as its logger, change from one process to the next.
    yield from _parts_of_each([each for each in read if isinstance(each, _COUNTED)], met)


def _parts_of_code(code: types.CodeType, met: set[int]) -> Iterator[bytes]:
    """Without places and line numbers: a function that was moved is the same."""
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _parts_of_code(constant, met)
        else:
            yield from _parts(constant, met)


def _parts_of_instance(thing: Any, met: set[int]) -> Iterator[bytes]:
    cls = type(thing)
    yield f'{cls.__module__}.{cls.__qualname__}'.encode()
    for name in ('forward', '__call__'):
        method = getattr(cls, name, None)
        if isinstance(method, types.FunctionType) and not _is_of_torch(method):
            yield from _parts(method, met)
    if isinstance(thing, nn.Module):
        children = {**thing._parameters, **thing._buffers, **thing._modules}
        own = {name: value for name, value in vars(thing).items() if not name.startswith('_') and name != 'training'}
        yield from _parts({**children, **own}, met)
    else:
        yield from _parts(dict(getattr(thing, '__dict__', {})), met)
