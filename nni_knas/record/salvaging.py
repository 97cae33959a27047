"""A whole record made of what can be read of a damaged one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nni_knas.basics.samples import decode_sample
from nni_knas.record.damage import rows_of
from nni_knas.record.record import Record
from nni_knas.record.status import Status

__all__ = ['salvage']

_TABLES = ('meta', 'candidates', 'choices', 'steps', 'sessions', 'energy')


def salvage(damaged: str | Path, new: str | Path) -> int:
    """Make a record of what can be read of a damaged one, which is left as it is.

    Parameters
    ----------
    damaged
        The damaged file.
    new
        The file to make. In the place of the damaged one it makes the run one that can be looked at, and taken up.

    Returns
    -------
    int
        How many candidates it has.

    Raises
    ------
    ValueError
        If the new file is there already.
    """
    if Path(new).exists():
        raise ValueError(f'{new} is there already: name a new file')
    with contextlib.closing(Record(Path(new))) as record:
        with record.transaction():
            for table in _TABLES:
                for row in rows_of(Path(damaged), table):
                    if table != 'candidates' or _is_sound(row):
                        record.copy_row(table, row)
            record.drop_unreadable_panels()
        return len(record)


def _is_sound(row: dict[str, object]) -> bool:
    try:
        decode_sample(str(row['sample']))
        Status(row['status'])
        return all(isinstance(row.get(name), (float, int, type(None))) for name in ('score', 'quick', 'metric', 'seconds'))
    except (ValueError, KeyError, TypeError):
        return False
