"""The panel of a benchmark's architectures: what a search knows of them before any is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from nni_knas.basics.names import PANEL
from nni_knas.benchmark.baselines import Flops, Parameters
from nni_knas.benchmark.measuring import Measurement
from nni_knas.benchmark.searches import SCORE
from nni_knas.gradients import Gradients
from nni_knas.scores import Score, get_score, statistics

__all__ = ['PANEL_SCORES', 'Statistic', 'others_table', 'panel_table']


class Statistic(Score):
    """A statistic of the panel, measured and kept as scores are; all of an architecture's share one pass."""

    passes = '1 (all of them)'
    traces = True

    def __init__(self, statistic: str) -> None:
        self.statistic = statistic
        self.name = f'panel {statistic}'  # type: ignore[misc]  # some have a score's name

    def __call__(self, gradients: Gradients) -> float:
        return statistics(gradients)[self.statistic]


PANEL_SCORES: dict[str, Score] = {
    **{name: Statistic(name) for name in PANEL},
    SCORE: get_score(),
    **{score.name: score for score in (Parameters(), Flops())},
}
"""What a panel is measured by, by the names of its columns: its statistics, the recommended score, and two costs."""


def panel_table(measurement: Measurement, architectures: Sequence[str]) -> pd.DataFrame:
    """A row an architecture and a column each of :data:`PANEL_SCORES`, which have been measured."""
    return _table(measurement, architectures, PANEL_SCORES)


def others_table(measurement: Measurement, architectures: Sequence[str], scores: Sequence[Score]) -> pd.DataFrame:
    """The same of other scores, which no search sees; they are called so, since some have the name of a statistic."""
    return _table(measurement, architectures, {f'{score.name} (score)': score for score in scores})


def _table(measurement: Measurement, architectures: Sequence[str], scores: Mapping[str, Score]) -> pd.DataFrame:
    columns = {name: measurement.values(score, architectures) for name, score in scores.items()}
    return pd.DataFrame(columns, index=pd.Index(architectures, name='architecture'))
