"""What was probably meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ['nearest']


def nearest(name: str, known: Iterable[str]) -> str:
    """For the end of an error's sentence: the known name that was probably meant, or all there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f'did you mean "{close[0]}"?' if close else f'there are {", ".join(known) or "none"}'
