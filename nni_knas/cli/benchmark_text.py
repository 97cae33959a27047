"""Numbers, names and tables as ``nni-knas benchmark`` prints and writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nni_knas.basics.texts import table
from nni_knas.benchmark import have_matplotlib

__all__ = [
    'failure_notes',
    'interval_text',
    'number_text',
    'print_notes_and_files',
    'print_table',
    'samples_text',
    'score_label',
    'settings_text',
    'write_results',
]


def number_text(value: float, digits: int = 2) -> str:
    """A number, or a stroke where there is none."""
    return '-' if np.isnan(value) else f'{value:.{digits}f}'


def interval_text(row: Mapping[Any, Any], low: str, high: str) -> str:
    """The interval between two columns, in brackets."""
    return f'[{number_text(row[low])}, {number_text(row[high])}]'


def score_label(row: Mapping[Any, Any]) -> str:
    """The name of a score; a baseline has an asterisk."""
    return row['score'] + (' *' if row['kind'] == 'baseline' else '')


def samples_text(settings: Mapping[str, Any]) -> str:
    """What was scored on, such as ``16 images of cifar10``; a folder by its last part."""
    kind, _, path = settings['data'].partition(':')
    name = Path(path).name if kind in ('folder', 'text') else settings['data']
    return f'{settings["batch_size"]} {"texts" if kind == "text" else "images"} of {name}'


def settings_text(settings: Mapping[str, Any]) -> str:
    """How scores were computed, in a line."""
    seeds = ', '.join(map(str, settings['seeds']))
    return (
        f'{samples_text(settings)}, normalization {settings["normalization"]}, '
        f'seed{"s" if len(settings["seeds"]) > 1 else ""} {seeds}, {settings["device"]}'
    )


def failure_notes(results: pd.DataFrame) -> list[str]:
    """A sentence for each score that is missing somewhere."""
    return [
        f'{row["score"]} has no value for {row["failed"]:g} architectures, for example: {row["reason"]}'
        for row in results[results.reason != ''].drop_duplicates('score').to_dict('records')
    ]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns of equal width."""
    print(table(header, rows, right=header[1:]))


def print_notes_and_files(notes: Sequence[str], folder: Path, written: Sequence[Path]) -> None:
    """What there is to say beside a table, and where it is kept."""
    print()
    for note in notes:
        print(note)
    if not have_matplotlib():
        print('There are no plots, since matplotlib is not installed: pip install "nni-knas[benchmark]"')
    print(f'In {folder}: {", ".join(path.name for path in written)}')


def write_results(
    folder: Path, name: str, results: pd.DataFrame, settings: Mapping[str, Any], notes: Sequence[str]
) -> list[Path]:
    """A table as CSV, and as JSON with what it was made by."""
    paths = [folder / f'{name}.csv', folder / f'{name}.json']
    results.to_csv(paths[0], index=False)
    rows = json.loads(results.to_json(orient='records'))  # nan becomes null
    plain = {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in settings.items()}
    paths[1].write_text(json.dumps({'settings': plain, 'notes': notes, 'results': rows}, indent=2) + '\n')
    return paths
