"""Pairs of sentences, which are one text, as texts of their own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['separated']


def separated(ids: Tensor, sentence: Tensor, start: int | None) -> tuple[Tensor, Tensor]:
    """The two sentences of pairs as texts of their own.

    Parameters
    ----------
    ids, sentence
        Token ids, and the sentence that each belongs to, ``n x length``; sentences follow one another, padding comes last.
    start
        The special token that a text begins with, ``None`` where there is none.

    Returns
    -------
    tuple of Tensor
        The same for ``2n`` texts, all first sentences before all second ones; each token belongs to sentence 1 or to
        padding.
    """
    length = ids.shape[1]
    counts = torch.stack([(sentence == 1).sum(1), (sentence == 2).sum(1)])  # 2 x n
    room = int(start is not None)  # the place before the second sentence receives the start token
    first = counts[0] - room
    places = torch.arange(length, device=ids.device)
    second = ids.gather(1, (first[:, None] + places).clamp(max=length - 1))
    if start is not None:
        second = torch.where(places == 0, start, second)
    lengths = torch.cat([counts[0], counts[1] + room])
    both = torch.cat([ids, second])
    if not torch.compiler.is_compiling():  # an exported network has no length that depends on the data
        longest = int(lengths.max())
        both, places = both[:, :longest], places[:longest]
    mask = places < lengths[:, None]
    return both * mask, mask.long()
