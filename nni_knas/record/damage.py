"""What is said of a record that is damaged, and what can be had from it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

__all__ = ['DamagedRecordError', 'check_tables', 'rows_of', 'said_of_damage']

_NEEDED = {'meta', 'candidates'}


class DamagedRecordError(ValueError, sqlite3.OperationalError):
    """A record cannot be read; the message names the file, and says what can be had from it."""


def check_tables(path: Path | None, connection: sqlite3.Connection) -> None:
    """Check that a record has its tables; one that has none at all yet is just being made."""
    if path is None:
        return
    try:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        if 'locked' in str(error):
            raise
        raise said_of_damage(path, error) from error
    if names and not names >= _NEEDED:
        raise said_of_damage(path, f'there is no table {" and ".join(sorted(_NEEDED - names))}')


def said_of_damage(path: Path | None, error: object) -> DamagedRecordError:
    """The error to raise for a damaged record."""
    count = sum(1 for _ in rows_of(path, 'candidates')) if path is not None else 0
    if count:
        had = (
            f'{count:,} of its candidates can be read, of which nni_knas.record.salvage(FILE, NEW_FILE) makes a whole record'
        )
    else:
        database = path.parent.parent / 'db' / 'nni.sqlite' if path is not None else None
        kept = f"; the metrics of trials are in NNI's own database, {database}" if database and database.exists() else ''
        had = (
            f'no candidate can be read from it{kept}. A copy can be put in its place, or the folder moved away to begin anew'
        )
    return DamagedRecordError(f'{path} is damaged ({error}): {had}')


def rows_of(path: Path, table: str) -> Iterator[dict[str, object]]:
    """The rows of a table that can be read: from the first one on, and from the last one back."""
    seen: set[int] = set()
    for order in ('ASC', 'DESC'):
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f'{path.absolute().as_uri()}?mode=ro', uri=True)) as connection,
        ):
            connection.text_factory = lambda text: text.decode(errors='replace')
            ordered = '' if table == 'steps' else f'NOT INDEXED ORDER BY rowid {order}'  # an index may be damaged, too
            cursor = connection.execute(f'SELECT * FROM {table} {ordered}')
            names = [column[0] for column in cursor.description]
            for row in cursor:
                if hash(row) not in seen:
                    seen.add(hash(row))
                    yield dict(zip(names, row))
