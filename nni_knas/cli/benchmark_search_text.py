"""The tables of ``nni-knas benchmark --protocol search`` in cells, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nni_knas.cli.benchmark_text import interval_text

__all__ = ['LEGEND', 'overall_cells', 'search_markdown', 'shown_searches']

LEGEND = (
    'percentile: rank of the best trained among the candidates (1 the best) / candidates x 100, mean over the tasks, in '
    'brackets its 95 % bootstrap interval over the repeats; worst: of the tasks. first: in how many tasks a search is '
    'first, or the interval of how far it is behind the first, over the same repeats, reaches 0. rank, parameters, flops, '
    'layers: the top k by the recommended score, and by these. * The best fixed choice: of all those made before training, '
    'the same for all tasks, by each statistic from its highest or its lowest values, it has the lowest mean percentile.'
)


def overall_cells(overall: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what :func:`~nni_knas.benchmark.overall_table` gives of one ``k``: those that are compared."""
    header = ['search', 'percentile', 'worst', 'on', 'first']
    return header, [_overall_row(row) for row in _compared(overall).to_dict('records')]


def _overall_row(row: Mapping[Hashable, Any]) -> list[str]:
    return [
        row['search'] + (' *' if row['best_fixed'] else ''),
        f'{row["percentile"]:.2f} {interval_text(row, "percentile_low", "percentile_high")}',
        f'{row["worst"]:.2f}',
        row['worst_on'],
        f'{row["first"]:g} of {row["tasks"]}',
    ]


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    return table[table['first'].notna()]


def shown_searches(overall: pd.DataFrame) -> list[str]:
    """Those that are compared at one ``k``, the best first."""
    return list(_compared(overall).search)


def search_markdown(tasks: pd.DataFrame, overall: pd.DataFrame, verdicts: Sequence[str], lines: Sequence[str]) -> str:
    """All tables, in Markdown: for each ``k`` that over all tasks, and one with a row a task and a column a search."""
    parts = ['\n'.join(f'- {line}' for line in lines), *verdicts]
    for k, of_all in overall.groupby('k', sort=False):
        parts.append(f'## k = {k}')
        parts.append(_markdown(*overall_cells(of_all)))
        for column, title in (
            ('percentile', 'Percentiles'),
            ('metric_mean', 'Metrics of the best trained'),
            ('rank', 'Ranks'),
        ):
            parts.append(f'{title}, in bold first or within noise of it:')
            parts.append(_markdown(*_task_cells(tasks[tasks.k == k], shown_searches(of_all), column)))
    return '\n\n'.join([*parts, LEGEND]) + '\n'


def _task_cells(tasks: pd.DataFrame, names: Sequence[str], column: str) -> tuple[list[str], list[list[str]]]:
    rows = []
    for (benchmark, metric), block in tasks.groupby(['benchmark', 'metric'], sort=False):
        of = block.set_index('search').to_dict('index')
        rows.append([f'{benchmark} {metric}', *(_task_cell(of[name], column) for name in names)])
    return ['task', *names], rows


def _task_cell(row: Mapping[Hashable, Any], column: str) -> str:
    digits = int(np.clip(3 - np.ceil(np.log10(max(abs(row[column]), 1e-9))), 1, 4))
    text = f'{row[column]:.{digits}f}'
    interval = f'[{row[f"{column}_low"]:.{digits}f}, {row[f"{column}_high"]:.{digits}f}]'
    return f'**{text}** {interval}' if row['first'] else f'{text} {interval}'


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return '\n'.join(f'| {" | ".join(line)} |' for line in [header, ['---'] * len(header), *rows])
