"""What frozen encoders make of the minibatch that candidates are scored on: the same for all of them, and computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ['remembered']

ROOM = 2**30
"""Bytes of hidden states that are remembered, of the latest minibatches; what needs more is computed each time."""

_STATES: OrderedDict[Any, tuple[Tensor, ...]] = OrderedDict()


def remembered(
    key: Any, ids: Tensor, sentence: Tensor, compute: Callable[[Tensor, Tensor], Sequence[Tensor]]
) -> Sequence[Tensor]:
    """The hidden states of tokens, computed where they are not known yet.

    Parameters
    ----------
    key
        What they depend on besides the tokens.
    ids, sentence
        As an encoder takes them, ``n x length``.
    compute
        A function of both, that gives the states.
    """
    key = (key, ids.shape, ids.device, ids.cpu().numpy().tobytes(), sentence.cpu().numpy().tobytes())
    states = _STATES.get(key)
    if states is None:
        with torch.inference_mode(False), torch.no_grad():
            states = tuple(compute(ids, sentence))
        _STATES[key] = states
        while sum(map(_size, _STATES.values())) > ROOM:
            _STATES.popitem(last=False)
    else:
        _STATES.move_to_end(key)
    return states


def _size(states: Sequence[Tensor]) -> int:
    return sum(state.numel() * state.element_size() for state in states)
