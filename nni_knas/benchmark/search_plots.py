"""Pictures of searches on tables; they need matplotlib, which is optional."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nni_knas.benchmark.search_protocol import Task, Traces

__all__ = ['plot_searches']

COLUMNS = 4


def plot_searches(traces: Mapping[Task, Traces], names: Sequence[str], folder: Path) -> list[Path]:
    """Two pictures, as PNG and SVG: a panel a task, percentile and metric of the best against the number of trainings.

    Parameters
    ----------
    traces
        What :func:`~nni_knas.benchmark.search_protocol.search_all` gives.
    names
        The searches that are shown. One that depends on the budget has a dot for each that it was run with.
    folder
        The folder that the pictures go to.
    """
    kinds = {
        'percentile': 'rank of the best trained, % of the candidates',
        'metric': 'metric of the best trained',
    }
    paths = []
    for kind, label in kinds.items():
        figure = _draw(traces, names, kind, label)
        for suffix in ('png', 'svg'):
            paths.append(folder / f'search-{kind}.{suffix}')
            figure.savefig(paths[-1], dpi=110)
    return paths


def _draw(traces: Mapping[Task, Traces], names: Sequence[str], kind: str, label: str) -> Any:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(traces))
    rows = math.ceil(len(traces) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.8), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (task, each) in zip(grid.flat, traces.items()):
        for number, name in enumerate(names):
            means = (100 * each.ranks[name] / each.candidates if kind == 'percentile' else each.best[name]).mean(axis=0)
            known = np.flatnonzero(np.isfinite(means))
            style = {'linewidth': 2.2 if number == 0 else 1.1, 'marker': '.' if len(known) < len(means) else ''}
            axes.plot(known + 1, means[known], label=name, color=f'C{number}' if number < 10 else 'black', **style)
        axes.set_title(' '.join(task), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        if kind == 'percentile':
            axes.set_yscale('log')
    for axes in grid.flat[len(traces) :]:
        axes.set_axis_off()
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc='outside upper center', ncols=6, fontsize=9)
    figure.supxlabel('trainings', fontsize=9)
    figure.supylabel(label, fontsize=9)
    return figure
