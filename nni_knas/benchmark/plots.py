"""Pictures of scores against accuracies; they need matplotlib, which is optional."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.benchmark.ranking import ranks_of

__all__ = ['have_matplotlib', 'plot_scores', 'plot_search']

COLUMNS = 4
COLORS = {'score': 'tab:blue', 'baseline': 'tab:gray', 'reference': 'tab:green'}


def have_matplotlib() -> bool:
    """Whether pictures can be made."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def plot_scores(results: pd.DataFrame, scores: pd.DataFrame, metric: str, title: str, folder: Path) -> list[Path]:
    """Two pictures of one metric: a panel a score, score against accuracy and rank against rank.

    Parameters
    ----------
    results
        The table that :func:`~nni_knas.benchmark.correlation.correlation_table` gives; the order of the panels is its own.
    scores
        The table that :func:`~nni_knas.benchmark.correlation.score_table` gives; of several seeds the first is shown.
    metric
        Column of the accuracies.
    title
        What was measured.
    folder
        The folder that the pictures go to.
    """
    rows = results[results.metric == metric]
    accuracy = scores[metric].to_numpy()
    panels = [(row, _first_seed(scores, str(row.score))) for row in rows.itertuples()]

    def score_panel(axes: Any, values: NDArray[Any]) -> None:
        fit = np.isfinite(values)
        axes.scatter(values[fit], accuracy[fit], **_dot_style(int(fit.sum())), color=axes.color)
        _scale_axis(axes, values[fit])
        low = np.quantile(accuracy, 0.05)  # a few that learned nothing would press the others together
        axes.set_ylim(low - 0.15 * (accuracy.max() - low) - 1e-9, accuracy.max() + 0.05 * (accuracy.max() - low) + 1e-9)

    def rank_panel(axes: Any, values: NDArray[Any]) -> None:
        places = [len(values) + 1 - ranks_of(each) for each in (values, accuracy)]
        axes.scatter(*places, **_dot_style(len(values)), color=axes.color)
        axes.plot([1, len(values)], [1, len(values)], color='black', linewidth=0.6, alpha=0.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True, nbins=6)
        axes.invert_xaxis()
        axes.invert_yaxis()

    return [
        _save_figure(
            panels,
            score_panel,
            'score',
            f'{metric} (%)',
            f'Score against {metric}; {title}\n(the lowest 5 % of accuracies may lie below the panels)',
            folder / f'score-{metric}.png',
        ),
        _save_figure(
            panels,
            rank_panel,
            'rank by score (1 is the best)',
            f'rank by {metric}',
            f'Rank against rank; {title}',
            folder / f'rank-{metric}.png',
        ),
    ]


def plot_search(results: pd.DataFrame, metric: str, title: str, folder: Path) -> list[Path]:
    """What the search finds by each score: mean and deviation over the repeats, a panel a ``k``.

    Parameters
    ----------
    results
        The table that :func:`~nni_knas.benchmark.protocol.search_table` gives.
    metric
        Which of its metrics is shown.
    title
        What was measured.
    folder
        The folder that the pictures go to.
    """
    from matplotlib.figure import Figure

    blocks = [(k, block[::-1]) for k, block in results[results.metric == metric].groupby('k', sort=False)]
    figure = Figure(figsize=(5.5 * len(blocks), 1.5 + 0.26 * len(blocks[0][1])), layout='constrained')
    for axes, (k, block) in zip(np.ravel(figure.subplots(1, len(blocks))), blocks):
        colors = [COLORS[kind] for kind in block.kind]
        axes.errorbar(
            block['mean'], range(len(block)), xerr=block.deviation.fillna(0), fmt='none', ecolor=colors, elinewidth=1.2
        )
        axes.scatter(block['mean'], range(len(block)), c=colors, zorder=3)
        axes.set_yticks(range(len(block)), block.score)
        axes.set_xlabel(f'{metric} (%)')
        axes.set_title(f'k = {k}', fontsize=10)
        axes.grid(axis='x', alpha=0.3)
    figure.suptitle(title, fontsize=11)
    path = folder / f'knas-{metric}.png'
    figure.savefig(path, dpi=110)
    return [path]


def _save_figure(
    panels: list[tuple[Any, NDArray[Any]]], draw: Callable[[Any, NDArray[Any]], None], x: str, y: str, title: str, path: Path
) -> Path:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.9 * rows + 0.6), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (row, values) in zip(grid.flat, panels):
        axes.color = COLORS[row.kind]
        draw(axes, values)
        axes.set_title(
            f'{row.score}{" (baseline)" if row.kind == "baseline" else ""}\n'
            rf'$\rho$ {row.spearman:.2f}, $\tau$ {row.kendall:.2f}',
            fontsize=9,
        )
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(y, fontsize=9)
    figure.savefig(path, dpi=110)
    return path


def _first_seed(scores: pd.DataFrame, name: str) -> NDArray[Any]:
    column = next(column for column in scores.columns if column == name or column.startswith(f'{name}@'))
    return scores[column].to_numpy(np.float64)


def _dot_style(count: int) -> dict[str, Any]:
    return {'s': 14 if count < 200 else 5, 'alpha': 0.7 if count < 200 else 0.35, 'linewidths': 0}


def _scale_axis(axes: Any, values: NDArray[Any]) -> None:
    """A logarithmic axis where a linear one would lay most of the values on top of each other."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    sizes = np.abs(values[values != 0])
    if len(sizes) and sizes.max() > 20 * np.median(sizes):
        if (values > 0).all():
            axes.set_xscale('log')
        else:
            axes.set_xscale('symlog', linthresh=np.median(sizes))
            ends = [values.min(), 0.0, values.max()]  # the axis' own ticks run into one another around 0
            axes.set_xticks(ends, [f'{end:.1g}' for end in ends])
            axes.minorticks_off()
        return
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if len(sizes) and sizes.max() >= 1e4:
        axes.xaxis.set_major_formatter(EngFormatter(sep=''))
