"""Why a network cannot be scored, and what kind of error a pass through it has raised."""

from __future__ import annotations

import dis
from pathlib import Path

import torch

__all__ = ['CoupledSamples', 'MisfitError', 'ScoringError', 'first_line', 'is_out_of_memory', 'is_raised_by_user']


class ScoringError(ValueError):
    """A network cannot be scored. The message is one sentence that says why."""


class MisfitError(ScoringError):
    """The minibatch does not fit the network: it cannot take the inputs, or its outputs do not go with the targets."""


class CoupledSamples(Exception):
    """A BatchNorm that uses the minibatch's statistics was given only a part of the minibatch."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ('out of memory' in message or "can't allocate memory" in message
                                                or 'not enough memory' in message)


def is_raised_by_user(error: BaseException) -> bool:
    """Whether a ``raise`` statement outside of torch gave the error, rather than an operation that was given a misfit."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or Path(trace.tb_frame.f_code.co_filename).is_relative_to(Path(torch.__file__).parent):
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS']


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
