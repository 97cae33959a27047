"""Work that is spread over several processes of this machine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from typing import Any, TypeVar

import cloudpickle  # type: ignore[import-untyped]

from nni_knas.basics.pools import process_pool

__all__ = ['spread']

T = TypeVar('T')
R = TypeVar('R')

_function: Callable[[Any], Any]


def spread(function: Callable[[T], R], work: Sequence[T], processes: int) -> Generator[R, None, None]:
    """What a function gives for each piece of work, as they are done.

    Parameters
    ----------
    function
        Called in the processes; it and what it holds travel by value, functions within functions among it.
    work
        The pieces.
    processes
        How many; each computes with one thread.
    """
    pool = process_pool(min(processes, len(work)) or 1, _begin, (cloudpickle.dumps(function),))
    try:
        for done in as_completed([pool.submit(_call, piece) for piece in work]):
            yield done.result()
    finally:  # also when whoever takes the results was interrupted
        pool.shutdown(cancel_futures=True)


def _begin(function: bytes) -> None:
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the process that waits for this one
    import torch

    torch.set_num_threads(1)
    _function = cloudpickle.loads(function)


def _call(piece: Any) -> Any:
    return _function(piece)
