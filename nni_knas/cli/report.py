"""The commands that write pages: ``nni-knas report`` and ``nni-knas compare``."""

from __future__ import annotations

import argparse
import importlib
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nni_knas.cli.search import run_folder
from nni_knas.runs import Run

__all__ = ['write_run_report', 'write_runs_comparison']


def write_run_report(arguments: argparse.Namespace) -> None:
    """Write a run as a page and as CSV, and say where."""
    write_report, write_csv = _report_function('write_report'), _report_function('write_csv')
    run = Run(run_folder(arguments.run, arguments.directory))
    if arguments.trust:
        _prepare(run)
    page = _page_path(arguments.to or run.folder / 'report.html')
    _write_to(page, lambda path: write_report(run, path))
    print(f'Report: {page}')
    _write_to(page.with_suffix('.csv'), lambda path: write_csv(run, path))
    print(f'Candidates: {page.with_suffix(".csv")}')
    _show_in_browser(page, arguments.open)


def write_runs_comparison(arguments: argparse.Namespace) -> None:
    """Write several runs side by side as a page, and say where."""
    write_comparison = _report_function('write_comparison')
    runs = [Run(run_folder(run, arguments.directory)) for run in arguments.runs]
    page = _page_path(arguments.to or Path('comparison.html'))
    _write_to(page, lambda path: write_comparison(runs, path))
    print(f'Comparison: {page}')
    _show_in_browser(page, arguments.open)


def _report_function(name: str) -> Callable[..., Path]:
    """A function of the report's; its packages are imported when a page is asked for."""
    try:
        write: Callable[..., Path] = getattr(importlib.import_module('nni_knas.report'), name)
        return write
    except ImportError as error:
        raise ValueError(str(error)) from error


def _prepare(run: Run) -> None:
    """Build the run's networks for what the page shows of them; modules are found where it was started, and here."""
    for place in [*(session.about.get('directory') for session in run.sessions()), str(Path.cwd())]:
        if place and place not in sys.path:
            sys.path.append(place)
    run.prepare_report()


def _page_path(path: Path) -> Path:
    path = path.expanduser()
    if path.is_dir():
        raise ValueError(f'{path} is a folder: name a file, such as {path / "report.html"}')
    if path.suffix.lower() not in ('.html', '.htm'):
        raise ValueError(f'{path} is no name of a page: it has to end in .html')
    return path


def _write_to(path: Path, write: Callable[[Path], Any]) -> None:
    try:
        write(path)
    except OSError as error:
        raise ValueError(f'{path} cannot be written: {error.strerror}') from error


def _show_in_browser(page: Path, wanted: bool) -> None:
    if wanted:
        webbrowser.open(page.resolve().as_uri())
