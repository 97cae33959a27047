"""What is kept of a training that has ended before the last of those that were to be trained."""

from __future__ import annotations

import json
from typing import NamedTuple

from nni_knas.record import keys
from nni_knas.record.record import Record

__all__ = ['Stop', 'set_stop', 'stop_of']


class Stop(NamedTuple):
    """Why no more were trained.

    Attributes
    ----------
    stop_when
        The chance that the user has named.
    chance
        The chance that a better one is among the candidates that were not trained.
    top_k
        How many were to be trained.
    """

    stop_when: float
    chance: float
    top_k: int


def stop_of(record: Record) -> Stop | None:
    """What has ended the training of a run early; ``None`` where nothing has."""
    text = record.get_meta(keys.STOPPED)
    return Stop(**json.loads(text)) if text else None


def set_stop(record: Record, stop: Stop | None) -> None:
    """Keep what has ended the training, or that it goes on."""
    record.set_meta(keys.STOPPED, json.dumps(stop._asdict()) if stop is not None else '')
