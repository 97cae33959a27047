"""Figures of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from nni_knas.footprint import Footprint
from nni_knas.networks import COSTS
from nni_knas.plots.common import (
    BLUE,
    DASHES,
    ENERGIES,
    GREEN,
    GREY,
    MOST_POINTS,
    NO_SCORE,
    ORANGE,
    PALETTE,
    QUICK,
    SCORED,
    SKY,
    TRAINED,
    VERMILLION,
    axis,
    counted,
    empty,
    figure_of,
    front_of,
    graph_objects,
    is_wide,
    number_text,
    points_of,
    rated_of,
    thinned,
    ticks,
    unit_of,
    whole_ticks,
)
from nni_knas.plots.statistics import histogram, spearman
from nni_knas.record import Status
from nni_knas.runs import Run, pareto_front

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['plot_costs', 'plot_curves', 'plot_footprint', 'plot_progress', 'plot_ranks', 'plot_scores']

MOST_CURVES = 100
"""Learning curves that a figure draws at most, those of the best metrics."""

_COST_NAMES = {
    'parameters': ('parameters', 'parameters (number)'),
    'flops': ('FLOPs', 'FLOPs of a forward pass of one sample (number)'),
    'memory': ('memory', 'peak memory of a forward pass of one sample (bytes)'),
    'latency': ('latency', 'latency of a forward pass of one sample (s)'),
    'seconds': ('scoring time', 'time of building and scoring (s)'),
    'training_seconds': ('training time', 'training time (s)'),
    'training_kwh': ('training energy', 'energy of training (kWh)'),
}


class _Panel(NamedTuple):
    """A part of a figure, for full scores or for quick ones."""

    column: str
    title: str
    number: str
    """What Plotly adds to the names of its axes"""


def plot_scores(source: Any) -> Figure:
    """The distribution of scores, and where in it the top k and the trained candidates lie.

    Bars count all candidates; below them is a mark for each.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.

    Raises
    ------
    ValueError
        If plotly is not installed.
    """
    graph_objects()
    run = Run.of(source)
    rated, title = rated_of(run), f'Scores of {run.name}'
    if not len(rated):
        return empty(title, NO_SCORE)
    drawn, note = thinned(rated)
    panels = _panels_of(rated)
    bars = [_score_bars(run, rated, panel) for panel in panels]
    marks = [_candidate_marks(run, drawn, panel) for panel in panels]
    traces = _legend_once([trace for each in zip(bars, marks) for part in each for trace in part])
    figure = figure_of(traces, title, '', '', [counted(rated), note], barmode='overlay', **_figure_height(panels))
    for panel, (low, high), (bar, *_) in zip(panels, _panel_domains(panels, 0.12), bars):
        scale = ticks(rated[panel.column].dropna())
        scale['range'] = _range_around(bar, scale['type'])
        figure.update_layout(
            {
                f'xaxis{panel.number}': axis(panel.title) | scale | {'anchor': f'y1{panel.number}'},
                f'yaxis{panel.number}': axis('candidates (number)')
                | whole_ticks(max(bar.y))
                | {'anchor': f'x{panel.number}', 'domain': [low + 0.2 * (high - low), high]},
                f'yaxis1{panel.number}': {
                    'domain': [low, low + 0.16 * (high - low)],
                    'range': [-0.7, 1.7],
                    'visible': False,
                    'fixedrange': True,
                    'anchor': f'x{panel.number}',
                },
            }
        )
    return figure


def plot_progress(source: Any) -> Figure:
    """Scores in the order of exploration, and the best one so far.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.

    Raises
    ------
    ValueError
        If plotly is not installed.
    """
    go = graph_objects()
    run = Run.of(source)
    rated, title = rated_of(run), f'Progress of {run.name}'
    if not len(rated):
        return empty(title, NO_SCORE)
    drawn, note = thinned(rated)
    panels = _panels_of(rated)
    x, best = _best_so_far(rated, panels[0].column)
    traces = [
        *_panel_points(run, drawn, 'candidate', panels),
        go.Scatter(
            x=x,
            y=best,
            mode='lines',
            name='best so far',
            hoverinfo='x+y+name',
            yaxis=f'y{panels[0].number}',
            line={'color': GREEN, 'shape': 'hv', 'width': 2},
        ),
    ]
    figure = figure_of(traces, title, 'candidate (number in the order of exploration)', '', [counted(rated), note])
    return _with_panels(figure, rated, panels)


def plot_costs(source: Any, cost: str | None = None) -> Figure:
    """Score against what a candidate costs, with the candidates that no other one beats in both.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.
    cost
        ``'parameters'``, ``'flops'``, ``'memory'`` or ``'latency'`` (:data:`nni_knas.networks.COSTS`), ``'seconds'`` (of
        building and scoring), ``'training_seconds'`` or ``'training_kwh'``. Default: all that the run knows, to choose from
        in a menu. Parameters and FLOPs that were not recorded are measured, as far as the space can be built again.

    Raises
    ------
    ValueError
        If there is no such cost, or plotly is not installed.
    """
    if cost is not None and cost not in _COST_NAMES:
        raise ValueError(f'unknown cost {cost!r}: it is one of {", ".join(_COST_NAMES)}')
    graph_objects()
    run = Run.of(source)
    what = f'Score and {_COST_NAMES[cost][0]}' if cost else 'Score and cost'
    rated, title = rated_of(run), f'{what} of {run.name}'
    if not len(rated):
        return empty(title, NO_SCORE)
    known = [name for name in ([cost] if cost else _COST_NAMES) if rated[name].notna().any()]
    if not known:
        return empty(title, f'no candidate with a score has its {_COST_NAMES[cost or "parameters"][0]} recorded')
    drawn, note = thinned(rated)
    panels = _panels_of(rated[rated[known].notna().any(axis=1)])
    traces = {
        name: [*_panel_points(run, drawn[drawn[name].notna()], name, panels), *_front_line(rated, name)] for name in known
    }
    for name in known:
        for trace in traces[name]:
            trace.visible = name == known[0]
    figure = figure_of([trace for each in traces.values() for trace in each], title, _COST_NAMES[known[0]][1], '', [note])
    _with_panels(figure, rated, panels)
    axes = {name: ticks(rated[name].dropna()) for name in known}
    figure.update_xaxes(axes[known[0]])
    if len(known) > 1:
        owners = [name for name in known for _ in traces[name]]
        buttons = [
            {
                'label': _COST_NAMES[name][0],
                'method': 'update',
                'args': [
                    {'visible': [owner == name for owner in owners]},
                    {
                        'xaxis.title.text': _COST_NAMES[name][1],
                        'xaxis.autorange': True,
                        **{f'xaxis.{key}': value for key, value in axes[name].items()},
                    },
                ],
            }
            for name in known
        ]
        # Plotly paints the chosen entry almost white: the menu has a background and a text colour of its own throughout.
        figure.update_layout(
            margin_t=figure.layout.margin.t + 40,
            updatemenus=[
                {
                    'buttons': buttons,
                    'x': 0,
                    'xanchor': 'left',
                    'y': 1,
                    'yanchor': 'bottom',
                    'pad': {'b': 8},
                    'bgcolor': '#F4FAFF',
                    'bordercolor': GREY,
                    'font': {'color': '#222222'},
                }
            ],
        )
    return figure


def plot_curves(source: Any) -> Figure:
    """The learning curves of the fine stage, a line a candidate, named by its rank by score; the winner's is the thickest.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.

    Raises
    ------
    ValueError
        If plotly is not installed.
    """
    go = graph_objects()
    run = Run.of(source)
    curves, title = run.curves(), f'Learning curves of {run.name}'
    curves = curves[curves.metric.notna()]
    if not len(curves):
        return empty(
            title,
            'the evaluator has reported no intermediate metric yet'
            if len(run.ranking(all=True))
            else 'no candidate is in training yet',
        )
    frame = run.frame().set_index('candidate', drop=False)
    place = {number: i for i, number in enumerate(frame.index)}
    order = [
        *run.ranking(all=True).candidate,
        *sorted(curves.candidate.unique(), key=place.__getitem__),
    ]
    order = [number for number in dict.fromkeys(order) if number in set(curves.candidate)]
    drawn = order[:MOST_CURVES]
    each = max(2, MOST_POINTS // len(drawn))
    rank_of = dict(zip(curves.candidate, curves['rank']))
    lines = {
        number: _evenly_thinned(line.sort_values('step'), each)
        for number, line in curves[curves.candidate.isin(drawn)].groupby('candidate')
    }
    traces = []
    for i, number in enumerate(drawn):
        row, line = frame.loc[number], lines[number]
        color, dash = PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)]
        state = {Status.TRAINED: '', Status.TRAINING_FAILED: ' (failed)'}.get(row.status, ' (in training)')
        name = f'rank {rank_of[number]}{state}'
        final = '' if pd.isna(row.metric) else f'<br>{run.metric_name} {row.metric:.5g} in the end'
        traces.append(
            go.Scatter(
                x=line.step,
                y=line.metric,
                name=name,
                mode='lines+markers' if len(line) < 30 else 'lines',
                customdata=np.full(len(line), number),
                marker={'size': 5},
                line={'color': color, 'dash': dash, 'width': 4 if number == order[0] else 1.5},
                hovertemplate=f'{name}, candidate {number}<br>step %{{x}}: %{{y:.5g}}{final}<extra></extra>',
            )
        )
    note = f'the {len(drawn)} best of {len(order):,} curves are drawn' if len(drawn) < len(order) else ''
    silent = len(run.ranking(all=True)) - len(set(run.ranking(all=True).candidate) & set(order))
    quiet = f'{silent} trained without intermediate metrics' if silent else ''
    figure = figure_of(traces, title, 'step (intermediate report)', run.metric_name, [note, quiet])
    figure.update_xaxes(whole_ticks(curves.step.max()))
    return figure


def plot_ranks(source: Any) -> Figure:
    """The rank by score against the rank by metric among the trained candidates, with Spearman's correlation.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.

    Raises
    ------
    ValueError
        If plotly is not installed.
    """
    go = graph_objects()
    run = Run.of(source)
    trained, title = run.ranking(all=True), f'Score and training of {run.name}'
    if not len(trained):
        return empty(title, 'no candidate is trained yet')
    trained = trained.assign(kind=TRAINED.name)
    better = -1 if run.optimize_mode == 'minimize' else 1
    # Ranks say more of a mixture of full and quick scores than their values, which have scales of their own.
    values = trained.score if trained.score.notna().all() else pd.Series(-trained.index, trained.index)
    by_metric = stats.rankdata(-better * trained.metric, 'min')
    line = go.Scatter(
        x=sorted(trained.index),
        y=np.arange(1, len(trained) + 1),
        mode='lines',
        name='the same order',
        hoverinfo='skip',
        line={'color': GREY, 'dash': 'dot', 'width': 1},
    )
    figure = figure_of(
        [line, *points_of(run, trained, trained.index, by_metric)],
        title,
        'rank by score (1 is the best)',
        f'rank by {run.metric_name} (1 is the best)',
        [spearman(values, better * trained.metric)[2]],
    )
    figure.update_xaxes(whole_ticks(trained.index.max()))
    figure.update_yaxes(whole_ticks(len(trained)))
    return figure


def plot_footprint(source: Any) -> Figure:
    """The energy of the two stages by component, and beside it the estimate of training all candidates with its interval.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.

    Raises
    ------
    ValueError
        If plotly is not installed.
    """
    graph_objects()
    run = Run.of(source)
    footprint, title = run.footprint(), f'Energy of {run.name}'
    stages = footprint.stages
    if not stages.kwh.sum() > 0:
        return empty(title, 'no energy was recorded yet')
    estimate = footprint.estimate
    size, unit = unit_of(stages.kwh.max(), ENERGIES)
    figure = figure_of(
        [*_component_bars(footprint, size, unit), *(_estimate_bars(footprint) if estimate else [])],
        title,
        f'energy ({unit})',
        'stage',
        [footprint.statement],
        barmode='stack',
    )
    figure.update_layout(xaxis_rangemode='tozero', yaxis={'showgrid': False, 'autorange': 'reversed'})
    if estimate is not None:
        unit = unit_of(estimate.kwh, ENERGIES)[1]
        figure.update_layout(
            yaxis_domain=[0.62, 1],
            xaxis2=axis(f'energy ({unit})') | {'rangemode': 'tozero', 'anchor': 'y2'},
            yaxis2=axis('estimate') | {'domain': [0, 0.38], 'anchor': 'x2', 'showgrid': False, 'autorange': 'reversed'},
        )
    return figure


def _panels_of(rated: pd.DataFrame) -> list[_Panel]:
    """One for the scores at full effort, and one below it for quick scores where there are candidates with these alone."""
    there = {'score': rated.score.notna().any(), 'quick': rated.score.isna().any()}
    titles = {'score': 'score', 'quick': 'quick score'}
    shown = [column for column in titles if there[column]]
    return [_Panel(column, titles[column], str(number)) for number, column in enumerate(shown, start=1)]


def _panel_domains(panels: Sequence[_Panel], gap: float) -> list[tuple[float, float]]:
    """The lower and the upper end of each panel, as parts of the figure's height."""
    return [(0, 1)] if len(panels) == 1 else [(0.5 + gap / 2, 1), (0, 0.5 - gap / 2)]


