"""Scalars for TensorBoard, in the run's folder, where NNI's portal shows them at the press of its TensorBoard button.

========================================  =====================================================================
``knas/tensorboard/search``               the search, by the numbers of its candidates in the order of exploration
``knas/tensorboard/trial-N``              the training of candidate N
``knas/tensorboard/fine``                 the fine stage as a whole, see :mod:`nni_knas.runs.fine_stage_scalars`
``trials/ID/output/tensorboard``          where the portal's button looks: links to these, and to the folder in
                                          which NNI has a trial write scalars of its own
========================================  =====================================================================

With adaptive effort the quick scores are by the numbers of candidates, and the full ones in the order in which they were
found, each with its candidate's number. All is written about once a second, by a thread beside the work. Without the package
``tensorboard`` nothing is.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nni.runtime.env_vars import trial_env_vars

from nni_knas.basics.periodic import repeated
from nni_knas.bridge import fields
from nni_knas.record import Record, Status, record_path

__all__ = ['EventFile', 'read_events', 'scalars_folder', 'scalars_of', 'search_scalars', 'trial_scalars']

INTERVAL = 1.0
"""Seconds between two writes."""

_SUFFIX = '.knas'
"""What the names of our event files end with, so that they are told from the user's own."""


def scalars_of(record: Record, name: str) -> tuple[Path, Path] | None:
    """The file of a record, and the folder of such scalars of it; ``None`` where it is not in an experiment's directory."""
    path = record.path
    if path is None or path != record_path(path.parent.parent):
        return None
    return path, scalars_folder(path.parent.parent) / name


def scalars_folder(folder: Path) -> Path:
    """The folder of the scalars of the experiment in ``folder``."""
    return folder / 'knas' / 'tensorboard'


# Event files.


