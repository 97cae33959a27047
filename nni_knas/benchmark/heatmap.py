"""A picture of every score on every benchmark; it needs matplotlib, which is optional."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.summary import correlation_text

__all__ = ['draw_summary', 'plot_summary']

COLORS = 'RdBu'  # red below 0, white at 0, blue above
GAP = 0.2  # between the benchmarks, and what is made of them
DAGGER = '\N{DAGGER}'
DARK = 0.6  # beyond it numbers are white


def plot_summary(summary: pd.DataFrame, names: Sequence[str], title: str, folder: Path) -> list[Path]:
    """Write :func:`draw_summary` to ``all.png`` and ``all.svg`` in a folder; both paths are returned.

    Parameters
    ----------
    summary
        The table that :func:`~nni_knas.benchmark.summary.summary_table` gives.
    names
        The benchmarks, which are columns of it.
    title
        What was measured.
    folder
        The folder.
    """
    figure = draw_summary(summary, names, title)
    paths = [folder / 'all.png', folder / 'all.svg']
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths


def draw_summary(summary: pd.DataFrame, names: Sequence[str], title: str) -> Any:
    """A heat map: scores down, the highest mean first, benchmarks across, and set apart from them mean and worst.

    Baselines are in italics. Mean and worst have a dagger where a score has no value on some of the benchmarks.

    Parameters
    ----------
    summary
        The table that :func:`~nni_knas.benchmark.summary.summary_table` gives; the order of the rows is its own.
    names
        The benchmarks.
    title
        What the numbers are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    columns = [*names, 'mean', 'worst']
    partial = (summary.on < len(names)).to_numpy()
    figure = Figure(figsize=(2.9 + 0.85 * len(columns), 1.5 + 0.26 * len(summary)), layout='constrained')
    axes = figure.subplots()
    for place, column in enumerate(columns):
        left = place + (GAP if column in columns[len(names) :] else 0)
        marks = np.where(partial & (left > len(names)), DAGGER, '')
        _draw_column(axes, left, summary[column].to_numpy(np.float64), marks)
        axes.text(left + 0.5, -0.25, column, rotation=35, ha='left', va='bottom', rotation_mode='anchor', fontsize=9)
    _label_rows(axes, summary)
    axes.set_xlim(0, len(columns) + GAP)
    axes.set_ylim(len(summary), 0)
    figure.suptitle(title, fontsize=11)
    if partial.any():
        figure.supxlabel(f'{DAGGER} over the benchmarks where the score has a value', fontsize=8.5)
    return figure


def _draw_column(axes: Any, left: float, values: NDArray[Any], marks: NDArray[Any]) -> None:
    """A cell a score, with its number; grey where there is none."""
    from matplotlib import colormaps

    colors = colormaps[COLORS].with_extremes(bad='0.93')
    edges = np.arange(len(values) + 1)
    cells = np.ma.masked_invalid(values[:, None])
    axes.pcolormesh([left, left + 1], edges, cells, cmap=colors, vmin=-1, vmax=1, edgecolors='white', linewidth=0.8)
    for row, (value, mark) in enumerate(zip(values, marks)):
        ink = '0.55' if np.isnan(value) else 'white' if abs(value) > DARK else 'black'
        axes.text(left + 0.5, row + 0.5, correlation_text(value) + mark, ha='center', va='center', fontsize=8.5, color=ink)


def _label_rows(axes: Any, summary: pd.DataFrame) -> None:
    axes.set_yticks(np.arange(len(summary)) + 0.5, summary.score, fontsize=9)
    for label, kind in zip(axes.get_yticklabels(), summary.kind):
        label.set_fontstyle('italic' if kind == 'baseline' else 'normal')
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_facecolor('white')
    axes.spines[:].set_visible(False)
