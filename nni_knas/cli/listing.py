"""``nni-knas list``: all runs in a table. It reads records and files alone, and imports nothing that a search needs."""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from nni_knas.basics.texts import number, table
from nni_knas.bridge.registry import NNI_HOME, known_experiments
from nni_knas.cli.machine import print_json
from nni_knas.record import Record, record_path, settings_path
from nni_knas.runs import State, state_of

__all__ = ['list_runs', 'shown_name', 'start_time']

_WIDEST = 60  # a status in the list


class Listed(NamedTuple):
    """A run in the list; ``None`` for what cannot be read."""

    run: str
    name: str
    status: str
    reason: str
    started: str
    scored: int | None
    trained: int | None
    best: float | None
    folder: str


def list_runs(arguments: argparse.Namespace) -> None:
    """Print the runs, the newest last."""
    known, runs = known_experiments(), []
    for folder in _run_folders(known, arguments.directory):
        try:
            runs.append(_listed(folder, known.get(folder.name, {})))
        except sqlite3.Error:
            runs.append(_damaged(folder, known.get(folder.name, {})))
    runs.sort(key=lambda run: run.started)
    if arguments.json:
        print_json([run._asdict() for run in runs])
    elif not runs:
        print('There are no runs.')
    else:
        header = ['run', 'name', 'status', 'started', 'scored', 'trained', 'best', 'folder']
        print(table(header, list(map(_cells, runs)), right={'scored', 'trained', 'best'}))


def _cells(run: Listed) -> list[str]:
    status = _shortened(str(State(run.status, run.reason)))
    scored, trained, best = number(run.scored, 'd', ''), number(run.trained, 'd', ''), number(run.best, '.4f', '')
    return [run.run, run.name, status, run.started, scored, trained, best, run.folder]


def _run_folders(known: dict[str, dict[str, Any]], directory: Path | None) -> Iterator[Path]:
    """The folders of all runs: those that NNI knows, and those below NNI's home and ``directory``."""
    folders = [Path(entry.get('logDir') or NNI_HOME) / name for name, entry in known.items()]
    for home in filter(None, (NNI_HOME, directory)):
        folders += [path.parent.parent for path in sorted(home.expanduser().glob('*/knas/record.sqlite'))]
    links = {folder.resolve(): None for folder in folders if record_path(folder).exists()}
    yield from links


def _listed(folder: Path, entry: dict[str, Any]) -> Listed:
    with contextlib.closing(Record(record_path(folder), readonly=True)) as record:
        trained = record.trained()
        return Listed(
            folder.name,
            shown_name(folder, record, entry),
            *state_of(record),
            start_time(folder, record, entry),
            record.scored(),
            len(trained),
            trained[0].metric if trained else None,
            str(folder),
        )


def _damaged(folder: Path, entry: dict[str, Any]) -> Listed:
    """A run whose record cannot be read; ``nni-knas show`` says what can be had from it."""
    changed = datetime.fromtimestamp(record_path(folder).parent.stat().st_mtime).strftime('%Y-%m-%d %H:%M:%S')
    name = str(entry.get('experimentName') or _stored_name(folder) or '')
    return Listed(folder.name, name, 'damaged', '', changed, None, None, None, str(folder))


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST else f'{text[: _WIDEST - 1]}…'


def shown_name(folder: Path, record: Record, entry: dict[str, Any]) -> str:
    """The name of a run; empty where it has none but NNI's id."""
    sessions = record.sessions()
    name = entry.get('experimentName') or _stored_name(folder) or (sessions[-1].about.get('name') if sessions else '')
    return '' if name == folder.name else str(name or '')


def _stored_name(folder: Path) -> str | None:
    """The name in what the run was started with, where that can be read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return (json.loads(settings_path(folder).read_text(encoding='utf-8')).get('config') or {}).get('experimentName')
    return None


def start_time(folder: Path, record: Record, entry: dict[str, Any]) -> str:
    """When a run was started, by its record, by NNI's list of experiments, or else by its files."""
    sessions, milliseconds = record.sessions(), entry.get('startTime')
    if sessions:
        seconds = sessions[0].started
    elif isinstance(milliseconds, (int, float)):
        seconds = milliseconds / 1000
    else:
        seconds = record_path(folder).parent.stat().st_mtime
    return datetime.fromtimestamp(seconds).strftime('%Y-%m-%d %H:%M:%S')
