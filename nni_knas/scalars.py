"""Scalars for TensorBoard, in the run's folder, where NNI's portal shows them at the press of its TensorBoard button.

========================================  =====================================================================
``knas/tensorboard/search``               each candidate of the search, by its number in the order of exploration
``knas/tensorboard/trial-N``              the training of candidate N, where NNI's sequential engine trains
``$NNI_OUTPUT_DIR/tensorboard``           the training of a trial of NNI's training service
``trials/ID/output/tensorboard``          where the portal's button looks: a link to that, with a link to the search
========================================  =====================================================================

All is read or collected by a thread beside the work and written about once a second. Without the package ``tensorboard``
nothing is written.
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

from nni_knas.periodic import repeated
from nni_knas.record import Record, record_path

__all__ = ['scalars_folder', 'search_scalars', 'trial_scalars']

INTERVAL = 1.0
"""Seconds between two writes."""

_SUFFIX = '.knas'
"""What the names of our event files end with, so that they are told from the user's own."""


def scalars_folder(folder: Path) -> Path:
    """Where the scalars of the experiment in ``folder`` are."""
    return folder / 'knas' / 'tensorboard'


class _EventFile:
    """An event file of TensorBoard's, made with the first scalar.

    Raises
    ------
    ImportError
        If ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        # Its record writer alone: EventFileWriter would start a thread, and torch's SummaryWriter takes seconds to import.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names: a later file has to come later.
        name = f'events.out.tfevents.{time.time():017.6f}.{os.uname().nodename}.{os.getpid()}{_SUFFIX}'
        self._writer = RecordWriter((folder / name).open('xb'))
        self._writer.write(self._event(wall_time=time.time(), file_version='brain.Event:2').SerializeToString())

    def write(self, step: int, values: Mapping[str, float], when: float) -> None:
        value = [self._summary.Value(tag=tag, simple_value=number) for tag, number in values.items()]
        event = self._event(wall_time=when, step=step, summary=self._summary(value=value))
        self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _written(folder: Path) -> dict[str, set[int]]:
    """The steps that are in the event files of a folder, by tag. What a kill has left half-written is skipped."""
    from tensorboard.compat.proto import event_pb2

    steps: dict[str, set[int]] = {}
    for path in sorted(folder.glob(f'*{_SUFFIX}')):
        content, position = path.read_bytes(), 0
        while position + 12 <= len(content):  # length, its checksum, the event, its checksum
            length, = struct.unpack_from('<Q', content, position)
            if position + 16 + length > len(content):
                break
            event = event_pb2.Event.FromString(content[position + 12:position + 12 + length])
            for value in event.summary.value:
                steps.setdefault(value.tag, set()).add(event.step)
            position += 16 + length
    return steps


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
    path = _path(record)
    if path is None or path != record_path(path.parent.parent):
        yield
        return
    scalars = _SearchScalars(path, scalars_folder(path.parent.parent) / 'search')
    with contextlib.closing(scalars), repeated(scalars.write, INTERVAL, last=True):
        try:
            yield
        finally:
            scalars.over = True


def _path(record: Record) -> Path | None:
    name = record._one('PRAGMA database_list')[2]
    return Path(name) if name else None


class _SearchScalars:
    """Writes what is new in a record: a step a candidate, which has the candidate's number, in this order."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.over = False
        self._path = path
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        self._file: _EventFile | None = None
        self._steps: dict[str, set[int]] = {}
        self._last = 0
        self._best = -math.inf
        self._counts = {'scored': 0, 'failed': 0, 'filtered': 0}
        self._quick = False

    def write(self) -> None:
        if self._connection is None:
            self._steps = _written(self._folder)
            connection = sqlite3.connect(f'{self._path.as_uri()}?mode=ro', uri=True, check_same_thread=False)
            self._quick = connection.execute("SELECT 1 FROM meta WHERE key = 'effort' AND value = 'adaptive'"
                                             ).fetchone() is not None
            self._connection = connection
        for step, values in self._explored():
            self._add(step, values)
        if self._quick:
            known = self._steps.get('search/score', set())
            rows = self._connection.execute('SELECT id, score FROM candidates WHERE score IS NOT NULL ORDER BY id')
            for number, score in [row for row in rows if row[0] not in known]:
                self._add(number, {'search/score': score})
        if self._file is not None:
            self._file.flush()

    def _explored(self) -> Iterator[tuple[int, dict[str, float]]]:
        """What is new, as far as no earlier candidate is still to come, which one of the workers may have."""
        assert self._connection is not None
        name = 'quick' if self._quick else 'score'
        rows = self._connection.execute(f'SELECT id, {name}, seconds, status FROM candidates WHERE id > ? ORDER BY id',
                                        (self._last,)).fetchall()
        prefix = 'quick_' if self._quick else ''
        for number, score, seconds, status in rows:
            if number != self._last + 1 and not self.over:
                return
            self._last = number
            kind = status if status in ('failed', 'filtered') else 'scored'
            self._counts[kind] += 1
            values = {'search/seconds': seconds, **{f'search/{kind}': float(count) for kind, count in self._counts.items()}}
            if score is not None:
                self._best = max(self._best, score)
                values[f'search/{prefix}score'] = score
            if math.isfinite(self._best):
                values[f'search/best_{prefix}score'] = self._best
            yield number, values

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        new = {tag: value for tag, value in values.items() if step not in self._steps.setdefault(tag, set())}
        if new:
            self._file = self._file or _EventFile(self._folder)
            self._file.write(step, new, time.time())
            for tag in new:
                self._steps[tag].add(step)

    def close(self) -> None:
        for each in (self._file, self._connection):
            if each is not None:
                each.close()


