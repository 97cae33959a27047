"""Pre-trained weights that networks share as long as nothing changes them."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

__all__ = ['only_looked_at', 'weights_are_shared']

_SHARED = contextvars.ContextVar('weights_are_shared', default=False)


@contextlib.contextmanager
def only_looked_at() -> Iterator[None]:
    """The networks that are built within are scored or measured, and not trained: they need no copies of their own."""
    token = _SHARED.set(True)
    try:
        yield
    finally:
        _SHARED.reset(token)


def weights_are_shared() -> bool:
    """Whether a network that is being built may share the memory of pre-trained weights: see :func:`only_looked_at`."""
    return _SHARED.get()
