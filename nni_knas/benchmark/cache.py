"""Scores of a benchmark's architectures in an SQLite file, so that none is computed twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

__all__ = ['Measured', 'ScoreCache']

_TABLES = """
CREATE TABLE IF NOT EXISTS scores (
    benchmark TEXT NOT NULL,
    architecture TEXT NOT NULL,
    settings TEXT NOT NULL,     -- digest of all that the score depends on besides the architecture
    score TEXT NOT NULL,        -- the score's name
    value REAL,                 -- NULL where it failed
    seconds REAL NOT NULL,      -- that the score took after those that were computed before it
    reason TEXT,                -- of a failure
    PRIMARY KEY (benchmark, settings, score, architecture)
) WITHOUT ROWID
"""


class Measured(NamedTuple):
    """What is known of one architecture by one score."""

    value: float | None
    seconds: float
    reason: str | None


class ScoreCache:
    """The file. Each score is durable when :meth:`add` returns.

    Parameters
    ----------
    path
        The SQLite file, made where there is none. ``None`` keeps it in memory.

    Raises
    ------
    ValueError
        If the file is something else.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(':memory:' if path is None else path, isolation_level=None, timeout=60)
        try:
            self._connection.execute('PRAGMA journal_mode=WAL')
            self._connection.execute('PRAGMA synchronous=NORMAL')
            self._connection.execute(_TABLES)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(
                f'{path} cannot be used as the cache of scores ({error}): name another folder with --output'
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, benchmark: str, architecture: str, settings: str, score: str, measured: Measured) -> None:
        """Keep what was measured."""
        self._connection.execute(
            'INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)',
            (benchmark, architecture, settings, score, *measured),
        )

    def get(self, benchmark: str, settings: str, score: str) -> dict[str, Measured]:
        """All that is known by one score under the same settings, by architecture."""
        rows = self._connection.execute(
            'SELECT architecture, value, seconds, reason FROM scores WHERE benchmark = ? AND settings = ? AND score = ?',
            (benchmark, settings, score),
        )
        return {architecture: Measured(*measured) for architecture, *measured in rows}
