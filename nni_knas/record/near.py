"""What is kept of the candidates that are drawn near the best, once trained ones have shown what counts."""

from __future__ import annotations

import json
from typing import NamedTuple

from nni_knas.basics.samples import decode_sample
from nni_knas.record import keys
from nni_knas.record.record import Candidate, Record
from nni_knas.record.status import UNUSABLE

__all__ = ['Near', 'near_of', 'set_near']


class Near(NamedTuple):
    """The candidates near the best of a run.

    Attributes
    ----------
    asked
        How many there are to be.
    first
        How many candidates the record had when they were drawn.
    parents
        The numbers of the candidates near which they are drawn; empty as long as they are not.
    samples
        Those that were drawn, in order, as text; each is here before it is scored.
    over
        Whether all of them are scored, and no more are to come.
    """

    asked: int
    first: int = 0
    parents: tuple[int, ...] = ()
    samples: tuple[str, ...] = ()
    over: bool = False

    def numbers(self, record: Record) -> list[int]:
        """The numbers of those that the record has already."""
        return [row.id for row in self._rows(record)]

    def scored(self, record: Record) -> int:
        """How many of those have a score, be it a quick one, and can be chosen."""
        return sum(row.rated is not None and row.status not in UNUSABLE for row in self._rows(record))

    def _rows(self, record: Record) -> list[Candidate]:
        rows = (record.find(decode_sample(sample)) for sample in self.samples)
        return [row for row in rows if row is not None]


def near_of(record: Record) -> Near | None:
    """The candidates near the best of a run; ``None`` where none are asked for."""
    text = record.get_meta(keys.NEAR)
    if not text:
        return None
    stored = json.loads(text)
    return Near(**{**stored, 'parents': tuple(stored['parents']), 'samples': tuple(stored['samples'])})


def set_near(record: Record, near: Near | None) -> None:
    """Keep what is to be drawn, or was; or that nothing is."""
    record.set_meta(keys.NEAR, json.dumps(near._asdict()) if near is not None else '')
