"""The table of several benchmarks in cells, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from nni_knas.benchmark import correlation_text
from nni_knas.cli.benchmark_text import correlation_cell, score_label
from nni_knas.gradients import NotApplicable

__all__ = ['LEGEND', 'markdown', 'summary_cells', 'unknown_notes']

LEGEND = (
    'In brackets: 95 % bootstrap intervals, of the mean as the architectures of each benchmark are resampled. n/a: the '
    'score has no value on that benchmark, or the same for all its architectures; its mean and its worst are of the '
    'others, so many as stand beside. An architecture without a score counts as the worst where others have one; failed: '
    'on how many architectures of all benchmarks the score failed.'
)


def summary_cells(summary: pd.DataFrame, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table that :func:`~nni_knas.benchmark.summary_table` gives.

    Parameters
    ----------
    summary
        The table.
    names
        The benchmarks, a column each.
    """
    header = ['score (* baseline)', *names, 'mean', 'worst', *(['failed'] if summary.failed.any() else [])]
    return header, [_cells(row, names)[: len(header)] for row in summary.to_dict('records')]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; scores are code, and baselines in italics."""
    lines = [['score', *header[1:]], ['---'] * len(header)]
    lines += [[f'*{name[:-2]}*' if name.endswith(' *') else f'`{name}`', *cells] for name, *cells in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def unknown_notes(summary: pd.DataFrame, results: Mapping[str, pd.DataFrame]) -> list[str]:
    """Why scores have no correlation on a benchmark, or not all values: a sentence a score and reason.

    Parameters
    ----------
    summary
        What :func:`~nni_knas.benchmark.summary_table` gives.
    results
        What :func:`~nni_knas.benchmark.correlation_table` gives of one metric of each benchmark.
    """
    where: dict[tuple[str, str], list[str]] = {}
    for row in summary.to_dict('records'):
        for name, table in results.items():
            said = _said(row, name, table[table.score == row['score']].iloc[0])
            if said:
                where.setdefault((row['score'], said), []).append(name)
    return [f'{score}, {" and ".join(names)}: {said}' for (score, said), names in where.items()]


def _said(row: Mapping[Hashable, Any], name: str, result: pd.Series) -> str:
    why = result.reason.removeprefix(f'{NotApplicable.__name__}: ')
    if pd.isna(row[name]):
        return why or 'n/a: the same for all architectures'
    return f'no value for {result.failed:g} architectures, for example: {why}' if result.failed else ''


def _cells(row: Mapping[Hashable, Any], names: Sequence[str]) -> list[str]:
    mean = correlation_cell(row, 'mean', 'mean low', 'mean high')
    return [
        score_label(row),
        *(correlation_cell(row, name, f'{name} low', f'{name} high') for name in names),
        mean + (f' of {row["on"]}' if 0 < row['on'] < len(names) else ''),
        correlation_text(row['worst']),
        f'{row["failed"]:g}' if row['failed'] else '',
    ]