def _with_panels(figure: Figure, rated: pd.DataFrame, panels: Sequence[_Panel]) -> Figure:
    """The figure with an axis of scores for each panel, over the same other axis."""
    for panel, domain in zip(panels, _panel_domains(panels, 0.06)):
        scale = ticks(rated[panel.column].dropna())
        figure.update_layout({f'yaxis{panel.number}': axis(panel.title) | scale | {'domain': domain}})
    return figure.update_layout(xaxis_anchor=f'y{panels[-1].number}', **_figure_height(panels))


def _figure_height(panels: Sequence[_Panel]) -> dict[str, int]:
    return {'height': 540} if len(panels) > 1 else {}


def _score_bars(run: Run, rated: pd.DataFrame, panel: _Panel) -> list[Any]:
    """The histogram of a panel's scores, and the lowest one that was chosen."""
    go = graph_objects()
    part = rated[rated[panel.column].notna()]
    counts, edges = histogram(part[panel.column], is_wide(part[panel.column]))
    axes = {'xaxis': f'x{panel.number}', 'yaxis': f'y{panel.number}'}
    text = [
        f'{count:,} {panel.title}s from {number_text(low)} to {number_text(high)}'
        for count, low, high in zip(counts, edges, edges[1:])
    ]
    color = BLUE if panel.column == 'score' else SKY
    traces = [
        go.Bar(
            x=edges[:-1],
            width=np.diff(edges),
            offset=0,
            y=counts,
            name=f'{panel.title}s',
            hovertext=text,
            hoverinfo='text',
            opacity=0.8,
            marker={'color': color, 'line': {'width': 0}},
            **axes,
        )
    ]
    cut = part.score[part.top].min()
    if panel.column == 'score' and pd.notna(cut) and not front_of(run):
        traces.append(
            go.Scatter(
                x=[cut, cut],
                y=[0, counts.max()],
                mode='lines',
                hoverinfo='name',
                name=f'top {run.top_k} from {number_text(cut)}',
                line={'color': VERMILLION, 'dash': 'dash', 'width': 2},
                **axes,
            )
        )
    return traces


