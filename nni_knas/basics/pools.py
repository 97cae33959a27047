"""Pools of processes that do not outlive whoever waits for them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

__all__ = ['process_pool']


def process_pool(
    processes: int, initializer: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool whose processes begin anew, and end with this one, also when it is killed.

    Parameters
    ----------
    processes
        How many at most; they begin when there is work.
    initializer, arguments
        What each process calls first.
    """
    context = multiprocessing.get_context('spawn')  # a fork is unsafe once torch has threads
    return ProcessPoolExecutor(processes, context, _begin, (initializer, arguments))


def _begin(initializer: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
