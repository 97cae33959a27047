"""The figure of what was expected of each candidate when it was chosen for training, and of what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nni_knas.plots.common import BLUE, TRAINED, empty, figure_of, graph_objects, whole_ticks
from nni_knas.runs import REASONS, Run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

__all__ = ['plot_choices']


def plot_choices(source: Any) -> Figure:
    """The metrics in the order in which candidates were chosen for training, and what was expected of each then.

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
    choices, title = run.choices(), f'Expected and trained, of {run.name}'
    if not len(choices) and len(run.ranking()):
        return empty(title, 'the run is of an earlier version: the order of its choices is not known')
    if not choices.metric.notna().any():
        return empty(title, 'no candidate is trained yet')
    hovers = [
        f'candidate {row.candidate}, rank {row.rank} by score<br>chosen as {reason}'
        for row, reason in zip(choices.itertuples(), choices.reason.map(REASONS))
    ]
    trained = go.Scatter(
        x=choices.index,
        y=choices.metric,
        mode='markers',
        name='trained',
        marker={'color': TRAINED.color, 'symbol': TRAINED.symbol, 'size': TRAINED.size},
        hovertext=hovers,
    )
    traces = [trained]
    if choices.predicted.notna().any():
        expected = go.Scatter(
            x=choices.index,
            y=choices.predicted,
            error_y={'type': 'data', 'array': choices.deviation, 'color': BLUE, 'thickness': 1},
            mode='markers',
            name='expected, with one standard deviation',
            marker={'color': BLUE, 'symbol': 'circle-open', 'size': 7},
            hovertext=hovers,
        )
        traces.insert(0, expected)
    figure = figure_of(traces, title, 'choice (number in the order of training)', run.metric_name)
    figure.update_xaxes(whole_ticks(len(choices)))
    return figure
