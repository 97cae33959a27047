"""Numbers, names and tables as ``nni-knas benchmark`` prints and writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nni_knas.basics.extras import how_to_install
from nni_knas.basics.texts import table
from nni_knas.benchmark import correlation_text, have_matplotlib
from nni_knas.cli.machine import json_text, records

__all__ = [
    'correlation_cell',
    'failure_notes',
    'interval_text',
    'number_text',
    'print_notes_and_files',
    'print_table',
    'samples_text',
    'score_label',
    'settings_text',
    'why_not_applicable',
    'within_cells',
    'write_results',
]


def number_text(value: float, digits: int = 2) -> str:
    """A number, or a stroke where there is none."""
    return '-' if np.isnan(value) else f'{value:.{digits}f}'


def interval_text(row: Mapping[Any, Any], low: str, high: str) -> str:
    """The interval between two columns, in brackets."""
    return f'[{number_text(row[low])}, {number_text(row[high])}]'


def correlation_cell(row: Mapping[Any, Any], name: str, low: str, high: str) -> str:
    """A correlation, and its interval between two columns, as briefly as can be."""
    if np.isnan(row[name]):
        return correlation_text(row[name])
    return f'{correlation_text(row[name])} [{correlation_text(row[low])}, {correlation_text(row[high])}]'


def score_label(row: Mapping[Any, Any]) -> str:
    """The name of a score; a baseline has an asterisk."""
    return f'{row["score"]} *' if row['kind'] == 'baseline' else str(row['score'])


def why_not_applicable(row: Mapping[Any, Any]) -> str:
    """Why a score is not made for these networks; nothing where it is."""
    return str(row['reason']).partition('n/a: ')[2] if np.isnan(row['spearman']) else ''


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
        f'{row["score"]} is n/a: {why}'
        if (why := why_not_applicable(row))
        else f'{row["score"]} has no value for {row["failed"]:g} architectures, for example: {row["reason"]}'
        for row in results[results.reason != ''].drop_duplicates('score').to_dict('records')
    ]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns of equal width."""
    print(table(header, rows, right=header[1:]))


def within_cells(within: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the rank correlations of one metric within the groups of a column, the best Kendall first."""
    column = within.within.iloc[0]
    means = within.groupby('score').kendall.transform('mean')
    within = within.assign(mean=means).sort_values('mean', ascending=False, kind='stable')
    header = ['score (* baseline)']
    rows = [[score_label(row)] for row in within.drop_duplicates('score').to_dict('records')]
    for group, count in within[['group', 'architectures']].drop_duplicates().sort_values('group').itertuples(index=False):
        for name in ('kendall', 'spearman'):
            header.append(f'{column} {group:g} ({count}), {name}')
            for cells, row in zip(rows, within[within.group == group].to_dict('records')):
                cells.append(correlation_cell(row, name, f'{name}_low', f'{name}_high'))
    return header, rows


def print_notes_and_files(notes: Sequence[str], folder: Path, written: Sequence[Path]) -> None:
    """What there is to say beside a table, and where it is kept."""
    print()
    for note in notes:
        print(note)
    if not have_matplotlib():
        print(f'There are no plots, since matplotlib is not installed: {how_to_install("benchmark")}')
    print(f'In {folder}: {", ".join(path.name for path in written)}')


def write_results(
    folder: Path,
    name: str,
    results: pd.DataFrame,
    settings: Mapping[str, Any],
    notes: Sequence[str],
    others: Mapping[str, pd.DataFrame] | None = None,
) -> list[Path]:
    """A table as CSV, and as JSON with what it was made by, and with other tables beside it."""
    paths = [folder / f'{name}.csv', folder / f'{name}.json']
    results.to_csv(paths[0], index=False)
    written = {'settings': settings, 'notes': notes, 'results': records(results)}
    written |= {key: records(table) for key, table in (others or {}).items()}
    paths[1].write_text(json_text(written) + '\n', encoding='utf-8')
    return paths
