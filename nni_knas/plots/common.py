"""What figures have in common: colours, axes, the candidates that are drawn, and how they are."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nni_knas.basics.extras import how_to_install
from nni_knas.record import Status, keys
from nni_knas.runs import Run, chosen, rated_among

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = [
    'BLUE',
    'DASHES',
    'ENERGIES',
    'GREEN',
    'GREY',
    'MOST_POINTS',
    'NO_SCORE',
    'ORANGE',
    'PALETTE',
    'QUICK',
    'SCORED',
    'SKY',
    'TRAINED',
    'VERMILLION',
    'architecture_text',
    'axis',
    'counted',
    'empty',
    'figure_of',
    'front_of',
    'graph_objects',
    'hover_texts',
    'is_wide',
    'number_text',
    'points_of',
    'rated_of',
    'run_names',
    'thinned',
    'ticks',
    'unit_of',
    'whole_ticks',
]

MOST_POINTS = 2000
"""Candidates that a figure draws at most, but for more of the top k."""

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
GREY = '#808080'
GRID = 'rgba(128, 128, 128, 0.25)'
DASHES = ('solid', 'dash', 'dot', 'dashdot')

ENERGIES = {'mWh': 1e-6, 'Wh': 1e-3, 'kWh': 1.0}
"""Units of energy, in kWh."""
NO_SCORE = 'no candidate has a score yet'


class Kind(NamedTuple):
    """A group of candidates, which are drawn alike."""

    name: str
    color: str
    symbol: str
    size: int


QUICK = Kind('quick score only', SKY, 'circle-open', 5)
SCORED = Kind('scored', BLUE, 'circle', 5)
TOP = Kind('top {k}, not trained', ORANGE, 'diamond', 8)
FAILED = Kind('training failed', PURPLE, 'x', 8)
TRAINED = Kind('trained', VERMILLION, 'star', 10)
KINDS = (QUICK, SCORED, TOP, FAILED, TRAINED)  # the last is drawn above the others


def architecture_text(architecture: Mapping[str, Any], length: int | None = None) -> str:
    """An architecture (NNI's sample) as short text, of at most so many characters where ``length`` is given."""
    text = ', '.join(f'{name}: {value}' for name, value in architecture.items())
    return text if length is None or len(text) <= length else f'{text[: length - 1]}…'


def number_text(number: float) -> str:
    """A score or a cost as people read it: five digits, or all before the point."""
    return f'{number:,.0f}' if 1e5 <= abs(number) < 1e15 else f'{number:.5g}'


def unit_of(value: float, units: Mapping[str, float]) -> tuple[float, str]:
    """Size and name of the largest unit that a value reaches, of ``units``: the size by name, the smallest first."""
    name = max((name for name, size in units.items() if value >= size), key=units.__getitem__, default=next(iter(units)))
    return units[name], name


def is_wide(values: pd.Series) -> bool:
    """Whether values are better seen on a logarithmic axis."""
    known = values[values.notna()]
    return len(known) > 0 and known.min() > 0 and known.max() >= 100 * known.min()


def graph_objects() -> Any:
    """Plotly's module of figures; it is imported when it is needed."""
    try:
        from plotly import graph_objects  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(f'plotting needs the package plotly: {how_to_install("report")}') from None
    return graph_objects


def axis(title: str) -> dict[str, Any]:
    """What all axes have."""
    return {'title': {'text': title}, 'gridcolor': GRID, 'linecolor': GRID, 'zerolinecolor': GRID, 'automargin': True}


def ticks(values: pd.Series) -> dict[str, Any]:
    """Settings for the axis of scores or costs: its scale, and powers of ten, or prefixes such as M for large numbers."""
    wide = is_wide(values)
    if wide:
        return {'type': 'log', 'exponentformat': 'power', 'nticks': 6}  # more would be labelled 2 and 5 between the powers
    return {'type': 'linear', 'exponentformat': 'power' if values.abs().max() < 1e-3 else 'SI', 'nticks': 0}


def whole_ticks(highest: float) -> dict[str, Any]:
    """Settings for the axis of a number of things: ticks at whole numbers alone, where there are few."""
    return {'dtick': 1} if highest <= 10 else {}


def figure_of(traces: Collection[Any], title: str, x: str, y: str, notes: Sequence[str] = (), **layout: Any) -> Figure:
    """A figure with titles of its axes, and sentences below its own."""
    lines = textwrap.wrap('; '.join(note for note in notes if note), 52)
    subtitle = '<br>'.join(html.escape(line, quote=False) for line in lines)
    figure = graph_objects().Figure(list(traces))
    figure.update_layout(
        title={
            'text': html.escape(title, quote=False),
            'subtitle': {'text': subtitle},
            'x': 0,
            'xref': 'paper',
            'yref': 'container',
            'y': 0.97,
            'yanchor': 'top',
        },
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
        showlegend=True,
        legend={
            'orientation': 'h',
            'yref': 'container',
            'y': 0,
            'yanchor': 'bottom',
            'x': 0,
            'maxheight': 0.25,
            'traceorder': 'normal',
        },
        modebar={
            'bgcolor': 'rgba(0,0,0,0)',
            'color': GREY,
            'activecolor': BLUE,
            'remove': ['select2d', 'lasso2d', 'zoomIn2d', 'zoomOut2d', 'autoScale2d'],
        },
        margin={'l': 20, 'r': 20, 't': 60 + 16 * len(lines), 'b': 20},
        **layout,
    )
    figure.update_xaxes(axis(x))
    figure.update_yaxes(axis(y))
    return figure


def empty(title: str, sentence: str) -> Figure:
    """A figure that has nothing to draw, and says why."""
    figure = figure_of([], title, '', '', height=160)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    text = '<br>'.join(textwrap.wrap(html.escape(sentence, quote=False), 40))
    return figure.add_annotation(text=text, xref='paper', yref='paper', x=0.5, y=0.5, showarrow=False)


def rated_of(run: Run) -> pd.DataFrame:
    """The candidates that have a score and can be chosen, best first: as :meth:`Run.frame` has them, and two columns.

    ``top`` says whether the candidate is among the top k, or was chosen by what was learnt; ``kind`` is the name of its
    :class:`Kind`.
    """
    rated = rated_among(run.frame())
    rated = rated.assign(top=rated.candidate.isin(_top_of(run)))
    kind = np.where(rated.score.isna(), QUICK.name, SCORED.name).astype(object)
    kind[rated.top] = TOP.name
    kind[rated.status == Status.TRAINING_FAILED] = FAILED.name
    kind[rated.status == Status.TRAINED] = TRAINED.name
    return rated.assign(kind=kind)


def _top_of(run: Run) -> list[int]:
    """The candidates that are or were to be trained: the top k, or, where that is learnt, those that were chosen."""
    choices = run.record.choices()
    if any(choice.reason != 'score' for choice in choices):
        return [choice.candidate for choice in choices]
    return [candidate.id for _, candidate in chosen(run.record, run.top_k, front_of(run))] if run.top_k else []


def front_of(run: Run) -> str | None:
    """The cost in whose Pareto front the top k are, ``None`` where they are the best by score."""
    return run.record.get_meta(keys.FRONT) or None


def counted(rated: pd.DataFrame) -> str:
    """How many candidates there are, by what is known of them."""
    quick, trained = int(rated.score.isna().sum()), int((rated.kind == TRAINED.name).sum())
    return ', '.join(
        [f'{len(rated) - quick:,} scored', *([f'{quick:,} scored quickly'] if quick else []), f'{trained:,} trained']
    )


def thinned(rated: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The candidates to draw, and a note where these are not all."""
    keep = (rated.top | ~rated.kind.isin([QUICK.name, SCORED.name])).to_numpy()
    others, room = np.flatnonzero(~keep), max(MOST_POINTS - int(keep.sum()), 0)
    if len(others) <= room:
        return rated, ''
    few = others[np.unique(np.linspace(0, len(others) - 1, room).round().astype(int))]
    drawn = rated.iloc[np.sort(np.r_[np.flatnonzero(keep), few])]
    return drawn, f'{len(drawn):,} of {len(rated):,} candidates are drawn, all of the top k and all trained among them'


def points_of(run: Run, drawn: pd.DataFrame, x: ArrayLike, y: ArrayLike, **axes: str) -> list[Any]:
    """A trace for each kind of candidates; ``x`` and ``y`` have a value a row."""
    x, y = np.asarray(x), np.asarray(y)
    traces = []
    for kind in KINDS:
        mask = (drawn.kind == kind.name).to_numpy()
        if mask.any():
            part = drawn[mask]
            traces.append(
                graph_objects().Scatter(
                    x=x[mask],
                    y=y[mask],
                    mode='markers',
                    name=kind.name.format(k=run.top_k),
                    hoverinfo='text',
                    hovertext=hover_texts(part, run.metric_name),
                    customdata=part.index.to_numpy(),
                    marker={'color': kind.color, 'symbol': kind.symbol, 'size': kind.size, 'opacity': 0.9},
                    **axes,
                )
            )
    return traces


def hover_texts(part: pd.DataFrame, metric_name: str) -> list[str]:
    """What is said of each candidate when a mouse rests on it."""
    texts = []
    for rank, number, score, quick, metric, architecture in zip(
        part.index, part.candidate, part.score, part.quick, part.metric, part.architecture
    ):
        values = (('score', number_text(score)), ('quick score', number_text(quick)), (metric_name, f'{metric:.5g}'))
        lines = [
            f'rank {rank}, candidate {number}',
            *(f'{name} {text}' for name, text in values if text != 'nan'),
            *textwrap.wrap(architecture_text(architecture, 300), 50),
        ]
        texts.append('<br>'.join(html.escape(line, quote=False) for line in lines))
    return texts


def run_names(runs: Sequence[Run]) -> list[str]:
    """Names of the runs, each once: with NNI's id, and with a number, where several have the same."""
    plain = [run.name for run in runs]
    names = [
        name if plain.count(name) == 1 or name == run.folder.name else f'{name} ({run.folder.name})'
        for name, run in zip(plain, runs)
    ]
    return [name if name not in names[:i] else f'{name} ({names[:i].count(name) + 1})' for i, name in enumerate(names)]
