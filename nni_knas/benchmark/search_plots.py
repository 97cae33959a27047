"""Pictures of searches on tables; they need matplotlib, which is optional."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nni_knas.benchmark.search_protocol import Task, Traces
from nni_knas.benchmark.search_summary import LEARNED, kind_of_search

__all__ = ['plot_searches']

COLUMNS = 4
LABELS = {'percentile': 'rank of the best trained, % of the candidates', 'metric': 'metric of the best trained'}


def plot_searches(traces: Mapping[Task, Traces], names: Sequence[str], folder: Path) -> list[Path]:
    """Two pictures, as PNG and SVG: a panel a task, percentile and metric of the best against the number of trainings.

    Parameters
    ----------
    traces
        What :func:`~nni_knas.benchmark.search_protocol.search_all` gives.
    names
        The searches that are shown: fixed choices dashed, the learner thick. One that depends on the budget has a dot for
        each that it was run with.
    folder
        The folder that the pictures go to.
    """
    paths = []
    for kind in LABELS:
        figure = _draw(traces, names, kind)
        for suffix in ('png', 'svg'):
            paths.append(folder / f'search-{kind}.{suffix}')
            figure.savefig(paths[-1], dpi=110)
    return paths


def _draw(traces: Mapping[Task, Traces], names: Sequence[str], kind: str) -> Any:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(traces))
    rows = math.ceil(len(traces) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.8), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False)
    styles = _styles(names)
    for axes, (task, each) in zip(grid.flat, traces.items()):
        means = {
            name: (100 * each.ranks[name] / each.candidates if kind == 'percentile' else each.best[name]).mean(axis=0)
            for name in names
        }
        for name, values in means.items():
            known = np.flatnonzero(np.isfinite(values))
            axes.plot(known + 1, values[known], label=name, marker='.' if len(known) < len(values) else '', **styles[name])
        axes.set_title(' '.join(task), fontsize=9)
        _scale(axes, kind, np.array(list(means.values())))
    for axes in grid.flat[len(traces) :]:
        axes.set_axis_off()
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc='outside upper center', ncols=6, fontsize=9)
    figure.supxlabel('trainings', fontsize=9)
    figure.supylabel(LABELS[kind], fontsize=9)
    return figure


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each a colour of its own, the same whatever their order, and a line."""
    from matplotlib import colormaps

    colors = {name: colormaps['tab20'](2 * number % 19) for number, name in enumerate(sorted(set(names) - {LEARNED}))}
    return {
        name: {'color': 'black', 'linewidth': 2.4, 'zorder': 3}
        if name == LEARNED
        else {'color': colors[name], 'linewidth': 1.2, 'linestyle': '-' if kind_of_search(name) == 'search' else '--'}
        for name in names
    }


def _scale(axes: Any, kind: str, means: NDArray[Any]) -> None:
    """Percentiles on a logarithmic axis; of metrics what is after an eighth of the trainings, since they begin far below."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    if kind == 'percentile':
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    later = means[:, math.ceil(means.shape[1] / 8) - 1 :]
    low, high = np.nanmin(later), np.nanmax(later)
    if high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
