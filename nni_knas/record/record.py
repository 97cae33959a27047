"""The run's durable table of candidates: one row each, written the moment something about it is known.

An SQLite file in write-ahead mode: a process that is killed loses no row that was written, and other processes can read
while a run goes on. Nothing here knows who writes, or why.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nni_knas.basics.names import COSTS, Reason
from nni_knas.basics.samples import decode_sample, encode_sample
from nni_knas.record import keys
from nni_knas.record.damage import check_tables, said_of_damage
from nni_knas.record.panels import Names, Panel, columns_of, pack, unpack
from nni_knas.record.status import BEGUN, UNUSABLE, Status

if TYPE_CHECKING:  # who only counts candidates needs neither
    import pandas as pd
    from nni.mutable import Sample

__all__ = [
    'Candidate',
    'Choice',
    'Energy',
    'Record',
    'Session',
    'reason_of',
    'record_path',
    'result_path',
    'settings_path',
    'unfetched_path',
    'weights_path',
]

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB);
CREATE TABLE IF NOT EXISTS candidates (
    id INTEGER PRIMARY KEY,         -- in the order of exploration, from 1
    sample TEXT NOT NULL,           -- NNI's sample, as JSON
    digest BLOB NOT NULL UNIQUE,    -- of the sample; an index of digests is small, one of samples is as large as the table
    architecture BLOB,              -- digest of what tells the network from others; NULL where that is the whole sample
    quick REAL,                     -- score at little effort; NULL where there is none
    score REAL,                     -- score at full effort, higher is better; NULL where there is none
    seconds REAL NOT NULL,          -- building and scoring
    status TEXT NOT NULL,           -- see Status
    reason TEXT,                    -- of a failure, or of being filtered
    metric REAL,                    -- what the evaluator reported at the end of training
    training_seconds REAL,
    parameters REAL,                -- costs, see nni_knas.networks.costs; NULL where not measured
    flops REAL,
    memory REAL,
    latency REAL,
    training_kwh REAL,              -- energy of its training; NULL where not known
    panel BLOB,                     -- statistics of the score's pass, or of the quick one, see panels.py; a text: why not
    quick_panel BLOB,               -- those of the quick pass, where `panel` is of the score's since
    ended INTEGER                   -- its place in the order in which trainings ended, from 1
);
CREATE INDEX IF NOT EXISTS by_architecture ON candidates (architecture) WHERE architecture IS NOT NULL;
CREATE TABLE IF NOT EXISTS choices (  -- candidates chosen to be trained, in order
    number INTEGER PRIMARY KEY,     -- from 1
    candidate INTEGER NOT NULL UNIQUE,
    rank INTEGER NOT NULL,          -- by score, when it was chosen
    reason TEXT NOT NULL,           -- see Reason
    predicted REAL,                 -- the metric that was expected of it then; NULL where none was
    deviation REAL                  -- of what was expected
);
CREATE TABLE IF NOT EXISTS steps (  -- learning curves
    candidate INTEGER NOT NULL,
    step INTEGER NOT NULL,          -- of the intermediate reports of its training, from 1
    metric REAL,
    PRIMARY KEY (candidate, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (  -- one for each process that has worked on the run
    number INTEGER PRIMARY KEY,     -- from 1
    started REAL NOT NULL,          -- seconds since the epoch, as all times of the clock here
    heard REAL NOT NULL,            -- the last sign of life
    ended INTEGER NOT NULL,         -- whether it has ended by itself
    about TEXT NOT NULL             -- JSON: the process, its command, its versions, what it was asked for
);
CREATE TABLE IF NOT EXISTS energy ( -- what the machine used while the run was at work, interval after interval
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    stage TEXT NOT NULL,            -- coarse or fine
    started REAL NOT NULL,
    seconds REAL NOT NULL,
    cpu_kwh REAL NOT NULL,          -- of the whole machine, as the next two
    gpu_kwh REAL NOT NULL,
    memory_kwh REAL NOT NULL,
    kg_per_kwh REAL NOT NULL,       -- CO2-equivalent
    busy REAL NOT NULL,             -- CPU seconds that the machine was at work
    own REAL NOT NULL,              -- CPU seconds of these that the run's processes used
    trials INTEGER NOT NULL         -- that were under way
);
"""
_UNUSABLE = f'({", ".join(repr(str(status)) for status in UNUSABLE)})'
_BEGUN = f'status IN ({", ".join(repr(str(status)) for status in BEGUN)})'
"""The condition that training has begun: what is heard of one that was given up, or never began, changes nothing."""
_RANKING = f'ORDER BY status IN {_UNUSABLE}, score DESC, quick DESC, id'  # in SQLite NULL comes last so
_COLUMNS = {
    'candidate': 'int64',
    'score': 'float64',
    'quick': 'float64',
    'metric': 'float64',
    'status': 'object',
    'reason': 'object',
    'seconds': 'float64',
    'training_seconds': 'float64',
    'training_kwh': 'float64',
    **dict.fromkeys(COSTS, 'float64'),
    'architecture': 'object',
}
_FIELDS = 'id, sample, quick, score, seconds, status, reason, metric, training_seconds, training_kwh'
_COSTS = ', '.join(COSTS)
_LATER = {  # columns that earlier versions' files lack
    **dict.fromkeys((*COSTS, 'training_kwh'), 'REAL'),
    **dict.fromkeys(('panel', 'quick_panel'), 'BLOB'),
    'ended': 'INTEGER',
}
_ENDED = 'ended = (SELECT 1 + COALESCE(MAX(ended), 0) FROM candidates)'


