"""Work that is done every so often beside a run, and never disturbs it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ['repeated']

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def repeated(work: Callable[[], None], seconds: float, *, share: float = 1.0, last: bool = False) -> Iterator[None]:
    """Have work done by a thread of its own, every so often while the context lasts.

    What goes wrong is logged for debugging, and tried again next time; a package that is missing ends it.

    Parameters
    ----------
    work
        Called without arguments, by one thread at a time.
    seconds
        The time between two calls.
    share
        The part of the time that the work may take at most: where it takes long, it is done more rarely.
    last
        Whether it is done once more at the end.
    """
    over = threading.Event()
    missing = threading.Event()

    def attempt() -> None:
        try:
            work()
        except ImportError as error:
            _logger.debug('Not done, since a package is missing: %s', error)
            missing.set()
        except Exception:
            _logger.debug('Could not be done this time.', exc_info=True)

    def go_on() -> None:
        wait = seconds
        while not over.wait(wait) and not missing.is_set():
            start = time.monotonic()
            attempt()
            wait = max(seconds, (time.monotonic() - start) / share)

    thread = threading.Thread(target=go_on, name=f'KNAS {getattr(work, "__name__", "work")}', daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if last and not missing.is_set():
            attempt()