def _range_around(bar: Any, scale: str) -> list[float]:
    """The range of an axis that shows all bars; by itself Plotly goes much further to the left on a logarithmic one."""
    ends = np.array([bar.x[0], bar.x[-1] + bar.width[-1]])
    low, high = np.log10(ends) if scale == 'log' else ends
    return [low - 0.04 * (high - low), high + 0.04 * (high - low)]


def _candidate_marks(run: Run, drawn: pd.DataFrame, panel: _Panel) -> list[Any]:
    """A mark a candidate, below the bars; those that were chosen lie above the others."""
    part = drawn[drawn[panel.column].notna()]
    lane = np.where(part.kind.isin([QUICK.name, SCORED.name]), 0, 1)
    traces = points_of(run, part, part[panel.column], lane, xaxis=f'x{panel.number}', yaxis=f'y1{panel.number}')
    for trace in traces:
        if trace.name in (QUICK.name, SCORED.name):
            trace.marker.update(symbol='line-ns-open', size=9, opacity=0.8)
            trace.showlegend = False
    return traces


def _panel_points(run: Run, drawn: pd.DataFrame, x: str, panels: Sequence[_Panel]) -> list[Any]:
    """The scores of all panels against a column."""
    parts = [(panel, drawn[drawn[panel.column].notna()]) for panel in panels]
    return _legend_once(
        [
            trace
            for panel, part in parts
            for trace in points_of(run, part, part[x], part[panel.column], yaxis=f'y{panel.number}')
        ]
    )


