"""Numbers, architectures and tables as people read them."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nni.mutable import Sample

__all__ = ['NONE', 'count', 'duration', 'energy', 'known', 'mass', 'moment', 'number', 'one_line', 'table']

NONE = '–'
"""Stands where nothing is known."""


def known(value: Any) -> bool:
    """Whether it is a value: neither ``None`` nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def number(value: Any, form: str = '.4g', none: str = NONE) -> str:
    """A number in a format, as ``format`` takes it."""
    return format(value, form) if known(value) else none


def count(value: int | None) -> str:
    """A number of things, such as ``12,345``."""
    return number(value, ',')


def duration(seconds: float | None) -> str:
    """A time, such as ``0.52 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds is None or not known(seconds):
        return NONE
    if seconds < 60:
        return f'{seconds:.3g} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest} s' if minutes < 60 else f'{minutes // 60:,} h {minutes % 60:02} min'


def energy(kwh: float | None) -> str:
    """An energy in the unit that suits it, such as ``1.25 kWh``, ``3.1 Wh`` or ``0.782 mWh``."""
    return _with_unit(kwh, {'kWh': 1.0, 'Wh': 1e-3, 'mWh': 1e-6})


def mass(kilograms: float | None) -> str:
    """A mass in the unit that suits it, such as ``1.2 kg``, ``3.4 g`` or ``0.2 mg``."""
    return _with_unit(kilograms, {'kg': 1.0, 'g': 1e-3, 'mg': 1e-6})


def moment(seconds: float | None) -> str:
    """A time of the clock here, given in seconds since the epoch, such as ``2026-11-24 21:04:05 UTC``."""
    if seconds is None or not known(seconds):
        return NONE
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime('%Y-%m-%d %H:%M:%S %Z')


def one_line(sample: Sample | Any) -> str:
    """An architecture, or any other value, as short text."""
    return sample if isinstance(sample, str) else json.dumps(sample, default=str).replace('"', '')


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    """Lines of columns of equal width, the last one as long as it is; those named in ``right`` are flush right."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = []
    for line in [header, *rows]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width) for cell, width, name in zip(line, widths, header)
        ]
        lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines)


def _with_unit(value: float | None, units: Mapping[str, float]) -> str:
    """A quantity in the largest of some units that it reaches as it is rounded; the largest comes first."""
    if value is None or not known(value):
        return NONE
    name = next((name for name, size in units.items() if abs(value) >= 0.9995 * size), list(units)[-1])
    return f'{_plain(value / units[name])} {name}'


def _plain(value: float) -> str:
    """Three digits that say something, and no powers of ten."""
    if abs(value) >= 1000:
        return f'{value:,.0f}'
    import numpy as np

    return np.format_float_positional(value, precision=3, unique=False, fractional=False, trim='-')
