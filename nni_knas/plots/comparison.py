"""Figures of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from nni_knas.plots.common import (
    BLUE,
    ENERGIES,
    MOST_SVG_POINTS,
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
    'kwh': ('energy', ENERGIES), 'co2_kg': ('CO2-equivalent', {'mg': 1e-6, 'g': 1e-3, 'kg': 1.}),
    'seconds': ('time', {'s': 1., 'min': 60., 'h': 3600.})}


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
    return _compared_stages(runs, names, what) if what in _STAGES else _compared_candidates(runs, names, what)


def _compared_candidates(runs: Sequence[Run], names: Sequence[str], what: str) -> Figure:
    go = graph_objects()
    of_metric = what == 'metric'
    traces, every, notes = [], [], []
    for i, (run, name) in enumerate(zip(runs, names)):
        rated = rated_of(run)
        part = rated[(rated.kind == TRAINED.name) & rated.metric.notna()] if of_metric else rated[rated.score.notna()]
        if len(part):
            every.append(part[what])
            drawn, note = thinned(part)
            notes.append(f'{name}: {note}' if note else '')
            traces.append(go.Box(x=[name] * len(drawn), y=drawn[what].to_numpy(), name=name, boxpoints='all', jitter=0.5,
                                 pointpos=0, marker={'color': PALETTE[i % len(PALETTE)], 'size': 4, 'opacity': 0.6},
                                 customdata=drawn.index.to_numpy(), hoverinfo='text', hoveron='points', line={'width': 1.5},
                                 hovertext=hover_texts(drawn, run.metric_name, architectures=len(drawn) <= MOST_SVG_POINTS),
                                 showlegend=False))
            best = part.sort_values('metric', ascending=run.optimize_mode == 'minimize') if of_metric else part
            traces.append(go.Scatter(x=[name], y=[best[what].iloc[0]], mode='markers', name='best', legendgroup='best',
                                     marker={'symbol': 'star', 'size': 14, 'color': VERMILLION}, hoverinfo='text',
                                     hovertext=hover_texts(best[:1], run.metric_name, True), showlegend=not traces[1:]))
    metrics = sorted({run.metric_name for run in runs})
    title = f'{"Trained metrics" if of_metric else "Scores"} by run'
    if not traces:
        return empty(title, 'no run has a trained candidate yet' if of_metric else NO_SCORE)
    notes += [] if of_metric else [_same_scale(runs)]
    figure = figure_of(traces, title, 'run', ' or '.join(metrics) if of_metric else 'score', notes)
    figure.update_yaxes(ticks(pd.concat(every)))
    return figure


def _same_scale(runs: Sequence[Run]) -> str:
    scores = sorted({str(run.configuration().get('score')) for run in runs})
    return f'values of different scores do not compare: {", ".join(scores)}' if len(scores) > 1 else ''


def _compared_stages(runs: Sequence[Run], names: Sequence[str], what: str) -> Figure:
    name, units = _STAGES[what]
    title = f'{name[0].upper()}{name[1:]} by run'
    used = pd.DataFrame([run.footprint().stages[what] for run in runs], index=list(names))
    highest = used.sum(axis=1).max()
    if not highest > 0:
        return empty(title, f'no {name} was recorded yet')
    size, unit = unit_of(highest, units)
    traces = [graph_objects().Bar(x=list(names), y=used[stage] / size, name=f'{stage} stage', marker={'color': color},
                                  hovertemplate=f'{stage} stage of %{{x}}: %{{y:.4g}} {unit}<extra></extra>')
              for stage, color in (('coarse', BLUE), ('fine', ORANGE))]
    figure = figure_of(traces, title, 'run', f'{name} ({unit})', barmode='stack')
    figure.update_yaxes(rangemode='tozero')
    return figure
