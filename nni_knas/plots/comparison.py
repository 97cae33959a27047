"""Figures of several runs side by side."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from nni_knas.plots.common import (
    BLUE,
    ENERGIES,
    NO_SCORE,
    ORANGE,
    PALETTE,
    TRAINED,
    VERMILLION,
    empty,
    figure_of,
    graph_objects,
    hover_texts,
    rated_of,
    run_names,
    thinned,
    ticks,
    unit_of,
)
from nni_knas.runs import Run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['Comparison', 'plot_comparison']

Comparison = Literal['metric', 'score', 'kwh', 'co2_kg', 'seconds']

_STAGES: dict[str, tuple[str, dict[str, float]]] = {
    'kwh': ('energy', ENERGIES),
    'co2_kg': ('CO2-equivalent', {'mg': 1e-6, 'g': 1e-3, 'kg': 1.0}),
    'seconds': ('time', {'s': 1.0, 'min': 60.0, 'h': 3600.0}),
}


def plot_comparison(sources: Iterable[Any], what: Comparison = 'metric') -> Figure:
    """Several runs side by side.

    Parameters
    ----------
    sources
        Runs, each what :meth:`nni_knas.runs.Run.of` takes.
    what
        ``'metric'``: of the trained candidates; ``'score'``: of all candidates that have a full one; ``'kwh'``,
        ``'co2_kg'``, ``'seconds'``: what the two stages took.

    Raises
    ------
    ValueError
        If there is no run or no such comparison, or plotly is not installed.
    """
    if what not in get_args(Comparison):
        raise ValueError(f'unknown comparison {what!r}: it is one of {", ".join(get_args(Comparison))}')
    runs = [Run.of(source) for source in sources]
    if not runs:
        raise ValueError('there is no run to compare: give one or more')
    graph_objects()
    names = run_names(runs)
    return _compare_stages(runs, names, what) if what in _STAGES else _compare_candidates(runs, names, what)


def _compare_candidates(runs: Sequence[Run], names: Sequence[str], what: str) -> Figure:
    of_metric = what == 'metric'
    traces, every, notes = [], [], []
    for i, (run, name) in enumerate(zip(runs, names)):
        part = rated_of(run)
        part = part[(part.kind == TRAINED.name) & part.metric.notna()] if of_metric else part[part.score.notna()]
        if len(part):
            drawn, note = thinned(part)
            every.append(part[what])
            notes.append(f'{name}: {note}' if note else '')
            best = part.sort_values(what, ascending=of_metric and run.optimize_mode == 'minimize', kind='stable')[:1]
            traces += [_candidates_box(run, name, drawn, what, PALETTE[i % len(PALETTE)]), _best_star(run, name, best, what)]
    metrics = sorted({run.metric_name for run in runs})
    title = f'{"Trained metrics" if of_metric else "Scores"} by run'
    if not traces:
        return empty(title, 'no run has a trained candidate yet' if of_metric else NO_SCORE)
    for trace in traces[3::2]:
        trace.showlegend = False
    figure = figure_of(
        traces,
        title,
        ' or '.join(metrics) if of_metric else 'score',
        'run',
        [*notes, '' if of_metric else _different_scales_note(runs)],
    )
    figure.update_xaxes(ticks(pd.concat(every)))
    return _with_a_row_each(figure, names)


def _candidates_box(run: Run, name: str, drawn: pd.DataFrame, what: str, color: str) -> Any:
    return graph_objects().Box(
        y=[name] * len(drawn),
        x=drawn[what].to_numpy(),
        name=name,
        orientation='h',
        boxpoints='all',
        jitter=0.5,
        pointpos=0,
        marker={'color': color, 'size': 4, 'opacity': 0.6},
        customdata=drawn.index.to_numpy(),
        hoverinfo='text',
        hoveron='points',
        line={'width': 1.5},
        hovertext=hover_texts(drawn, run.metric_name),
        showlegend=False,
    )


def _best_star(run: Run, name: str, best: pd.DataFrame, what: str) -> Any:
    return graph_objects().Scatter(
        y=[name],
        x=best[what].to_numpy(),
        mode='markers',
        name='best',
        legendgroup='best',
        hoverinfo='text',
        marker={'symbol': 'star', 'size': 14, 'color': VERMILLION},
        hovertext=hover_texts(best, run.metric_name),
    )


def _different_scales_note(runs: Sequence[Run]) -> str:
    scores = sorted({str(run.configuration().get('score')) for run in runs})
    return f'values of different scores do not compare: {", ".join(scores)}' if len(scores) > 1 else ''


def _compare_stages(runs: Sequence[Run], names: Sequence[str], what: str) -> Figure:
    name, units = _STAGES[what]
    title = f'{name[0].upper()}{name[1:]} by run'
    used = pd.DataFrame([run.footprint().stages[what] for run in runs], index=list(names))
    highest = used.sum(axis=1).max()
    if not highest > 0:
        return empty(title, f'no {name} was recorded yet')
    size, unit = unit_of(highest, units)
    traces = [
        graph_objects().Bar(
            y=list(names),
            x=used[stage] / size,
            name=f'{stage} stage',
            marker={'color': color},
            orientation='h',
            hovertemplate=f'{stage} stage: %{{x:.4g}} {unit}<extra></extra>',
        )
        for stage, color in (('coarse', BLUE), ('fine', ORANGE))
    ]
    silent = [run for run, kwh in used.sum(axis=1).items() if not kwh > 0]
    note = f'not recorded in {", ".join(map(str, silent))}' if silent else ''
    figure = figure_of(traces, title, f'{name} ({unit})', 'run', [note], barmode='stack')
    figure.update_xaxes(rangemode='tozero')
    return _with_a_row_each(figure, names)


def _with_a_row_each(figure: Figure, names: Sequence[str]) -> Figure:
    """The figure with a row for each run, the first one at the top, and names over several lines where they are long."""
    labels = ['<br>'.join(textwrap.wrap(html.escape(name, quote=False), 20)) for name in names]
    figure.update_yaxes(
        type='category',
        categoryorder='array',
        categoryarray=list(names),
        tickvals=list(names),
        ticktext=labels,
        autorange='reversed',
        showgrid=False,
    )
    return figure.update_layout(height=180 + 55 * len(names))