def _legend_once(traces: list[Any]) -> list[Any]:
    """The traces; those of one name are one entry of the legend."""
    names = [trace.name for trace in traces]
    for i, trace in enumerate(traces):
        trace.update(legendgroup=trace.name, showlegend=trace.showlegend is not False and trace.name not in names[:i])
    return traces


def _best_so_far(rated: pd.DataFrame, column: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The candidates at which the best score of a column changes, and the last one, with that score."""
    explored = rated[rated[column].notna()].sort_values('candidate')
    best = explored[column].cummax().to_numpy()
    steps = np.flatnonzero(np.r_[True, np.diff(best) > 0])
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round().astype(int))]
    return np.r_[explored.candidate.to_numpy()[steps], rated.candidate.max()], np.r_[best[steps], best[-1]]


def _front_line(rated: pd.DataFrame, cost: str) -> list[Any]:
    """The Pareto front of score against a cost of the network; there is none of times, which chance has a part in."""
    if cost not in COSTS or not (rated.score.notna() & rated[cost].notna()).any():
        return []
    front = pareto_front(rated, cost)
    front = front.drop_duplicates(cost)
    return [
        graph_objects().Scatter(
            x=front[cost].to_numpy(),
            y=front.score.to_numpy(),
            mode='lines',
            name='Pareto front',
            customdata=front.index.to_numpy(),
            hoverinfo='skip',
            line={'color': GREEN, 'shape': 'hv', 'width': 2},
        )
    ]


def _evenly_thinned(line: pd.DataFrame, most: int) -> pd.DataFrame:
    return line if len(line) <= most else line.iloc[np.linspace(0, len(line) - 1, most).round().astype(int)]


def _component_bars(footprint: Footprint, size: float, unit: str) -> list[Any]:
    """The energy of each component, by stage, in units of so many kWh."""
    traces = []
    for component, name, color in (('cpu', 'CPU', BLUE), ('gpu', 'GPU', VERMILLION), ('memory', 'memory', GREEN)):
        used = footprint.stages[f'{component}_kwh'].fillna(0) / size
        known = footprint.methods.get(component, '').split(' (')[0]
        if used.sum() > 0:
            traces.append(
                graph_objects().Bar(
                    y=list(used.index),
                    x=used,
                    name=f'{name} ({known})' if known else name,
                    orientation='h',
                    marker={'color': color},
                    hovertemplate=f'{name} of the %{{y}} stage: %{{x:.4g}} {unit}<extra></extra>',
                )
            )
    return traces


def _estimate_bars(footprint: Footprint) -> list[Any]:
    """The energy of the run, and what training every candidate would have taken, with its interval."""
    estimate = footprint.estimate
    assert estimate is not None
    size, unit = unit_of(estimate.kwh, ENERGIES)
    used, total, low, high = (kwh / size for kwh in (footprint.kwh, estimate.kwh, estimate.low, estimate.high))
    interval = '' if np.isnan(low) else f'<br>{low:.3g} to {high:.3g} {unit}'
    error = {
        'type': 'data',
        'symmetric': False,
        'array': [high - total],
        'arrayminus': [total - low],
        'color': VERMILLION,
        'thickness': 2,
    }
    common = {'xaxis': 'x2', 'yaxis': 'y2', 'orientation': 'h', 'showlegend': False, 'hoverinfo': 'y'}
    bar = graph_objects().Bar
    return [
        bar(y=[f'this run<br>{used:.3g} {unit}'], x=[used], name='this run', marker={'color': ORANGE}, **common),
        bar(
            y=[f'training all<br>{total:.3g} {unit}{interval}'],
            x=[total],
            name='estimate of training all',
            marker={'color': GREY},
            error_x=error,
            **common,
        ),
    ]
