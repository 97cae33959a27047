"""The ranking of a run as text: how far the run is, and its best candidates so far; once, or again and again."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nni_knas.basics.periodic import repeated
from nni_knas.basics.texts import duration, known, number, one_line, table
from nni_knas.networks import COSTS
from nni_knas.record import Record, Status, near_of, record_path
from nni_knas.runs import Run

__all__ = ['best_so_far', 'candidate_table', 'near_in_words', 'print_while_running', 'progress_line', 'watched']


@contextlib.contextmanager
def watched(folder: Path, seconds: float, top: int = 10) -> Iterator[None]:
    """Print the ranking of the run in a folder every so often while the context lasts and at its end, if it has changed."""
    printer = _Printer(folder, top)
    with repeated(printer.print, seconds, last=True):
        yield


def print_while_running(run: Run, seconds: float, top: int = 10) -> None:
    """Print the ranking of a run now and whenever it has changed, until the run goes on no longer."""
    printer = _Printer(run.folder, top)
    printer.print()
    while run.status == 'running':
        time.sleep(seconds)
        printer.print()
    printer.print()  # it may have changed just before it ended


class _Printer:
    """Prints a ranking when it is another one than the last time; a terminal's progress bars stay below it."""

    def __init__(self, folder: Path, top: int) -> None:
        self._folder = folder
        self._top = top
        self._run: Run | None = None
        self._last = ''

    def print(self) -> None:
        if not record_path(self._folder).exists():  # it has not begun yet
            return
        self._run = self._run or Run(self._folder)
        with contextlib.suppress(sqlite3.OperationalError):  # it is just being made
            text = candidate_table(best_so_far(self._run, self._top), self._run.metric_name, status=True)
            if text != self._last:
                self._last = text
                tqdm.write(f'\n{progress_line(self._run)}\n{text}', file=sys.stdout)
                sys.stdout.flush()


def best_so_far(run: Run, top: int) -> pd.DataFrame:
    """The best candidates: trained ones by metric, then those in training, then others by score."""
    frame, trained = run.frame(), run.ranking(all=True)
    under_way = frame[frame.status == Status.TRAINING]
    others = frame[~frame.index.isin([*trained.index, *under_way.index])]
    return pd.concat([part for part in (trained, under_way, others) if len(part)] or [frame]).head(top)


def progress_line(run: Run) -> str:
    """How far a run is, in a line."""
    record = run.record
    counts = {
        'trained': record.count(Status.TRAINED),
        'in training': record.count(Status.TRAINING),
        'failed': record.count(Status.FAILED, Status.TRAINING_FAILED),
    }
    parts = [
        f'{record.scored():,} scored{near_in_words(record)}',
        *(f'{count:,} {name}' for name, count in counts.items() if count),
    ]
    sessions = run.sessions()
    if sessions:
        parts.append(f'after {duration(sessions[-1].heard - sessions[-1].started)}')
    return f'{run.name}: {", ".join(parts)}'


def near_in_words(record: Record) -> str:
    """How many of those that were scored were drawn near the best, in brackets; empty where none were."""
    near = near_of(record)
    scored = near.scored(record) if near is not None else 0
    return f' ({scored:,} of them near the best)' if scored else ''


def candidate_table(frame: pd.DataFrame, metric_name: str, status: bool = False) -> str:
    """Candidates as a table: rank, score, the costs that are known, metric, perhaps status, architecture."""
    costs = [cost for cost in COSTS if frame[cost].notna().any()]
    rows = [
        [
            str(rank),
            _score_text(row.score, row.quick),
            *(number(row[cost], '.6g', '') for cost in costs),
            number(row.metric, '.4f', ''),
            *([row.status] if status else []),
            one_line(row.architecture),
        ]
        for rank, row in frame.iterrows()
    ]
    header = ['rank', 'score', *costs, metric_name, *(['status'] if status else []), 'architecture']
    return table(header, rows, right={'rank', 'score', *costs, metric_name})


def _score_text(score: float, quick: float) -> str:
    """A quick score has a mark: it does not compare with full ones."""
    return number(score, '.4g') if known(score) else f'~{number(quick, ".4g")}' if known(quick) else ''
