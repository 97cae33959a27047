"""What was probably meant by a word that is not known."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

__all__ = ['nearest', 'quoted']


def nearest(name: str, known: Iterable[str]) -> str:
    """For the end of an error's sentence: the known name that was probably meant, or all there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f'did you mean "{close[0]}"?' if close else f'there are {", ".join(known) or "none"}'


def quoted(word: object) -> str:
    """A word of the user's between quotes, on one line whatever is in it."""
    return json.dumps(str(word), ensure_ascii=False)
