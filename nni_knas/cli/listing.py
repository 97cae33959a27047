"""``nni-knas list``: all runs in a table. It reads records and files alone, and imports nothing that a search needs."""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from nni_knas.basics.texts import table
from nni_knas.bridge.registry import NNI_HOME, known_experiments
from nni_knas.record import Record, record_path, settings_path
from nni_knas.runs import state_of

__all__ = ['list_runs', 'shown_name', 'start_time']

_WIDEST = 60  # a status in the list


def list_runs(arguments: argparse.Namespace) -> None:
    """Print the runs, the newest last."""
    known, rows = known_experiments(), []
    for folder in _run_folders(known, arguments.directory):
        try:
            rows.append(_table_row(folder, known.get(folder.name, {})))
        except sqlite3.Error:
            rows.append(_damaged_row(folder, known.get(folder.name, {})))
    if not rows:
        print('There are no runs.')
        return
    print(
        table(
            ['run', 'name', 'status', 'started', 'scored', 'trained', 'best', 'folder'],
            sorted(rows, key=lambda row: row[3]),
            right={'scored', 'trained', 'best'},
        )
    )


def _run_folders(known: dict[str, dict[str, Any]], directory: Path | None) -> Iterator[Path]:
    """The folders of all runs: those that NNI knows, and those below NNI's home and ``directory``."""
    folders = [Path(entry.get('logDir') or NNI_HOME) / name for name, entry in known.items()]
    for home in filter(None, (NNI_HOME, directory)):
        folders += [path.parent.parent for path in sorted(home.expanduser().glob('*/knas/record.sqlite'))]
    links = {folder.resolve(): None for folder in folders if record_path(folder).exists()}
    yield from links


def _table_row(folder: Path, entry: dict[str, Any]) -> list[str]:
    with contextlib.closing(Record(record_path(folder), readonly=True)) as record:
        trained = record.trained()
        return [
            folder.name,
            shown_name(folder, record, entry),
            _shortened(str(state_of(record))),
            start_time(folder, record, entry),
            str(record.scored()),
            str(len(trained)),
            f'{trained[0].metric:.4f}' if trained else '',
            str(folder),
        ]


def _damaged_row(folder: Path, entry: dict[str, Any]) -> list[str]:
    """A run whose record cannot be read; ``nni-knas show`` says what can be had from it."""
    changed = datetime.fromtimestamp(record_path(folder).parent.stat().st_mtime).strftime('%Y-%m-%d %H:%M:%S')
    name = str(entry.get('experimentName') or _stored_name(folder) or '')
    return [folder.name, name, 'damaged', changed, '', '', '', str(folder)]


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