# Trials.

@contextlib.contextmanager
def trial_scalars(folder: Path | None, candidate: int, **about: float) -> Iterator[Callable[[bool, Any], None]]:
    """Write the scalars of a training, while the context lasts.

    Parameters
    ----------
    folder
        The experiment's directory.
    candidate
        The candidate's number in the record.
    **about
        What is known of it at the start, by name.

    Yields
    ------
    Callable
        To be called with each metric that is reported: whether it is the final one, and the metric.
    """
    target = _trial_folder(folder, candidate)
    scalars = _TrialScalars(target, about)
    if target is None:
        yield lambda final, metric: None
        return
    with contextlib.suppress(OSError):
        _begin(target, folder)
    with contextlib.closing(scalars), repeated(scalars.write, INTERVAL, last=True):
        yield scalars.report


def _trial_folder(folder: Path | None, candidate: int) -> Path | None:
    if trial_env_vars.NNI_OUTPUT_DIR:
        return Path(trial_env_vars.NNI_OUTPUT_DIR) / 'tensorboard'
    return scalars_folder(folder) / f'trial-{candidate}' if folder is not None else None


def _begin(target: Path, folder: Path | None) -> None:
    """Make a trial's folder ready: a training that begins anew replaces what there was of it, and links are set."""
    target.mkdir(parents=True, exist_ok=True)
    for path in target.glob(f'*{_SUFFIX}'):
        path.unlink()
    job = trial_env_vars.NNI_TRIAL_JOB_ID
    if folder is not None and job and folder in target.absolute().parents:  # not on another machine
        search = scalars_folder(folder) / 'search'
        search.mkdir(parents=True, exist_ok=True)
        _link(target / 'search', search)
        _link(folder / 'trials' / job / 'output' / 'tensorboard', target)


def _link(path: Path, target: Path) -> None:
    """A relative link to a folder, which stays right when the run is moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.symlink_to(os.path.relpath(target, path.parent), target_is_directory=True)


class _TrialScalars:
    """Collects the metrics of a training, and writes them: intermediate ones by step, from 1."""

    def __init__(self, folder: Path | None, about: Mapping[str, float]) -> None:
        self._folder = folder
        self._waiting = deque([(0, {f'trial/{name}': value for name, value in about.items()}, time.time())])
        self._step = 0
        self._file: _EventFile | None = None

    def report(self, final: bool, metric: Any) -> None:
        entries = metric if isinstance(metric, dict) else {'default': metric}
        if not final:
            self._step += 1
        prefix = 'final_' if final else ''
        values = {f'trial/{prefix}{"metric" if name == "default" else name}': float(value)
                  for name, value in entries.items() if isinstance(value, (int, float))}
        self._waiting.append((max(self._step, 1), values, time.time()))

    def write(self) -> None:
        assert self._folder is not None
        self._file = self._file or _EventFile(self._folder)
        while self._waiting:
            self._file.write(*self._waiting.popleft())
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
