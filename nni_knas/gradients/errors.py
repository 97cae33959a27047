"""Why a network cannot be scored, and what kind of error a pass through it has raised."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch

__all__ = [
    'Apart',
    'CoupledSamples',
    'MisfitError',
    'NotApplicable',
    'ScoringError',
    'first_line',
    'is_out_of_memory',
    'is_raised_by_user',
]

_TORCH = Path(torch.__file__).parent
_RAISES = re.compile(r'\b(raise|assert)\b')


class ScoringError(ValueError):
    """A network cannot be scored. The message is one sentence that says why."""


class MisfitError(ScoringError):
    """The minibatch does not fit the network: it cannot take the inputs, or its outputs do not go with the targets."""


class NotApplicable(ScoringError):
    """A score does not apply to a kind of network: it reads what that does not have, such as rectifiers."""

    def __init__(self, why: str) -> None:
        super().__init__(f'n/a: {why}')


class Apart(Exception):
    """A network cannot share a pass with others: it has to be scored by itself."""


class CoupledSamples(Exception):
    """A BatchNorm that uses the minibatch's statistics was given only a part of the minibatch."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory is used up, be it the CPU's or a GPU's."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and (
        'out of memory' in message or "can't allocate memory" in message or 'not enough memory' in message
    )


def is_raised_by_user(error: BaseException) -> bool:
    """Whether a ``raise`` or ``assert`` outside of torch gave the error, rather than an operation that was given a misfit.

    An operation of torch's has no place of its own in a traceback: the last line is the one that calls it.
    """
    places = traceback.extract_tb(error.__traceback__)
    if not places or Path(places[-1].filename).is_relative_to(_TORCH):
        return False
    return _RAISES.search(places[-1].line or '') is not None


def first_line(error: BaseException) -> str:
    """What an error says in its first line; the name of its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
