"""Short texts among long ones: a batch of their own spares what is padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ['by_length']

WORTH = 0.8
"""Two batches are worth it where both have at most this share of the tokens, with padding, that one has."""


def by_length(compute: Callable[..., Sequence[Tensor]], ids: Tensor, sentence: Tensor, *more: Tensor) -> Sequence[Tensor]:
    """What is computed of texts, the short ones by themselves where that spares much padding.

    The two sentences of a pair, each a text, may differ much: of RTE's the first have five times the tokens of the second.

    Parameters
    ----------
    compute
        A function of all that follows, that gives states of each text, ``n x length x width``. What it makes of a text must
        not depend on its padding nor on the texts beside it.
    ids, sentence
        Token ids, and the sentence that each belongs to, ``n x length``; padding, 0, comes last.
    more
        What else it takes, ``n x length x width``.

    Returns
    -------
    sequence of Tensor
        The states in the order of the texts; 0 behind a short one, where texts were parted.
    """
    groups = _groups(sentence)
    if len(groups) == 1:
        return compute(ids, sentence, *more)
    room = sentence.shape[1]
    parts = [compute(*(each[rows, :length] for each in (ids, sentence, *more))) for rows, length in groups]
    order = torch.cat([rows for rows, _ in groups]).argsort()
    return [torch.cat([F.pad(part, (0, 0, 0, room - part.shape[1])) for part in state])[order] for state in zip(*parts)]


def _groups(sentence: Tensor) -> list[tuple[Tensor, int]]:
    """Rows and their largest length: all, or the short ones and the long ones."""
    lengths, rows = (sentence > 0).sum(1).sort(stable=True)
    short = torch.arange(1, len(rows), device=rows.device)
    tokens = short * lengths[:-1] + (len(rows) - short) * lengths[-1]
    if not len(short) or tokens.min() > WORTH * sentence.numel():
        return [(rows, sentence.shape[1])]
    count = int(tokens.argmin()) + 1
    return [(rows[:count], int(lengths[count - 1])), (rows[count:], int(lengths[-1]))]
