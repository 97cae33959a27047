"""Figures of a run, for notebooks and for the report: what the run's record has, as Plotly draws it.

Each function takes a run, however it is named (see :meth:`nni_knas.runs.Run.of`), finished or not, and gives a
``plotly.graph_objects.Figure``. A run that has nothing to draw gives a figure that says so in a sentence.

The figures have no background of their own, and colours of the palette of Okabe and Ito, which read on light and on dark,
and with any colour vision. Text has the colour of Plotly's template: ``plotly.io.templates.default = 'plotly_dark'`` suits a
dark notebook.

Scores and costs that spread over more than two orders of magnitude have a logarithmic axis. Of many candidates
:data:`MOST_POINTS` are drawn, evenly over the ranking, with all of the top k and all that were trained among them; the
figure says so. What is counted or compared (histogram, best so far, correlation) is so on all.

Source of the palette: Okabe and Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats  # type: ignore[import-untyped]

from nni_knas.costs import COSTS
from nni_knas.runs import Run
from nni_knas.selection import chosen, pareto_front

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['architecture_text', 'histogram', 'is_wide', 'number_text', 'plot_comparison', 'plot_costs', 'plot_curves',
           'plot_footprint', 'plot_progress', 'plot_ranks', 'plot_scores', 'spearman']

MOST_POINTS = 5000
"""Candidates that a figure draws at most, but for more of the top k."""
MOST_SVG_POINTS = 2000
"""Points above which a figure is drawn by WebGL, and tells the architectures of the top k alone."""
MOST_CURVES = 100
"""Learning curves that a figure draws at most, those of the best metrics."""
MOST_BINS = 60

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
GREY = '#808080'
GRID = 'rgba(128, 128, 128, 0.25)'
DASHES = ('solid', 'dash', 'dot', 'dashdot')

Comparison = Literal['metric', 'score', 'kwh', 'co2_kg', 'seconds']


class _Kind(NamedTuple):
    """A group of candidates, which are drawn alike."""

    name: str
    color: str
    symbol: str
    size: int


_QUICK = _Kind('quick score only', SKY, 'circle-open', 5)
_SCORED = _Kind('scored', BLUE, 'circle', 5)
_TOP = _Kind('top {k}, not trained', ORANGE, 'diamond', 8)
_FAILED = _Kind('training failed', PURPLE, 'x', 8)
_TRAINED = _Kind('trained', VERMILLION, 'star', 10)
_KINDS = (_QUICK, _SCORED, _TOP, _FAILED, _TRAINED)  # the last is drawn above the others

_COST_NAMES = {'parameters': ('parameters', 'parameters (number)'),
               'flops': ('FLOPs', 'FLOPs of a forward pass of one sample (number)'),
               'memory': ('memory', 'peak memory of a forward pass of one sample (bytes)'),
               'latency': ('latency', 'latency of a forward pass of one sample (s)'),
               'seconds': ('scoring time', 'time of building and scoring (s)'),
               'training_seconds': ('training time', 'training time (s)'),
               'training_kwh': ('training energy', 'energy of training (kWh)')}
_UNITS = {'kwh': 'energy (kWh)', 'co2_kg': 'CO2-equivalent (kg)', 'seconds': 'time (s)'}
_NO_SCORE = 'no candidate has a score yet'


# The figures.

def plot_scores(source: Any) -> Figure:
    """The distribution of scores, and where in it the top k and the trained candidates lie.

    Bars count all candidates; below them is a mark for each. Candidates that have a quick score alone are apart, since quick
    scores have a scale of their own.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.

    Raises
    ------
    ValueError
        If plotly is not installed.
    """
    go = _plotly()
    run = Run.of(source)
    rated, title = _rated(run), f'Scores of {run.name}'
    if not len(rated):
        return _empty(title, _NO_SCORE)
    wide = is_wide(rated.value)
    edges = histogram(rated.value, wide)[1]
    traces, highest, quick = [], 1, rated.score.isna()
    for name, color, part in (('quick scores', SKY, rated[quick]), ('scores', BLUE, rated[~quick])):
        if len(part):
            counts = histogram(part.value, wide, edges)[0]
            highest = max(highest, counts.max())
            text = [f'{count:,} {name} from {number_text(low)} to {number_text(high)}'
                    for count, low, high in zip(counts, edges, edges[1:])]
            traces.append(go.Bar(x=edges[:-1], width=np.diff(edges), offset=0, y=counts, name=name, hovertext=text,
                                 hoverinfo='text', opacity=0.8, marker={'color': color, 'line': {'width': 0}}))
    chosen_ones = rated[rated.top & rated.score.notna()]
    if len(chosen_ones) and not _front(run):
        cut = chosen_ones.score.min()
        traces.append(go.Scatter(x=[cut, cut], y=[0, highest], mode='lines', name=f'top {run.top_k} from {number_text(cut)}',
                                 line={'color': VERMILLION, 'dash': 'dash', 'width': 2}, hoverinfo='name'))
    drawn, note = _thinned(rated)
    lane = np.where(drawn.kind.isin([_QUICK.name, _SCORED.name]), 0, 1)
    for trace in _points(run, drawn, drawn.value, lane):
        if trace.name in (_QUICK.name, _SCORED.name):
            trace.marker.update(symbol='line-ns-open', size=9, opacity=0.5)
            trace.showlegend = False
        traces.append(trace.update(yaxis='y2'))
    figure = _figure(traces, title, 'score', 'candidates (number)', [_counted(rated), note], barmode='overlay')
    figure.update_xaxes(type=_scale(wide), anchor='y2')
    figure.update_layout(yaxis=_whole(highest) | {'domain': [0.2, 1]},
                         yaxis2={'domain': [0, 0.16], 'range': [-0.7, 1.7], 'visible': False, 'fixedrange': True})
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
    go = _plotly()
    run = Run.of(source)
    rated, title = _rated(run), f'Progress of {run.name}'
    if not len(rated):
        return _empty(title, _NO_SCORE)
    drawn, note = _thinned(rated)
    traces = _points(run, drawn, drawn.candidate, drawn.value)
    x, best = _best_so_far(rated)
    traces.append(_scatter(go, len(x))(x=x, y=best, mode='lines', name='best so far', hoverinfo='x+y+name',
                                       line={'color': GREEN, 'shape': 'hv', 'width': 2}))
    figure = _figure(traces, title, 'candidate (number in the order of exploration)', 'score', [_counted(rated), note])
    figure.update_yaxes(type=_scale(is_wide(rated.value)))
    return figure


def plot_costs(source: Any, cost: str | None = None) -> Figure:
    """Score against what a candidate costs, with the candidates that no other one beats in both.

    Parameters
    ----------
    source
        A run: what :meth:`nni_knas.runs.Run.of` takes.
    cost
        ``'parameters'``, ``'flops'``, ``'memory'`` or ``'latency'`` (see :mod:`nni_knas.costs`), ``'seconds'`` (of building
        and scoring), ``'training_seconds'`` or ``'training_kwh'``. Default: all that the run knows, to choose from in a
        menu. Parameters and FLOPs that were not recorded are measured, as far as the space can be built again.

    Raises
    ------
    ValueError
        If there is no such cost, or plotly is not installed.
    """
    if cost is not None and cost not in _COST_NAMES:
        raise ValueError(f'unknown cost {cost!r}: it is one of {", ".join(_COST_NAMES)}')
    _plotly()
    run = Run.of(source)
    rated, title = _rated(run, ('parameters', 'flops') if cost is None else (cost,)), f'Score and cost of {run.name}'
    if not len(rated):
        return _empty(title, _NO_SCORE)
    known = [name for name in ([cost] if cost else _COST_NAMES) if rated[name].notna().any()]
    if not known:
        return _empty(title, f'no candidate with a score has a known {_COST_NAMES[cost or "parameters"][0]} yet')
    drawn, note = _thinned(rated)
    traces: list[Any] = []
    owners: list[str] = []
    for name in known:
        own = [*_points(run, drawn[drawn[name].notna()], name, 'value'), *_front_line(rated, name)]
        traces += [trace.update(visible=name == known[0]) for trace in own]
        owners += [name] * len(own)
    axes = {name: (_COST_NAMES[name][1], _scale(is_wide(rated[name]))) for name in known}
    figure = _figure(traces, title, axes[known[0]][0], 'score', [_counted(rated), note])
    figure.update_xaxes(type=axes[known[0]][1])
    figure.update_yaxes(type=_scale(is_wide(rated.value)))
    if len(known) > 1:
        buttons = [{'label': _COST_NAMES[name][0], 'method': 'update',
                    'args': [{'visible': [owner == name for owner in owners]},
                             {'xaxis.title.text': axes[name][0], 'xaxis.type': axes[name][1], 'xaxis.autorange': True}]}
                   for name in known]
        # Plotly paints the chosen entry almost white: the menu has a background and a text colour of its own throughout.
        figure.update_layout(margin_t=figure.layout.margin.t + 40, updatemenus=[{
            'buttons': buttons, 'x': 0, 'xanchor': 'left', 'y': 1, 'yanchor': 'bottom', 'pad': {'b': 8},
            'bgcolor': '#F4FAFF', 'bordercolor': GREY, 'font': {'color': '#222222'}}])
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
    go = _plotly()
    run = Run.of(source)
    curves, title = run.curves(), f'Learning curves of {run.name}'
    curves = curves[curves.metric.notna()]
    if not len(curves):
        return _empty(title, 'the evaluator has reported no intermediate metric yet' if len(run.ranking()) else
                      'no candidate is in training yet')
    frame = run.scores().set_index('candidate', drop=False)
    order = [*run.ranking().candidate, *sorted(curves.candidate.unique(), key=lambda number: frame.index.get_loc(number))]
    order = [number for number in dict.fromkeys(order) if number in set(curves.candidate)]
    drawn = order[:MOST_CURVES]
    each = max(2, MOST_POINTS // len(drawn))
    rank_of = dict(zip(curves.candidate, curves['rank']))
    lines = {number: _every(line.sort_values('step'), each) for number, line in
             curves[curves.candidate.isin(drawn)].groupby('candidate')}
    kind = _scatter(go, sum(map(len, lines.values())))
    traces = []
    for i, number in enumerate(drawn):
        row, line = frame.loc[number], lines[number]
        color, dash = PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)]
        name = f'rank {rank_of[number]}' + {'trained': '', 'training-failed': ' (failed)'}.get(row.status, ' (in training)')
        final = '' if pd.isna(row.metric) else f'<br>{run.metric_name} {row.metric:.5g} in the end'
        traces.append(kind(x=line.step, y=line.metric, name=name, mode='lines+markers' if len(line) < 30 else 'lines',
                           customdata=np.full(len(line), number), marker={'size': 5},
                           line={'color': color, 'dash': dash, 'width': 4 if number == order[0] else 1.5},
                           hovertemplate=f'{name}, candidate {number}<br>step %{{x}}: %{{y:.5g}}{final}<extra></extra>'))
    note = f'the {len(drawn)} best of {len(order):,} curves are drawn' if len(drawn) < len(order) else ''
    silent = len(run.ranking()) - len(set(run.ranking().candidate) & set(order))
    quiet = f'{silent} trained without intermediate metrics' if silent else ''
    figure = _figure(traces, title, 'step (intermediate report)', run.metric_name, [note, quiet])
    figure.update_xaxes(rangemode='tozero', **_whole(curves.step.max()))
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
    go = _plotly()
    run = Run.of(source)
    trained, title = run.ranking(), f'Score and training of {run.name}'
    if not len(trained):
        return _empty(title, 'no candidate is trained yet')
    trained = trained.assign(value=trained.score.fillna(trained.quick), kind=_TRAINED.name)
    better = -1 if run.optimize_mode == 'minimize' else 1
    # Ranks say more of a mixture of full and quick scores than their values, which have scales of their own.
    values = trained.score if trained.score.notna().all() else pd.Series(-trained.index, trained.index)
    by_metric = stats.rankdata(-better * trained.metric, 'min')
    line = go.Scatter(x=sorted(trained.index), y=np.arange(1, len(trained) + 1), mode='lines', name='the same order',
                      hoverinfo='skip', line={'color': GREY, 'dash': 'dot', 'width': 1})
    figure = _figure([line, *_points(run, trained, trained.index, by_metric)], title, 'rank by score (1 is the best)',
                     f'rank by {run.metric_name} (1 is the best)', [spearman(values, better * trained.metric)[2]])
    figure.update_xaxes(_whole(trained.index.max()))
    figure.update_yaxes(_whole(len(trained)))
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
    go = _plotly()
    run = Run.of(source)
    footprint, title = run.footprint(), f'Energy of {run.name}'
    stages = footprint.stages
    if not stages.kwh.sum() > 0:
        return _empty(title, 'no energy was recorded yet')
    estimate = footprint.estimate
    traces = []
    for component, color in (('cpu', BLUE), ('gpu', VERMILLION), ('memory', GREEN)):
        kwh = stages[f'{component}_kwh'].fillna(0)
        if kwh.sum() > 0:
            name = component.upper() if component != 'memory' else component
            method = html.escape(footprint.methods.get(component, ''), quote=False)
            bar = {'name': f'{name}, {method}' if method else name, 'marker': {'color': color}, 'legendgroup': component,
                   'hovertemplate': f'{name} of %{{x}}: %{{y:.4g}} kWh<extra></extra>'}
            traces.append(go.Bar(x=list(stages.index), y=kwh, **bar))
            if estimate is not None:
                traces.append(go.Bar(x=['this run'], y=[kwh.sum()], xaxis='x2', yaxis='y2', showlegend=False, **bar))
    if estimate is not None:
        interval = '' if np.isnan(estimate.low) else f', {estimate.low:.3g} to {estimate.high:.3g} kWh'
        traces.append(go.Bar(x=['training all'], y=[estimate.kwh], xaxis='x2', yaxis='y2', name='estimate of training all',
                             marker={'color': GREY, 'pattern': {'shape': '/'}}, hovertemplate=
                             f'training all: about {estimate.kwh:.4g} kWh{interval}<extra></extra>', error_y={
                                 'type': 'data', 'symmetric': False, 'array': [estimate.high - estimate.kwh],
                                 'arrayminus': [estimate.kwh - estimate.low], 'color': VERMILLION, 'thickness': 2}))
    figure = _figure(traces, title, 'stage', _UNITS['kwh'], [footprint.statement], barmode='stack')
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(exponentformat='power', rangemode='tozero')
    if estimate is not None:
        figure.update_layout(xaxis_domain=[0, 0.44], xaxis2={'domain': [0.58, 1], 'anchor': 'y2', 'showgrid': False},
                             yaxis2=_axis() | {'exponentformat': 'power', 'rangemode': 'tozero', 'anchor': 'x2'})
    return figure


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
    _plotly()
    names = _names(runs)
    return _compared_stages(runs, names, what) if what in _UNITS else _compared_candidates(runs, names, what)


# What figures have in common.

def architecture_text(architecture: Mapping[str, Any], length: int | None = None) -> str:
    """An architecture (NNI's sample) as short text, of at most so many characters where ``length`` is given."""
    text = ', '.join(f'{name}: {value}' for name, value in architecture.items())
    return text if length is None or len(text) <= length else f'{text[:length - 1]}…'


def number_text(number: float) -> str:
    """A score or a cost as people read it: five digits, or all before the point."""
    return f'{number:,.0f}' if 1e5 <= abs(number) < 1e15 else f'{number:.5g}'


def histogram(values: ArrayLike, wide: bool, edges: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """How many values are in each bin.

    Parameters
    ----------
    values
        ``n`` finite numbers, at least one; positive where ``wide``.
    wide
        Whether bins are of equal width on a logarithmic axis rather than on a linear one.
    edges
        Of the bins. Default: about the square root of ``n`` bins, 10 at least and :data:`MOST_BINS` at most.

    Returns
    -------
    counts, edges
        Shapes ``b`` and ``b + 1``.
    """
    values = np.asarray(values, dtype=np.float64)
    if edges is None:
        bins = int(np.clip(np.ceil(np.sqrt(len(values))), 10, MOST_BINS))
        scaled = np.histogram_bin_edges(np.log10(values) if wide else values, bins)
        edges = 10 ** scaled if wide else scaled
        # By a rounding, the outermost edges can miss the outermost values.
        edges[0], edges[-1] = min(edges[0], values.min()), max(edges[-1], values.max())
    return np.histogram(values, edges)[0], edges


def spearman(scores: ArrayLike, metrics: ArrayLike, seed: int = 0) -> tuple[float, float, str]:
    """Spearman's correlation of scores and metrics, and the two-sided p-value of a permutation test.

    The test goes through all permutations where there are at most 5,040, and else draws 4,999; a t-distribution would be far
    off for the few candidates that a run trains.

    Parameters
    ----------
    scores, metrics
        Shape ``n``, higher is better in both.
    seed
        Of the permutations.

    Returns
    -------
    correlation, p, text
        ``nan`` where there is no correlation; the text says it, or why there is none.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(metrics, dtype=np.float64)
    if len(x) < 4:
        return np.nan, np.nan, f'no Spearman correlation: it takes 4 trained candidates, and there are {len(x)}'
    for values, name in ((x, 'scores'), (y, 'metrics')):
        if len(np.unique(values)) == 1:
            return np.nan, np.nan, f'no Spearman correlation: all {name} are equal'
    correlation = float(stats.spearmanr(x, y).statistic)
    ranks = stats.zscore(stats.rankdata(x)), stats.zscore(stats.rankdata(y)) / len(y)

    def permuted(values: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.sum(values * ranks[1], axis=axis)

    test = stats.permutation_test((ranks[0],), permuted, permutation_type='pairings', n_resamples=5040, vectorized=True,
                                  batch=100, rng=np.random.default_rng(seed))
    return correlation, float(test.pvalue), f'Spearman {correlation:.3f}, p = {test.pvalue:.2g}, of {len(x):,} trained'


def _plotly() -> Any:
    try:
        from plotly import graph_objects  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError('plotting needs the package plotly: pip install "nni-knas[report]"') from None
    return graph_objects


def _axis() -> dict[str, Any]:
    return {'gridcolor': GRID, 'linecolor': GRID, 'zerolinecolor': GRID, 'automargin': True}


def _whole(highest: float) -> dict[str, Any]:
    """For the axis of a number of things: ticks at whole numbers alone, where there are few."""
    return {'dtick': 1} if highest <= 10 else {}


def _figure(traces: Collection[Any], title: str, x: str, y: str, notes: Sequence[str] = (), **layout: Any) -> Figure:
    lines = [line for note in notes for line in textwrap.wrap(note, 52)]
    subtitle = '<br>'.join(html.escape(line, quote=False) for line in lines)
    figure = _plotly().Figure(list(traces))
    figure.update_layout(title={'text': html.escape(title, quote=False), 'subtitle': {'text': subtitle}, 'x': 0,
                                'xref': 'paper', 'yref': 'container', 'y': 0.97, 'yanchor': 'top'},
                         paper_bgcolor='rgba(0,0,0,0)', plot_bgcolor='rgba(0,0,0,0)', showlegend=True,
                         legend={'orientation': 'h', 'yref': 'container', 'y': 0, 'yanchor': 'bottom', 'x': 0,
                                 'maxheight': 0.25, 'traceorder': 'normal'},
                         modebar={'bgcolor': 'rgba(0,0,0,0)', 'color': GREY, 'activecolor': BLUE, 'remove': [
                             'select2d', 'lasso2d', 'zoomIn2d', 'zoomOut2d', 'autoScale2d']},
                         margin={'l': 20, 'r': 20, 't': 60 + 16 * len(lines), 'b': 20}, **layout)
    figure.update_xaxes(title=x, **_axis())
    figure.update_yaxes(title=y, **_axis())
    return figure


def _empty(title: str, sentence: str) -> Figure:
    figure = _figure([], title, '', '')
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=html.escape(sentence, quote=False), xref='paper', yref='paper', x=0.5, y=0.5, showarrow=False)
    return figure


def _rated(run: Run, costs: Sequence[str] = ()) -> pd.DataFrame:
    """The candidates that have a score and can be chosen, best first: as :meth:`Run.scores` has them, and three columns.

    ``value`` is the score, or the quick one where there is none at full effort; ``top`` says whether the candidate is among
    the top k; ``kind`` is the name of its :class:`_Kind`.
    """
    costs = [cost for cost in costs if cost in COSTS]
    frame = run.measured(costs) if costs else run.scores()
    frame = frame[~frame.status.isin(['failed', 'filtered', 'outside'])]
    frame = frame.assign(value=frame.score.fillna(frame.quick))
    frame = frame[frame.value.notna()]
    top = [candidate.id for _, candidate in chosen(run.record, run.top_k, _front(run))] if run.top_k else []
    frame['top'] = frame.candidate.isin(top)
    kind = np.where(frame.score.isna(), _QUICK.name, _SCORED.name).astype(object)
    kind[frame.top] = _TOP.name
    kind[frame.status == 'training-failed'] = _FAILED.name
    kind[frame.status == 'trained'] = _TRAINED.name
    frame['kind'] = kind
    return frame


def _front(run: Run) -> str | None:
    """The cost in whose Pareto front the top k are, ``None`` where they are the best by score."""
    return run.record.get_meta('front') or None


def is_wide(values: pd.Series) -> bool:
    """Whether values are better seen on a logarithmic axis."""
    known = values[values.notna()]
    return len(known) > 0 and known.min() > 0 and known.max() >= 100 * known.min()


def _scale(wide: bool) -> str:
    return 'log' if wide else 'linear'


def _counted(rated: pd.DataFrame) -> str:
    quick, trained = int(rated.score.isna().sum()), int((rated.kind == _TRAINED.name).sum())
    return ', '.join([f'{len(rated) - quick:,} scored', *([f'{quick:,} scored quickly'] if quick else []),
                      f'{trained:,} trained'])


def _thinned(rated: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The candidates to draw, and a note where these are not all."""
    keep = (rated.top | ~rated.kind.isin([_QUICK.name, _SCORED.name])).to_numpy()
    others, room = np.flatnonzero(~keep), max(MOST_POINTS - int(keep.sum()), 0)
    if len(others) <= room:
        return rated, ''
    few = others[np.unique(np.linspace(0, len(others) - 1, room).round().astype(int))]
    drawn = rated.iloc[np.sort(np.r_[np.flatnonzero(keep), few])]
    return drawn, f'{len(drawn):,} of {len(rated):,} candidates are drawn, all of the top k and all trained among them'


def _every(line: pd.DataFrame, most: int) -> pd.DataFrame:
    return line if len(line) <= most else line.iloc[np.linspace(0, len(line) - 1, most).round().astype(int)]


def _scatter(go: Any, points: int) -> Any:
    return go.Scattergl if points > MOST_SVG_POINTS else go.Scatter


def _points(run: Run, drawn: pd.DataFrame, x: Any, y: Any) -> list[Any]:
    """A trace for each kind of candidates; ``x`` and ``y`` are columns, or arrays with a value a row."""
    go = _plotly()
    x, y = (drawn[values] if isinstance(values, str) else values for values in (x, y))
    x, y, many = np.asarray(x), np.asarray(y), len(drawn) > MOST_SVG_POINTS
    traces = []
    for kind in _KINDS:
        mask = (drawn.kind == kind.name).to_numpy()
        if mask.any():
            part = drawn[mask]
            text = _hover(part, run.metric_name, architectures=not many or kind not in (_QUICK, _SCORED))
            traces.append(_scatter(go, len(drawn))(
                x=x[mask], y=y[mask], mode='markers', name=kind.name.format(k=run.top_k), hovertext=text, hoverinfo='text',
                customdata=part.index.to_numpy(), marker={'color': kind.color, 'symbol': kind.symbol, 'size': kind.size,
                                                          'opacity': 0.9}))
    return traces


def _hover(part: pd.DataFrame, metric_name: str, architectures: bool) -> list[str]:
    texts = []
    for rank, number, score, value, metric, architecture in zip(part.index, part.candidate, part.score, part.value,
                                                                part.metric, part.architecture):
        lines = [f'rank {rank}, candidate {number}', f'{"quick " if np.isnan(score) else ""}score {number_text(value)}']
        if not np.isnan(metric):
            lines.append(f'{metric_name} {metric:.5g}')
        if architectures:
            lines += textwrap.wrap(architecture_text(architecture, 300), 50)
        texts.append('<br>'.join(html.escape(line, quote=False) for line in lines))
    return texts


def _best_so_far(rated: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Where the best score changes, and the last candidate; of full scores, where there are any."""
    full = rated[rated.score.notna()] if rated.score.notna().any() else rated
    explored = full.sort_values('candidate')
    best = explored.value.cummax().to_numpy()
    steps = np.flatnonzero(np.r_[True, np.diff(best) > 0])
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round().astype(int))]
    return np.r_[explored.candidate.to_numpy()[steps], rated.candidate.max()], np.r_[best[steps], best[-1]]


def _front_line(rated: pd.DataFrame, cost: str) -> list[Any]:
    """The Pareto front of score against a cost of the network; there is none of times, which chance has a part in."""
    if cost not in COSTS or not (rated.score.notna() & rated[cost].notna()).any():
        return []
    front = pareto_front(rated, cost)
    front = front.drop_duplicates(cost)
    return [_plotly().Scatter(x=front[cost].to_numpy(), y=front.score.to_numpy(), mode='lines', name='Pareto front',
                              customdata=front.index.to_numpy(), hoverinfo='skip',
                              line={'color': GREEN, 'shape': 'hv', 'width': 2})]


def _names(runs: Sequence[Run]) -> list[str]:
    """Names of the runs, each once."""
    names: list[str] = []
    for run in runs:
        name, number = run.name, 2
        while name in names:
            name, number = f'{run.name} ({number})', number + 1
        names.append(name)
    return names


def _compared_candidates(runs: Sequence[Run], names: Sequence[str], what: str) -> Figure:
    go = _plotly()
    of_metric = what == 'metric'
    traces, every, notes = [], [], []
    for i, (run, name) in enumerate(zip(runs, names)):
        rated = _rated(run)
        part = rated[(rated.kind == _TRAINED.name) & rated.metric.notna()] if of_metric else rated[rated.score.notna()]
        if len(part):
            every.append(part[what])
            drawn, note = _thinned(part)
            notes.append(f'{name}: {note}' if note else '')
            traces.append(go.Box(x=[name] * len(drawn), y=drawn[what].to_numpy(), name=name, boxpoints='all', jitter=0.5,
                                 pointpos=0, marker={'color': PALETTE[i % len(PALETTE)], 'size': 4, 'opacity': 0.6},
                                 customdata=drawn.index.to_numpy(), hoverinfo='text', hoveron='points', line={'width': 1.5},
                                 hovertext=_hover(drawn, run.metric_name, architectures=len(drawn) <= MOST_SVG_POINTS),
                                 showlegend=False))
            best = part.sort_values('metric', ascending=run.optimize_mode == 'minimize') if of_metric else part
            traces.append(go.Scatter(x=[name], y=[best[what].iloc[0]], mode='markers', name='best', legendgroup='best',
                                     marker={'symbol': 'star', 'size': 14, 'color': VERMILLION}, hoverinfo='text',
                                     hovertext=_hover(best[:1], run.metric_name, True), showlegend=not traces[1:]))
    metrics = sorted({run.metric_name for run in runs})
    title = f'{"Trained metrics" if of_metric else "Scores"} by run'
    if not traces:
        return _empty(title, 'no run has a trained candidate yet' if of_metric else _NO_SCORE)
    notes += [] if of_metric else [_same_scale(runs)]
    figure = _figure(traces, title, 'run', ' or '.join(metrics) if of_metric else 'score', notes)
    figure.update_yaxes(type=_scale(is_wide(pd.concat(every))))
    return figure


def _same_scale(runs: Sequence[Run]) -> str:
    scores = sorted({str(run.configuration().get('score')) for run in runs})
    return f'values of different scores do not compare: {", ".join(scores)}' if len(scores) > 1 else ''


def _compared_stages(runs: Sequence[Run], names: Sequence[str], what: str) -> Figure:
    stages = [run.footprint().stages for run in runs]
    unit = _UNITS[what]
    title = f'{unit[0].upper()}{unit[1:].split(" (")[0]} by run'
    if not sum(table[what].sum() for table in stages) > 0:
        return _empty(title, f'no {unit.split(" (")[0]} was recorded yet')
    traces = [_plotly().Bar(x=list(names), y=[table.loc[stage, what] for table in stages], name=f'{stage} stage',
                            marker={'color': color}, hovertemplate=f'{stage} stage of %{{x}}: %{{y:.4g}}<extra></extra>')
              for stage, color in (('coarse', BLUE), ('fine', ORANGE))]
    figure = _figure(traces, title, 'run', unit, barmode='stack')
    figure.update_yaxes(exponentformat='power', rangemode='tozero')
    return figure
