"""What went wrong, in words: a mistake that we found, or an error of the user's code, of a library or of ours."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from pathlib import Path

__all__ = ['failure', 'is_said_by_us', 'told']

_OURS = str(Path(__file__).parent.parent)
_OTHERS = tuple(str(Path(path)) for path in {*sysconfig.get_paths().values(), _OURS} if path)


def failure(error: BaseException) -> str:
    """An error of the user's code: its kind, the first line of what it says, and where in that code it happened.

    Examples
    --------
    ``KeyError: 'depth' in mymodels.py, line 12``
    """
    said = str(error).strip().partition('\n')[0]
    text = f'{type(error).__name__}: {said}' if said else type(error).__name__
    place = next((each for each in reversed(traceback.extract_tb(error.__traceback__)) if _is_own(each.filename)), None)
    return (
        text
        if place is None or isinstance(error, SyntaxError)
        else f'{text} in {Path(place.filename).name}, line {place.lineno}'
    )


def _is_own(file: str) -> bool:
    return not file.startswith(('<', *_OTHERS))


def is_said_by_us(error: BaseException) -> bool:
    """Whether one of our own ``raise`` statements has made the error: then its message is meant for the user as it is."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(_OURS):
        return False
    return linecache.getline(frames[-1].filename, frames[-1].lineno or 0).lstrip().startswith('raise ')


def told(error: BaseException) -> str:
    """A sentence for an error: our own as it is, any other with its kind and where it happened.

    That is where in the user's code, or else where it was raised.
    """
    if is_said_by_us(error):
        return str(error)
    text, frames = failure(error), traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames or any(_is_own(frame.filename) for frame in frames):
        return text
    return f'{text} in {frames[-1].filename}, line {frames[-1].lineno}'
