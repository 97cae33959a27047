"""Checks of what a user asks for, in words that say what would be right."""

from __future__ import annotations

from typing import Any

__all__ = ['LARGEST_SEED', 'check_count', 'check_seed']

LARGEST_SEED = 2**32 - 1
"""What numpy's generators take, by which NNI's explorers draw."""


def check_count(name: str, value: Any, least: int = 1, *, what: str = 'a whole number') -> None:
    """Raise ``ValueError`` for a value that is no whole number from ``least`` on.

    Parameters
    ----------
    name
        The argument's name, which the message begins with.
    value
        The argument.
    least
        The smallest number allowed.
    what
        What it has to be, in the words of the message.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f'{name} is {value!r}: it has to be {what}, {least} or more')


def check_seed(value: Any, name: str = 'seed') -> None:
    """Raise ``ValueError`` for a value that is no seed of all random generators: torch's, numpy's and Python's."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_SEED:
        raise ValueError(f'{name} is {value!r}: it has to be a whole number, 0 or more and at most {LARGEST_SEED}')
