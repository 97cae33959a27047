"""Panels of statistics as a record keeps them: eight bytes a statistic, whose names stand once for all candidates."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # who only counts candidates does without
    from numpy.typing import NDArray

__all__ = ['Names', 'Panel', 'columns_of', 'pack', 'unpack']

Panel: TypeAlias = Mapping[str, float] | str | None
"""The statistics of a network by name; or why there are none; ``None`` where none were asked for."""
Names: TypeAlias = list[list[str]]
"""The names of the statistics in a record, in order; several lists where versions of other panels have worked on it."""


def pack(panel: Mapping[str, float], names: Names) -> bytes:
    """A panel as bytes: which of the lists has its names, and a little-endian number of 64 bits for each."""
    return struct.pack(f'<B{len(panel)}d', names.index(list(panel)), *panel.values())


def unpack(stored: Any, names: Names) -> Panel:
    """What :func:`pack` made bytes of; a reason, or nothing, is given as it is.

    Raises
    ------
    ValueError
        If it is no panel of these names.
    """
    kind = _kind(stored, names)
    if kind is None:
        said: Panel = stored
        return said
    values = struct.unpack(f'<{len(names[kind])}d', stored[1:])
    if not all(map(math.isfinite, values)):
        raise ValueError('a statistic of the panel is not finite')
    return dict(zip(names[kind], values))


def columns_of(stored: Sequence[Any], names: Names) -> dict[str, NDArray[Any]]:
    """A column a statistic, with a row for each of what is stored; ``nan`` where that has no panel with the statistic.

    Raises
    ------
    ValueError
        As :func:`unpack` does.
    """
    import numpy as np

    columns: dict[str, NDArray[Any]] = {name: np.full(len(stored), np.nan) for each in names for name in each}
    kinds = [_kind(each, names) for each in stored]
    for number, each in enumerate(names):
        rows = [row for row, kind in enumerate(kinds) if kind == number]
        form = np.dtype([('kind', 'u1'), ('values', '<f8', (len(each),))])
        values = np.frombuffer(b''.join(stored[row] for row in rows), form)['values']
        if not np.isfinite(values).all():
            raise ValueError('a statistic of the panel is not finite')
        for name, column in zip(each, values.T):
            columns[name][rows] = column
    return columns


def _kind(stored: Any, names: Names) -> int | None:
    """Which of the lists has the names of what is stored; ``None`` where it is no panel, but a reason or nothing."""
    if stored is None or isinstance(stored, str):
        return None
    if not isinstance(stored, bytes) or not stored or stored[0] >= len(names):
        raise ValueError('a panel is none, or of unknown statistics')
    if len(stored) != 1 + 8 * len(names[stored[0]]):
        raise ValueError(f'a panel of {len(names[stored[0]])} statistics has {len(stored) - 1} bytes')
    return stored[0]
