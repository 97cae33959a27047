"""Files that a kill at any moment leaves whole: as they are to be, or as they were."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ['CACHE', 'atomic_write', 'check_place', 'check_writable', 'private_folder']

CACHE = Path('~/.cache/nni-knas').expanduser()
"""A folder of the user's, where what was downloaded, tokenised or computed is kept."""


@contextlib.contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Gives a path to write to, which becomes ``path`` when all is written; its folder is made where there is none.

    A file that is ``private`` is readable by its owner alone, from the moment that it is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{path.name}.{os.getpid()}')
    try:
        if private:
            unfinished.unlink(missing_ok=True)
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone can look into, for what others write in it; one that is there becomes such."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # somebody else's, or of a file system without modes
        path.chmod(0o700)


def check_place(file: Path) -> None:
    """Raise ``ValueError`` where a file cannot be, before the work is done that it is to hold."""
    if file.is_dir():
        raise ValueError(f'{file} is a folder: name a file')
    if not file.absolute().parent.is_dir():
        raise ValueError(f'{file} cannot be written: there is no folder {file.parent}')


def check_writable(folder: Path, what: str) -> None:
    """Raise ``ValueError`` if a folder for ``what`` cannot be written to, or not be made; none is made yet."""
    try:
        with tempfile.TemporaryFile(dir=next(each for each in (folder, *folder.parents) if each.exists())) as file:
            file.write(b'.')
    except OSError as error:
        raise ValueError(f'{what} cannot be kept in {folder}: {error.strerror}') from error
