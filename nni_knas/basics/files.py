"""Files that a kill at any moment leaves whole: as they are to be, or as they were."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ['atomic_write']


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which becomes ``path`` when all is written; its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{path.name}.{os.getpid()}')
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