def record_path(folder: Path) -> Path:
    """The path of the record of the experiment in ``folder``."""
    return folder / 'knas' / 'record.sqlite'


def weights_path(folder: Path, candidate: int) -> Path:
    """The path at which the trained weights of a candidate are kept."""
    return folder / 'knas' / 'weights' / f'{candidate}.pt'


def unfetched_path(folder: Path, candidate: int) -> Path:
    """The path of what there is to say of weights that could not be had from another machine."""
    return folder / 'knas' / 'weights' / f'{candidate}.txt'


def result_path(folder: Path, candidate: int) -> Path:
    """The path at which a trial leaves the final metric of a candidate, for when nobody listens to it."""
    return folder / 'knas' / 'results' / f'{candidate}.json'


def settings_path(folder: Path) -> Path:
    """The path of what the run of the experiment in ``folder`` was started with; see :mod:`nni_knas.config.settings`."""
    return folder / 'knas' / 'config.json'


def reason_of(error: Exception) -> str:
    """What the record says of an error: its kind and its first line."""
    return f'{type(error).__name__}: {error}'.strip().splitlines()[0]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Candidate(NamedTuple):
    """One row of the record; see the table's definition for the fields."""

    id: int
    sample: Sample
    quick: float | None
    score: float | None
    seconds: float
    status: Status
    reason: str | None
    metric: float | None
    training_seconds: float | None
    training_kwh: float | None
    costs: Mapping[str, float]  # those that were measured

    @property
    def rated(self) -> float | None:
        """The score; where there is none at full effort, the quick one."""
        return self.quick if self.score is None else self.score

    @property
    def finished(self) -> bool:
        """Whether it has been trained, well or not."""
        return self.status in (Status.TRAINED, Status.TRAINING_FAILED)


class Choice(NamedTuple):
    """A candidate that was chosen to be trained.

    Attributes
    ----------
    candidate
        Its number.
    rank
        Its rank by score when it was chosen.
    reason
        ``'score'``: it was the next by score. ``'learned'``: of those not trained it was expected to be the best, by the
        metrics until then. ``'explore'``: it was to show something.
    predicted
        The metric that was expected of it; ``None`` where the metrics until then did not say.
    deviation
        The standard deviation of what was expected.
    """

    candidate: int
    rank: int
    reason: Reason
    predicted: float | None = None
    deviation: float | None = None


class Session(NamedTuple):
    """A process that has worked on the run, from its start to its end.

    Attributes
    ----------
    number
        The session's number, from 1.
    started, heard
        When it began, and the last sign of life, in seconds since the epoch.
    ended
        Whether it has ended by itself, rather than having been killed.
    about
        ``command``, ``directory``, ``pid``, ``versions``, ``machine``, ``asked``, ``methods``, as far as they are known.
    """

    number: int
    started: float
    heard: float
    ended: bool
    about: dict[str, Any]


class Energy(NamedTuple):
    """An interval of a run, and what the whole machine used in it; see the definition of the table ``energy``."""

    stage: str
    started: float
    seconds: float
    cpu_kwh: float
    gpu_kwh: float
    memory_kwh: float
    kg_per_kwh: float
    busy: float
    own: float
    trials: int


