"""What went wrong in the user's own code, in words."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

__all__ = ['failure']

_OTHERS = tuple(str(Path(path)) for path in {*sysconfig.get_paths().values(), str(Path(__file__).parent.parent)} if path)


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