class EventFile:
    """A new event file of TensorBoard's.

    Raises
    ------
    ImportError
        If ``tensorboard`` is not installed, or does not work.
    """

    def __init__(self, folder: Path) -> None:
        # Its record writer alone: EventFileWriter would start another thread, and torch's SummaryWriter two.
        self._event, self._summary, writer = _tensorboard_classes()
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names: a later file has to come later.
        name = f'events.out.tfevents.{time.time():017.6f}.{os.uname().nodename}.{os.getpid()}{_SUFFIX}'
        self._writer = writer((folder / name).open('xb'))
        self._writer.write(self._event(wall_time=time.time(), file_version='brain.Event:2').SerializeToString())

    def write(self, step: int, values: Mapping[str, float], when: float) -> None:
        value = [self._summary.Value(tag=tag, simple_value=number) for tag, number in values.items()]
        event = self._event(wall_time=when, step=step, summary=self._summary(value=value))
        self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _tensorboard_classes() -> tuple[Any, Any, Any]:
    """TensorBoard's ``Event``, ``Summary`` and ``RecordWriter``."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
    except Exception as error:  # one that does not go with the protobuf that is installed raises other errors
        raise ImportError(f'tensorboard: {error}') from error
    return event_pb2.Event, summary_pb2.Summary, RecordWriter


def read_events(folder: Path) -> Iterator[Any]:
    """What is in our event files of a folder. An event that a kill has left half-written is skipped.

    TensorBoard's own reader would import TensorFlow, where it is installed.
    """
    event = _tensorboard_classes()[0]
    for path in sorted(folder.glob(f'*{_SUFFIX}')):
        content, position = path.read_bytes(), 0
        while position + 12 <= len(content):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from('<Q', content, position)
            if position + 16 + length > len(content):
                break
            yield event.FromString(content[position + 12 : position + 12 + length])
            position += 16 + length


# The search.


@contextlib.contextmanager
def search_scalars(record: Record) -> Iterator[None]:
    """Write the scalars of a search into its run's folder, while the context lasts.

    They are read from the record's file, so a run that was killed and is resumed lacks none and repeats none.

    Parameters
    ----------
    record
        The search's record. Nothing is written where it is not in an experiment's directory.
    """
    places = scalars_of(record, 'search')
    if places is None:
        yield
        return
    scalars = _SearchScalars(*places)
    with contextlib.closing(scalars), repeated(scalars.write, INTERVAL, last=True):
        yield
        scalars.over = True


class _SearchScalars:
    """Writes what is new in a record.

    Attributes
    ----------
    over
        Whether the search has come to its end: a candidate that is not there by then will not come.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.over = False
        self._path = path
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        self._file: EventFile | None = None
        self._before: set[int] = set()  # steps of the exploration that earlier processes have written
        self._rated: set[int] = set()  # candidates whose full score is written, with adaptive effort
        self._quick = False
        self._last = 0
        self._best = -math.inf
        self._counts = {'scored': 0, 'failed': 0, 'filtered': 0}

    def write(self) -> None:
        if self._connection is None:
            self._connection = self._open_record()
        for step, values in self._newly_explored():
            if step not in self._before:
                self._add_step(step, values)
        if self._quick:
            for step, values in self._newly_scored_in_full():
                self._add_step(step, values)
        if self._file is not None:
            self._file.flush()

    def _open_record(self) -> sqlite3.Connection:
        """Open the record, after a look at what is written already."""
        for event in read_events(self._folder):
            for value in event.summary.value:
                if value.tag == 'search/seconds':
                    self._before.add(event.step)
                elif value.tag == 'search/candidate':
                    self._rated.add(int(value.simple_value))
        connection = sqlite3.connect(f'{self._path.as_uri()}?mode=ro', uri=True, check_same_thread=False)
        effort = connection.execute("SELECT value FROM meta WHERE key = 'effort'").fetchone()
        self._quick = effort == ('adaptive',)
        return connection

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        assert self._connection is not None
        return self._connection.execute(query, values).fetchall()

    def _newly_explored(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The candidates since the last time, as far as no earlier one is still to come, which a worker may have."""
        name = 'quick' if self._quick else 'score'
        for number, score, seconds, filtered in self._rows(
            f"SELECT id, {name}, seconds, status = '{Status.FILTERED}' FROM candidates WHERE id > ? ORDER BY id", self._last
        ):
            if number != self._last + 1 and not self.over:
                return
            self._last = number
            self._counts['filtered' if filtered else 'failed' if score is None else 'scored'] += 1
            values = {'search/seconds': seconds, **{f'search/{kind}': float(count) for kind, count in self._counts.items()}}
            if score is not None:
                self._best = max(self._best, score)
                values[f'search/{"quick_" if self._quick else ""}score'] = score
            if math.isfinite(self._best):
                values[f'search/best_{"quick_" if self._quick else ""}score'] = self._best
            yield number, values

    def _newly_scored_in_full(self) -> Iterator[tuple[int, dict[str, float]]]:
        """With adaptive effort: the full scores since the last time."""
        rows = self._rows('SELECT id, score FROM candidates WHERE score IS NOT NULL ORDER BY id')
        best = max((score for number, score in rows if number in self._rated), default=-math.inf)
        for number, score in rows:
            if number not in self._rated:
                self._rated.add(number)
                best = max(best, score)
                yield len(self._rated), {'search/candidate': float(number), 'search/score': score, 'search/best_score': best}

    def _add_step(self, step: int, values: Mapping[str, float]) -> None:
        self._file = self._file or EventFile(self._folder)
        self._file.write(step, values, time.time())

    def close(self) -> None:
        for each in (self._file, self._connection):
            if each is not None:
                each.close()


# Trials.


@contextlib.contextmanager
def trial_scalars(
    folder: Path | None, candidate: int, **about: float
) -> Iterator[Callable[[bool, Mapping[str, Any]], None]]:
    """Write the scalars of a training, while the context lasts.

    Parameters
    ----------
    folder
        The experiment's directory. Nothing is written where it is not on this machine.
    candidate
        The candidate's number in the record.
    **about
        What is known of it at the start, by name.

    Yields
    ------
    Callable
        What is to be called with each metric that is reported: whether it is the final one, and its entries by name.
    """
    if folder is None or not folder.is_dir():
        yield lambda final, metric: None
        return
    scalars = _TrialScalars(folder, candidate, about)
    with contextlib.closing(scalars), repeated(scalars.write, INTERVAL, last=True):
        yield scalars.report


class _TrialScalars:
    """Collects what a training reports, and writes it: intermediate metrics by step, from 1, and final ones at the last.

    A training that begins anew replaces what there was of it.
    """

    def __init__(self, folder: Path, candidate: int, about: Mapping[str, float]) -> None:
        self._folder = folder
        self._target = scalars_folder(folder) / f'trial-{candidate}'
        self._about = about
        self._started = time.time()
        self._waiting: deque[tuple[bool, dict[str, Any], float]] = deque()
        self._step = 0
        self._file: EventFile | None = None

    def report(self, final: bool, metric: Mapping[str, Any]) -> None:
        self._waiting.append((final, dict(metric), time.time()))

    def write(self) -> None:
        self._file = self._file or self._begin_file()
        while self._waiting:
            self._write_metric(self._file, *self._waiting.popleft())
        self._file.flush()

    def _begin_file(self) -> EventFile:
        before = list(self._target.glob(f'*{_SUFFIX}'))
        file = EventFile(self._target)
        for path in before:
            path.unlink()
        file.write(0, {f'trial/{name}': value for name, value in self._about.items()}, self._started)
        with contextlib.suppress(OSError):
            _link_into_portal(self._folder, self._target)
        return file

    def _write_metric(self, file: EventFile, final: bool, metric: Mapping[str, Any], when: float) -> None:
        if not final:
            self._step += 1
        prefix = 'final_' if final else ''
        file.write(
            max(self._step, 1),
            {
                f'trial/{prefix}{"metric" if name == fields.METRIC else name}': float(value)
                for name, value in metric.items()
                if isinstance(value, (int, float))
            },
            when,
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _link_into_portal(folder: Path, target: Path) -> None:
    """Link a trial's scalars, and those of the search, to where NNI's manager looks when TensorBoard is asked for.

    NNI 3.0 has trials write their own to another place than it looks at, so that is linked, too.
    """
    if not trial_env_vars.NNI_TRIAL_JOB_ID:
        return
    shown = folder / 'trials' / trial_env_vars.NNI_TRIAL_JOB_ID / 'output' / 'tensorboard'
    shown.mkdir(parents=True, exist_ok=True)
    _link_folder(shown / 'training', target)
    _link_folder(shown / 'search', scalars_folder(folder) / 'search')
    _link_folder(shown / 'fine', scalars_folder(folder) / 'fine')
    if trial_env_vars.NNI_OUTPUT_DIR:
        _link_folder(shown / 'own', Path(trial_env_vars.NNI_OUTPUT_DIR) / 'tensorboard')


def _link_folder(path: Path, target: Path) -> None:
    """A relative link to a folder, which stays right when the run is moved."""
    target.mkdir(parents=True, exist_ok=True)  # a link to nowhere would be in the way of who copies the run
    with contextlib.suppress(FileExistsError):
        path.symlink_to(os.path.relpath(target.resolve(), path.parent.resolve()), target_is_directory=True)