class Record:
    """The table of candidates in a file; safe to use from several threads.

    Parameters
    ----------
    path
        The SQLite file, made where there is none. ``None`` keeps the record in memory.
    readonly
        Open an existing file for reading only.
    """

    def __init__(self, path: Path | None, *, readonly: bool = False) -> None:
        self._lock = threading.RLock()
        self.readonly = readonly
        self._file = path
        if path is None:
            name, uri = ':memory:', False
        elif readonly:
            name, uri = f'{path.absolute().as_uri()}?mode=ro', True
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            name, uri = str(path), False
        # Autocommit: each statement is durable when it returns.
        self._connection = sqlite3.connect(name, uri=uri, check_same_thread=False, isolation_level=None, timeout=60)
        check_tables(path, self._connection)
        with self._whole():
            if not readonly:
                self._connection.execute('PRAGMA journal_mode=WAL')
                self._connection.execute('PRAGMA synchronous=NORMAL')
                self._connection.executescript(f'BEGIN;{_TABLES}COMMIT;')  # who reads sees all tables or none
        self._lacks = self._missing_columns(readonly)
        self._known_names: Names = []

    @property
    def path(self) -> Path | None:
        """The file; ``None`` where the record is in memory."""
        name = self._fetch_one('PRAGMA database_list')[2]
        return Path(name) if name else None

    def _missing_columns(self, readonly: bool) -> set[str]:
        """The columns that a file of an earlier version lacks: it gets them, unless it is only read."""
        known = {column[1] for column in self._connection.execute('PRAGMA table_info(candidates)')}
        missing = [name for name in _LATER if known and name not in known]  # there is no table yet where none is known
        if readonly:
            return set(missing)
        for name in missing:
            self._connection.execute(f'ALTER TABLE candidates ADD COLUMN {name} {_LATER[name]}')
        return set()

    def _columns_or_null(self, fields: str) -> str:
        """Columns to select; those that the file lacks are NULL."""
        return ', '.join('NULL' if name in self._lacks else name for name in fields.split(', '))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # What is said of the run as a whole.

    def digests(self) -> dict[str, str]:
        """The digests of the data that the run began with, by name."""
        digests: dict[str, str] = json.loads(self.get_meta(keys.DATA) or '{}')
        return digests

    def get_meta(self, key: str) -> Any:
        """The value under a key, or ``None``."""
        row = self._fetch_one('SELECT value FROM meta WHERE key = ?', key)
        return row[0] if row else None

    def set_meta(self, key: str, value: str | bytes | float) -> None:
        """Keep a value of the run as a whole, by one of :mod:`nni_knas.record.keys`, in the place of an earlier one."""
        self._write('INSERT OR REPLACE INTO meta VALUES (?, ?)', key, value)

    def forget_meta(self, prefix: str) -> None:
        """Remove the values whose keys begin so."""
        self._write('DELETE FROM meta WHERE substr(key, 1, ?) = ?', len(prefix), prefix)

    def scoring_seconds(self) -> float:
        """How long scoring has taken, by the clock; with several workers that is less than the sum over candidates."""
        return self.get_meta(keys.SCORING_SECONDS) or 0.0

    def add_scoring_seconds(self, seconds: float) -> None:
        """Scoring has gone on for so long."""
        self.set_meta(keys.SCORING_SECONDS, self.scoring_seconds() + seconds)

    # Coarse stage.

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written inside is durable together, at the end."""
        with self._lock:
            self._connection.execute('BEGIN')
            try:
                yield
            finally:  # each statement makes sense by itself: of an interrupted transaction, what was written is kept
                with self._whole():
                    self._connection.execute('COMMIT')

    def add_scored(
        self,
        sample: Sample,
        architecture: str,
        score: float,
        seconds: float,
        number: int | None = None,
        costs: Mapping[str, float] | None = None,
        panel: Panel = None,
    ) -> Candidate:
        """A candidate has its score.

        Parameters
        ----------
        sample
            The candidate, as NNI's sample.
        architecture
            What tells its network from others, as text.
        score
            The score; higher is better.
        seconds
            Time spent on building and scoring.
        number
            The candidate's number in the order of exploration; where another one has it, or by default, the next that is
            free.
        costs
            What was measured of its costs, by name; see :mod:`nni_knas.networks.costs`.
        panel
            The statistics of its network by name, or why there are none.
        """
        return self._add_candidate(sample, architecture, Status.SCORED, seconds, number, costs, panel, score=score)

    def add_failed(
        self,
        sample: Sample,
        architecture: str,
        reason: str,
        seconds: float,
        number: int | None = None,
        costs: Mapping[str, float] | None = None,
        panel: Panel = None,
    ) -> Candidate:
        """A candidate could not be scored; for the parameters see :meth:`add_scored`."""
        return self._add_candidate(sample, architecture, Status.FAILED, seconds, number, costs, panel, reason=reason)

    def add_filtered(
        self,
        sample: Sample,
        architecture: str,
        reason: str,
        seconds: float,
        number: int | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> Candidate:
        """A candidate breaks a constraint, as ``reason`` says, and was not scored; see :meth:`add_scored`."""
        return self._add_candidate(sample, architecture, Status.FILTERED, seconds, number, costs, None, reason=reason)

    def add_screened(
        self,
        sample: Sample,
        architecture: str,
        quick: float | None,
        seconds: float,
        number: int | None = None,
        costs: Mapping[str, float] | None = None,
        panel: Panel = None,
    ) -> Candidate:
        """A candidate has a quick score, or could not be scored quickly, which says little; see :meth:`add_scored`."""
        return self._add_candidate(sample, architecture, Status.SCREENED, seconds, number, costs, panel, quick=quick)

    def networks(self) -> Iterator[tuple[int, float | None, float | None, bool]]:
        """The first candidate of each network: number, quick score, score, and whether there is no full score to come.

        Filtered candidates and those outside of the space are not among them.
        """
        with self._lock:
            rows = self._connection.execute(
                f"SELECT MIN(id), quick, score, score IS NOT NULL OR status = '{Status.FAILED}' "
                f"FROM candidates WHERE status NOT IN ('{Status.FILTERED}', '{Status.OUTSIDE}') "
                'GROUP BY COALESCE(architecture, digest) ORDER BY 1'
            ).fetchall()
        yield from rows

    def get(self, number: int) -> Candidate:
        """The candidate of a number."""
        return next(self._select_candidates('WHERE id = ?', number))

    def rate(self, number: int, score: float | None, reason: str | None, seconds: float, panel: Panel = None) -> None:
        """A candidate that was screened has its score, or has failed for a reason, and so have others of its network.

        One that was trained meanwhile keeps what came of that. A score puts the quick panel aside, whether there is another
        or not: panels of different passes do not compare.
        """
        with self._lock:
            self._write('UPDATE candidates SET seconds = seconds + ? WHERE id = ?', seconds, number)
            self._write(
                'UPDATE candidates SET score = ?1, quick_panel = CASE WHEN ?1 IS NULL THEN quick_panel ELSE panel END, '
                'panel = CASE WHEN ?1 IS NULL THEN COALESCE(?2, panel) ELSE ?2 END, '
                f"reason = CASE status WHEN '{Status.SCREENED}' THEN ?3 ELSE reason END, "
                f"status = CASE status WHEN '{Status.SCREENED}' THEN ?4 ELSE status END "
                f"WHERE score IS NULL AND status NOT IN ('{Status.FAILED}', '{Status.FILTERED}') AND (id = ?5 OR "
                'architecture = (SELECT architecture FROM candidates WHERE id = ?5))',
                score,
                self._packed(panel),
                reason,
                Status.FAILED if score is None else Status.SCORED,
                number,
            )

    def find(self, sample: Sample) -> Candidate | None:
        """The row of a sample, if it has one."""
        return self._select_candidate('WHERE digest = ?', _digest(encode_sample(sample)))

    def find_architecture(self, architecture: str) -> Candidate | None:
        """The first row of an architecture, whatever its hyper-parameters, where its sample has any."""
        return self._select_candidate('WHERE architecture = ? ORDER BY id', _digest(architecture))

    def __len__(self) -> int:
        """Number of candidates, failed ones and those that break a constraint included."""
        return int(self._fetch_one('SELECT COUNT(*) FROM candidates')[0])

    def count(self, *status: str) -> int:
        """Number of candidates of these statuses."""
        marks = ', '.join('?' * len(status))
        return int(self._fetch_one(f'SELECT COUNT(*) FROM candidates WHERE status IN ({marks})', *status)[0])

    def scored(self) -> int:
        """Number of candidates that have a score, be it a quick one, and can be chosen."""
        where = f'COALESCE(score, quick) IS NOT NULL AND status NOT IN {_UNUSABLE}'
        return int(self._fetch_one(f'SELECT COUNT(*) FROM candidates WHERE {where}')[0])

    def counted(self) -> int:
        """Number of candidates that count against the budget: all but filtered ones and those outside of the space."""
        return len(self) - self.count(Status.FILTERED, Status.OUTSIDE)

    def __contains__(self, number: int) -> bool:
        """Whether a candidate has this number."""
        return self._fetch_one('SELECT 1 FROM candidates WHERE id = ?', number) is not None

    def exclude(self, numbers: Iterable[int]) -> None:
        """These candidates are outside of the space, which has become smaller.

        Filtered ones stay so, and so does what is or was in training.
        """
        with self.transaction():
            for number in numbers:
                self._write(
                    f"UPDATE candidates SET status = '{Status.OUTSIDE}' WHERE id = ? AND status IN "
                    f"('{Status.SCREENED}', '{Status.SCORED}', '{Status.FAILED}')",
                    number,
                )

    def readmit(self) -> None:
        """No candidate is outside of the space any more: each is again what it was before."""
        self._write(
            f"UPDATE candidates SET status = CASE WHEN score IS NOT NULL THEN '{Status.SCORED}' "
            f"WHEN reason IS NOT NULL THEN '{Status.FAILED}' ELSE '{Status.SCREENED}' END "
            f"WHERE status = '{Status.OUTSIDE}'"
        )

    def explored(self) -> list[Candidate]:
        """All candidates in the order of exploration."""
        return list(self._select_candidates('ORDER BY id'))

    def samples(self, numbers_to: int) -> Iterator[Sample]:
        """Samples of the candidates up to this number, one at a time."""
        for first in range(1, numbers_to + 1, 1000):
            yield from (
                c.sample for c in self._select_candidates('WHERE id BETWEEN ? AND ?', first, min(first + 999, numbers_to))
            )

    def best_score(self) -> float | None:
        """The best score so far; the best quick one where there is no other; ``None`` where there is neither."""
        query = 'SELECT COALESCE(MAX(score), MAX(quick)) FROM candidates WHERE status != ?'
        best: float | None = self._fetch_one(query, Status.OUTSIDE)[0]
        return best

    def frequent_reason(self, status: str) -> tuple[str, int] | None:
        """The most frequent reason of failures of this status, and how many candidates share it."""
        frequent: tuple[str, int] | None = self._fetch_one(
            'SELECT reason, COUNT(*) FROM candidates WHERE status = ? '
            'GROUP BY reason ORDER BY COUNT(*) DESC, MIN(id) LIMIT 1',
            status,
        )
        return frequent

    # Fine stage.

    def add_choice(self, choice: Choice) -> None:
        """A candidate is chosen to be trained; one that was before stays as it was chosen."""
        self._write(
            f'INSERT OR IGNORE INTO choices ({", ".join(Choice._fields)}) VALUES ({", ".join("?" * len(choice))})', *choice
        )

    def choices(self) -> list[Choice]:
        """The candidates that were chosen to be trained, in order; none in a record of an earlier version."""
        rows = self._fetch_all('choices', f'SELECT {", ".join(Choice._fields)} FROM choices ORDER BY number')
        return list(map(Choice._make, rows))

    def in_training(self) -> list[int]:
        """The candidates in training, or that were when their run was interrupted."""
        return [row.id for row in self._select_candidates('WHERE status = ? ORDER BY id', Status.TRAINING)]

    def extent(self) -> tuple[int, ...]:
        """Numbers that change whenever there are candidates, scores or panels that were not there before, or not usable."""
        return tuple(
            self._fetch_one(
                f'SELECT COUNT(*), COUNT(score), COUNT(quick), COALESCE(SUM(status IN {_UNUSABLE}), 0) FROM candidates'
            )
        )

    def endings(self) -> list[tuple[int, float | None]]:
        """The candidates whose training has ended, in that order, each with its metric; ``None`` where it has failed.

        First come those that were trained by an earlier version, which did not know the order.
        """
        ended = self._columns_or_null('ended')
        return self._fetch_all(
            'candidates',
            f"SELECT id, CASE status WHEN '{Status.TRAINED}' THEN metric END FROM candidates "
            f"WHERE status IN ('{Status.TRAINED}', '{Status.TRAINING_FAILED}') ORDER BY {ended}, id",
        )

    def best(self, k: int) -> list[Candidate]:
        """The ``k`` candidates of the highest score, best first.

        Those that failed, break a constraint or are outside of the space are not among them.

        Those that have a quick score alone come after all others.
        """
        return list(
            self._select_candidates(
                f'WHERE COALESCE(score, quick) IS NOT NULL AND status NOT IN {_UNUSABLE} {_RANKING} LIMIT ?', k
            )
        )

    def trained(self) -> list[Candidate]:
        """The candidates that were trained and have a metric, the best metric first.

        The highest is the best, or the lowest where ``get_meta('optimize_mode')`` is ``'minimize'``.
        """
        order = 'ASC' if self.get_meta(keys.OPTIMIZE_MODE) == 'minimize' else 'DESC'
        # SQLite has no NaN: a metric that is none is kept as NULL.
        return list(
            self._select_candidates(f"WHERE status = '{Status.TRAINED}' AND metric IS NOT NULL ORDER BY metric {order}, id")
        )

    def start_training(self, candidate: int) -> None:
        """Training begins, perhaps anew."""
        with self._lock:
            if not self._write_if(
                f'status NOT IN {_UNUSABLE}',
                candidate,
                'UPDATE candidates SET status = ?, metric = NULL, reason = NULL, ended = NULL',
                Status.TRAINING,
            ):
                return
            self._write('DELETE FROM steps WHERE candidate = ?', candidate)

    def add_step(self, candidate: int, metric: float) -> None:
        """The next intermediate metric of a candidate in training; its last ones may come after the end."""
        self._write(
            'INSERT INTO steps SELECT ?1, 1 + COALESCE((SELECT MAX(step) FROM steps WHERE candidate = ?1), 0), ?2 '
            f'FROM candidates WHERE id = ?1 AND {_BEGUN}',
            candidate,
            metric,
        )

    def set_metric(self, candidate: int, metric: float) -> None:
        """The final metric of a candidate in training; one that has failed, or has a metric at its end, gets none."""
        self._write_if(
            f"(status = '{Status.TRAINING}' OR (status = '{Status.TRAINED}' AND metric IS NULL))",
            candidate,
            'UPDATE candidates SET metric = ?',
            metric,
        )

    def end_training(
        self, candidate: int, seconds: float | None, reason: str | None = None, kwh: float | None = None
    ) -> None:
        """Training has ended; ``reason`` says why it failed, where it did, and ``kwh`` the energy that it took."""
        self._write_if(
            _BEGUN,
            candidate,
            f'UPDATE candidates SET status = ?, training_seconds = ?, reason = ?, training_kwh = ?, {_ENDED}',
            Status.TRAINING_FAILED if reason else Status.TRAINED,
            seconds,
            reason,
            kwh,
        )

    def set_training_energy(self, candidate: int, kwh: float | None) -> None:
        """The energy that a training took, where that is known only after its end."""
        self._write_if(_BEGUN, candidate, 'UPDATE candidates SET training_kwh = ?', kwh)

    def stop_training(self, candidate: int) -> None:
        """Training was given up before its end, and can be taken up again; what has ended stays so."""
        self._write_if(
            f"status = '{Status.TRAINING}'",
            candidate,
            'UPDATE candidates SET status = CASE WHEN score IS NULL THEN ? ELSE ? END',
            Status.SCREENED,
            Status.SCORED,
        )

    def add_result(self, candidate: int, metric: float, seconds: float | None = None) -> None:
        """A result of training from elsewhere. A candidate that is filtered or outside stays so, beside its metric."""
        self._write_if(
            'TRUE',
            candidate,
            f'UPDATE candidates SET metric = ?, training_seconds = COALESCE(?, training_seconds), {_ENDED}, '
            'reason = CASE WHEN status IN (?3, ?4) THEN reason END, '
            'status = CASE WHEN status IN (?3, ?4) THEN status ELSE ?5 END',
            metric,
            seconds,
            Status.FILTERED,
            Status.OUTSIDE,
            Status.TRAINED,
        )

    # Sessions, and the energy that they took.

    def begin_session(self, about: Mapping[str, Any]) -> int:
        """A process begins to work on the run; gives the session's number."""
        now = time.time()
        return self._write(
            'INSERT INTO sessions (started, heard, ended, about) VALUES (?, ?, 0, ?)',
            now,
            now,
            json.dumps(about, default=str),
        )

    def keep_session(self, number: int, *, ended: bool = False, about: Mapping[str, Any] | None = None) -> None:
        """A sign of life of a session, perhaps its last one; ``about`` says it anew."""
        self._write(
            'UPDATE sessions SET heard = ?, ended = ?, about = COALESCE(?, about) WHERE number = ?',
            time.time(),
            int(ended),
            None if about is None else json.dumps(about, default=str),
            number,
        )

    def sessions(self) -> list[Session]:
        """All sessions, the first one first; empty for a record of an earlier version."""
        with self._whole():
            return self._sessions()

    def _sessions(self) -> list[Session]:
        return [
            Session(number, started, heard, bool(ended), json.loads(about))
            for number, started, heard, ended, about in self._fetch_all(
                'sessions', 'SELECT number, started, heard, ended, about FROM sessions ORDER BY number'
            )
        ]

    def set_energy(self, session: int, energy: Energy, row: int | None = None) -> int:
        """Write what was used in an interval, in the place of an earlier row where one is given; gives the row's number."""
        marks = ', '.join('?' * (2 + len(energy)))
        return self._write(
            f'INSERT OR REPLACE INTO energy (id, session, {", ".join(Energy._fields)}) VALUES ({marks})',
            row,
            session,
            *energy,
        )

    def energies(self, start: float | None = None, end: float | None = None) -> list[Energy]:
        """The intervals, the first one first; those alone that overlap the time from ``start`` to ``end``, where given."""
        condition = 'WHERE started < ? AND started + seconds > ?' if start is not None else ''
        rows = self._fetch_all(
            'energy',
            f'SELECT {", ".join(Energy._fields)} FROM energy {condition} ORDER BY id',
            *((end, start) if start is not None else ()),
        )
        return list(map(Energy._make, rows))

    # Reading.

    def steps(self) -> pd.DataFrame:
        """The learning curves: a row an intermediate report, with ``candidate``, ``step`` (from 1) and ``metric``."""
        import pandas as pd

        rows = self._fetch_all('steps', 'SELECT candidate, step, metric FROM steps ORDER BY candidate, step')
        frame = pd.DataFrame(rows, columns=['candidate', 'step', 'metric'])
        return frame.astype({'candidate': 'int64', 'step': 'int64', 'metric': 'float64'})

    def statistics(self) -> list[str]:
        """The names of the statistics in the candidates' panels; none in a record of an earlier version."""
        with self._whole():
            return list(dict.fromkeys(name for names in self._names() for name in names))

    def panel(self, candidate: int) -> Panel:
        """The statistics of a candidate by name, or why it has none; ``None`` where none were computed."""
        stored = self._fetch_one(f'SELECT {self._columns_or_null("panel")} FROM candidates WHERE id = ?', candidate)[0]
        with self._whole():
            return unpack(stored, self._names())

    def quick_panels(self) -> pd.DataFrame:
        """The panels of the quick passes of those candidates that have a score in full since, a row a candidate's number."""
        import pandas as pd

        stored = self._columns_or_null('quick_panel')
        rows = self._fetch_all('candidates', f'SELECT id, {stored} FROM candidates WHERE {stored} IS NOT NULL ORDER BY id')
        with self._whole():
            columns = columns_of([panel for _, panel in rows], self._names())
        return pd.DataFrame(columns, index=pd.Index([number for number, _ in rows], name='candidate', dtype='int64'))

    def without_panel(self) -> tuple[int, str] | None:
        """How many candidates have a score and no panel, and the most frequent reason; ``None`` where all have one."""
        panel = self._columns_or_null('panel')
        said = self._fetch_one(
            f"SELECT SUM(COUNT(*)) OVER (), {panel} FROM candidates WHERE typeof({panel}) = 'text' "
            'AND COALESCE(score, quick) IS NOT NULL GROUP BY 2 ORDER BY COUNT(*) DESC, MIN(id) LIMIT 1'
        )
        return said and tuple(said)

    def drop_unreadable_panels(self) -> None:
        """Leave out the panels whose bytes, or the names of whose statistics, are damaged."""
        try:
            names = self._names()
        except (ValueError, TypeError):
            names = []
            self.forget_meta(keys.STATISTICS)
        for column in ('panel', 'quick_panel'):
            stored = self._fetch_all('candidates', f'SELECT id, {column} FROM candidates WHERE {column} IS NOT NULL')
            for number, each in stored:
                try:
                    unpack(each, names)
                except ValueError:
                    self._write(f'UPDATE candidates SET {column} = NULL WHERE id = ?', number)

    def _names(self) -> Names:
        names: Names = json.loads(self.get_meta(keys.STATISTICS) or '[]')
        if not all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in names):
            raise ValueError('the names of the statistics are none')
        return names

    def _packed(self, panel: Panel) -> bytes | str | None:
        """A panel as it is stored; names that are new to the record are kept there."""
        if panel is None or isinstance(panel, str):
            return panel
        wrong = next((name for name, value in panel.items() if not math.isfinite(value)), None)
        if wrong is not None:
            return f'the statistic "{wrong}" is {panel[wrong]}'
        if list(panel) not in self._known_names:
            with self._lock:
                self._known_names = self._names()
                if list(panel) not in self._known_names:
                    self._known_names = [*self._known_names, list(panel)]
                    self.set_meta(keys.STATISTICS, json.dumps(self._known_names))
        return pack(panel, self._known_names)

    def set_costs(self, candidate: int, costs: Mapping[str, float]) -> None:
        """Costs that were measured after scoring, by name."""
        for name in COSTS:
            if name in costs:
                self._write(f'UPDATE candidates SET {name} = ? WHERE id = ?', costs[name], candidate)

    def frame(self, *, panel: bool = False) -> pd.DataFrame:
        """All candidates as a table, best score first; last those that failed, break a constraint or are outside.

        Parameters
        ----------
        panel
            Whether to add the panel: a column a statistic, ``nan`` where a candidate has none, and ``panel_reason``, which
            says why one with a score has none. The panel of a candidate without ``score`` is that of its quick pass.

        Returns
        -------
        pandas.DataFrame
            A row a candidate: ``rank`` (1 is the best; the index), ``candidate`` (number in the order of exploration),
            ``score``, ``quick`` (score at little effort), ``metric``, ``status``, ``reason``, ``seconds`` (building and
            scoring), ``training_seconds``, ``training_kwh``, the costs ``parameters``, ``flops``, ``memory``, ``latency``
            (:data:`nni_knas.networks.COSTS`), and ``architecture`` (NNI's sample, a dict).
        """
        import pandas as pd

        fields = self._columns_or_null(
            f'id, score, quick, metric, status, reason, seconds, training_seconds, training_kwh, {_COSTS}, sample'
            f'{", panel" if panel else ""}'
        )
        rows = self._fetch_all('candidates', f'SELECT {fields} FROM candidates {_RANKING}')
        columns = [list(column) for column in zip(*rows)] or [[] for _ in fields.split(', ')]
        panels = columns.pop() if panel else []
        with self._whole():
            columns[-1] = [decode_sample(sample) for sample in columns[-1]]
            frame = pd.DataFrame(
                {name: pd.Series(values, dtype=kind) for (name, kind), values in zip(_COLUMNS.items(), columns)}
            )
            if panel:
                reasons = pd.Series([each if isinstance(each, str) else None for each in panels], dtype='object')
                frame = frame.assign(**columns_of(panels, self._names()), panel_reason=reasons)
        frame.index = pd.RangeIndex(1, len(rows) + 1, name='rank')
        return frame

    def _add_candidate(
        self,
        sample: Sample,
        architecture: str,
        status: Status,
        seconds: float,
        number: int | None,
        costs: Mapping[str, float] | None,
        panel: Panel,
        *,
        quick: float | None = None,
        score: float | None = None,
        reason: str | None = None,
    ) -> Candidate:
        text, costs = encode_sample(sample), costs or {}
        values = (
            text,
            _digest(text),
            None if architecture == text else _digest(architecture),
            quick,
            score,
            seconds,
            status,
            reason,
            *map(costs.get, COSTS),
            self._packed(panel),
        )
        if number is not None and number in self:
            number = None
        number = self._write(
            f'INSERT INTO candidates (id, sample, digest, architecture, quick, score, seconds, status, '
            f'reason, {_COSTS}, panel) VALUES (?{", ?" * len(values)})',
            number,
            *values,
        )
        return Candidate(number, sample, quick, score, seconds, status, reason, None, None, None, costs)

    def _select_candidates(self, condition: str, *values: Any) -> Iterator[Candidate]:
        with self._lock, self._whole():
            columns = self._columns_or_null(f'{_FIELDS}, {_COSTS}')
            rows = self._connection.execute(f'SELECT {columns} FROM candidates {condition}', values).fetchall()
        for number, sample, *others in rows:
            with self._whole():
                costs = {name: cost for name, cost in zip(COSTS, others[-len(COSTS) :]) if cost is not None}
                candidate = Candidate._make([number, decode_sample(sample), *others[: -len(COSTS)], costs])
                candidate = candidate._replace(status=Status(candidate.status))
            yield candidate

    def _select_candidate(self, condition: str, *values: Any) -> Candidate | None:
        return next(self._select_candidates(f'{condition} LIMIT 1', *values), None)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """What cannot be read within is said to be damage of the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            unreadable = ('no such table', 'no such column', 'decode', 'disk I/O', 'no transaction')
            if type(error) is sqlite3.DatabaseError or any(text in str(error) for text in unreadable):
                raise said_of_damage(self._file, error) from error
            raise
        except (ValueError, TypeError, KeyError) as error:  # what is in a row has been changed
            raise said_of_damage(self._file, error) from error

    def _fetch_one(self, statement: str, *values: Any) -> Any:
        with self._lock, self._whole():
            return self._connection.execute(statement, values).fetchone()

    def _fetch_all(self, table: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a table that a record may lack, one of an earlier version or one that is just being made."""
        with self._lock, self._whole():
            if not self._connection.execute('SELECT 1 FROM sqlite_master WHERE name = ?', (table,)).fetchone():
                return []
            return self._connection.execute(statement, values).fetchall()

    def copy_row(self, table: str, row: Mapping[str, Any]) -> None:
        """Take over a row of another record, unless it is here or does not fit."""
        known = {column[1] for column in self._connection.execute(f'PRAGMA table_info({table})')}
        values = {name: value for name, value in row.items() if name in known}
        marks = ', '.join('?' * len(values))
        self._write(f'INSERT OR IGNORE INTO {table} ({", ".join(values)}) VALUES ({marks})', *values.values())

    def _write_if(self, condition: str, candidate: int, statement: str, *values: Any) -> bool:
        """Change a candidate's row if it is in a condition, which is said by its status; whether it was."""
        with self._lock, self._whole():
            where = f'WHERE id = ?{len(values) + 1} AND {condition}'
            return self._connection.execute(f'{statement} {where}', (*values, candidate)).rowcount > 0

    def _write(self, statement: str, *values: Any) -> int:
        """Write; gives the number of the row that was inserted last."""
        with self._lock, self._whole():
            return self._connection.execute(statement, values).lastrowid or 0
