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

__all__ = ['add_report_commands']


def add_report_commands(commands: Any) -> None:
    """Add the commands to the command line's."""
    report = commands.add_parser(
        'report',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='a run as one HTML page, and as CSV',
        description='Write a run, running, finished or killed, as one HTML page that needs no network to be opened, and\n'
        'the table of its candidates as CSV beside it.',
        epilog='examples:\n'
        "  nni-knas report k3vn8qyz                               report.html and report.csv in the run's folder\n"
        '  nni-knas report k3vn8qyz --to pages/digits.html        pages/digits.html and pages/digits.csv\n',
    )
    report.add_argument('run', metavar='RUN', help="NNI's id of the run, or its folder")
    _add_options(report, "report.html in the run's folder")
    report.set_defaults(command=_write_run_report)

    compare = commands.add_parser(
        'compare',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='several runs side by side, as one HTML page',
        description='Write two or more runs side by side as one HTML page that needs no network to be opened.',
        epilog='examples:\n  nni-knas compare k3vn8qyz 0z1ykqj6                     comparison.html here\n',
    )
    compare.add_argument('runs', metavar='RUN', nargs='+', help="NNI's ids of the runs, or their folders")
    _add_options(compare, 'comparison.html here')
    compare.set_defaults(command=_write_comparison)


def _add_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument('--to', type=Path, metavar='FILE', help=f'where to write (default: {default})')
    parser.add_argument('--directory', type=Path, metavar='DIR', help='look for runs here, too')
    parser.add_argument('--open', action='store_true', help='show it in the browser')


def _write_run_report(arguments: argparse.Namespace) -> None:
    write_report, write_csv = _report_function('write_report'), _report_function('write_csv')
    run = _open_run(arguments.run, arguments.directory)
    page = _page_path(arguments.to or run.folder / 'report.html')
    _write_to(page, lambda path: write_report(run, path))
    print(f'Report: {page}')
    _write_to(page.with_suffix('.csv'), lambda path: write_csv(run, path))
    print(f'Candidates: {page.with_suffix(".csv")}')
    _show_in_browser(page, arguments.open)


def _write_comparison(arguments: argparse.Namespace) -> None:
    write_comparison = _report_function('write_comparison')
    runs = [_open_run(run, arguments.directory) for run in arguments.runs]
    page = _page_path(arguments.to or Path('comparison.html'))
    _write_to(page, lambda path: write_comparison(runs, path))
    print(f'Comparison: {page}')
    _show_in_browser(page, arguments.open)


def _report_function(name: str) -> Callable[..., Path]:
    """A function of the report's; its packages are imported when a page is asked for."""
    try:
        return getattr(importlib.import_module('nni_knas.report'), name)
    except ImportError as error:
        raise ValueError(str(error)) from error


def _open_run(name: str, directory: Path | None) -> Run:
    """A run; the modules that its space needs are found where it was started, and here."""
    run = Run(run_folder(name, directory))
    for place in [*(session.about.get('directory') for session in run.sessions()), str(Path.cwd())]:
        if place and place not in sys.path:
            sys.path.append(place)
    return run


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
