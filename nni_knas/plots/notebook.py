"""A KNAS strategy as a notebook shows it: what it searches, how far it is, and its best candidates."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nni_knas.basics.texts import number
from nni_knas.plots.common import BLUE, GREY, VERMILLION, architecture_text, is_wide, number_text
from nni_knas.plots.statistics import histogram
from nni_knas.record import Status
from nni_knas.runs import Run, rated_among

__all__ = ['strategy_html']

ROWS = 10
"""Candidates in the table."""
WIDTH, HEIGHT = 480, 90
"""The size of the histogram in pixels."""

# No colours of text and background: a fragment has those of the notebook, light or dark.
_LINE = (
    'font-size: inherit; color: inherit; border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.35); '
    'background: transparent'
)
_CELL = f'padding: 2px 10px 2px 0; text-align: left; vertical-align: top; {_LINE}'
_WIDE = f'min-width: 20em; {_CELL}'
_NUMBER = f'padding: 2px 10px 2px 0; text-align: right; vertical-align: top; white-space: nowrap; {_LINE}'


def strategy_html(settings: Mapping[str, str], run: Run | None) -> str:
    """A strategy as an HTML fragment that needs nothing else.

    Parameters
    ----------
    settings
        What the strategy is set to, by name; what is empty is left out.
    run
        The strategy's run, finished or not; ``None`` before it.
    """
    parts = [_settings_table(settings), *(_results_html(run) if run is not None else [])]
    state = f'run {run.name}, {run.status}' if run is not None else 'not run yet'
    return (
        f'<div style="max-width: 62em; overflow-x: auto; line-height: 1.4"><p style="margin: 4px 0"><b>KNAS</b>, '
        f'{_escaped(state)}</p>{"".join(parts)}</div>'
    )


def _settings_table(settings: Mapping[str, str]) -> str:
    rows = [
        f'<tr style="background: transparent"><th style="{_CELL}">{_escaped(name)}</th>'
        f'<td style="{_CELL}">{_escaped(_shortened(value, 200))}</td></tr>'
        for name, value in settings.items()
        if value
    ]
    return f'<table style="border-collapse: collapse; margin: 4px 0; font-size: 100%">{"".join(rows)}</table>'


def _results_html(run: Run) -> list[str]:
    scores = run.frame()
    statement = run.footprint().statement
    counts = ', '.join(f'{count:,} {status}' for status, count in scores.status.value_counts().items())
    lines = [f'Candidates: {counts or "none yet"}', *([statement] if statement else [])]
    texts = [f'<p style="margin: 4px 0">{_escaped(line)}</p>' for line in lines]
    return [*texts, _histogram_svg(scores), _best_table(run, scores)]


def _histogram_svg(scores: pd.DataFrame) -> str:
    """The full scores as bars; empty where there are none."""
    values = scores.score[scores.score.notna() & (scores.status != Status.OUTSIDE)]
    if not len(values):
        return ''
    counts, edges = histogram(values, is_wide(values))
    trained = scores.score[scores.status == Status.TRAINED]
    least = trained.min() if len(trained) else float('inf')
    step, top = WIDTH / len(counts), counts.max()
    bars = []
    for i, (count, low, high) in enumerate(zip(counts, edges, edges[1:])):
        tall = round(float(count / top * (HEIGHT - 20)), 1)
        bars.append(
            f'<rect x="{i * step:.1f}" y="{HEIGHT - 18 - tall:.1f}" width="{step - 1:.1f}" height="{tall}" '
            f'fill="{VERMILLION if high > least else BLUE}"><title>{count:,} scores from {number_text(low)} to '
            f'{number_text(high)}</title></rect>'
        )
    middle = f'{len(values):,} scores' + (', orange: from the lowest that was trained' if len(trained) else '')
    label = f'Histogram of {len(values):,} scores from {number_text(values.min())} to {number_text(values.max())}'
    text = f'font-size="11" fill="currentColor" y="{HEIGHT - 4}"'
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" style="width: 100%; max-width: {WIDTH}px; '
        f'display: block; margin: 6px 0">{"".join(bars)}<line x1="0" x2="{WIDTH}" y1="{HEIGHT - 17.5}" '
        f'y2="{HEIGHT - 17.5}" stroke="{GREY}"/><text {text} x="0">{number_text(values.min())}</text>'
        f'<text {text} x="{WIDTH / 2}" text-anchor="middle">{middle}</text>'
        f'<text {text} x="{WIDTH}" text-anchor="end">{number_text(values.max())}</text></svg>'
    )


def _best_table(run: Run, scores: pd.DataFrame) -> str:
    """The best by metric, and then by score."""
    ranking = run.ranking(all=True)
    rated = rated_among(scores)
    best = pd.concat([ranking, rated[~rated.index.isin(ranking.index)]])[:ROWS] if len(ranking) else rated[:ROWS]
    if not len(best):
        return ''
    sizes = [('parameters', _NUMBER)] if best.parameters.notna().any() else []
    heads = [('rank', _NUMBER), ('score', _NUMBER), (run.metric_name, _NUMBER), *sizes, ('architecture', _WIDE)]
    head = ''.join(f'<th style="{style}">{_escaped(name)}</th>' for name, style in heads)
    rows = []
    for rank, row in best.iterrows():
        score = number_text(row.score) if pd.notna(row.score) else f'{number_text(row.quick)} (quick)'
        cells = [
            rank,
            score,
            '' if pd.isna(row.metric) else f'{row.metric:.5g}',
            *(number(row.parameters, ',.0f', '') for _ in sizes),
            architecture_text(row.architecture, 160),
        ]
        rows.append(
            '<tr style="background: transparent">'
            + ''.join(f'<td style="{style}">{_escaped(cell)}</td>' for cell, (_, style) in zip(cells, heads))
            + '</tr>'
        )
    order = f'by {run.metric_name}, then by score' if len(ranking) else 'by score'
    return (
        f'<p style="margin: 4px 0">The best {len(best)} of {len(rated):,}, {_escaped(order)}:</p>'
        f'<table style="border-collapse: collapse; margin: 4px 0; font-size: 90%"><tr style="background: transparent">'
        f'{head}</tr>{"".join(rows)}</table>'
    )


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[: length - 1]}…'


def _escaped(value: Any) -> str:
    return html.escape(str(value))
