"""The cores of this machine, and what part of them a process has among others that work beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ['THREADS', 'available_cores', 'sharing_cores', 'threads_beside']

THREADS = 'OMP_NUM_THREADS'
"""The variable that says how many threads torch computes with; a user who has set it is obeyed."""


def available_cores() -> int:
    """The cores that this process may use: not those of the whole machine where it is kept to some of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def threads_beside(processes: int) -> int:
    """The threads of each of so many processes that compute at the same time.

    With as many threads as there are cores in each, they wait for each other most of the time: two trials on eight cores
    take several times as long as with four threads each.
    """
    return max(1, available_cores() // max(1, processes))


@contextlib.contextmanager
def sharing_cores(processes: int) -> Iterator[None]:
    """Whoever is started within the context inherits its share of the cores, unless the user has said how many threads."""
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = str(threads_beside(processes))
    try:
        yield
    finally:
        del os.environ[THREADS]
