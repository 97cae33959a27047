"""The panel of a benchmark's architectures: what a search knows of them before any is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from nni_knas.basics.names import PANEL, TARGETS
from nni_knas.benchmark.baselines import Flops, Parameters
from nni_knas.benchmark.measuring import Measurement
from nni_knas.benchmark.searches import SCORE
from nni_knas.gradients import Gradients
from nni_knas.scores import LEAST_SAMPLES, Score, get_score, statistics

__all__ = ['Statistic', 'others_table', 'panel_scores', 'panel_table', 'statistics_of']


class Statistic(Score):
    """A statistic of the panel, measured and kept as scores are; all of an architecture's share one pass."""

    passes = '1 (all of them)'
    traces = True

    def __init__(self, statistic: str) -> None:
        self.statistic = statistic
        self.name = f'panel {statistic}'  # type: ignore[misc]  # some have a score's name

    def __call__(self, gradients: Gradients) -> float:
        return statistics(gradients)[self.statistic]


def statistics_of(samples: int) -> dict[str, Score]:
    """The statistics that the panel of a minibatch of so many samples has, by name."""
    return {name: Statistic(name) for name in (*PANEL, *(TARGETS if samples >= LEAST_SAMPLES else ()))}


def panel_scores(samples: int) -> dict[str, Score]:
    """What a panel is measured by, by the names of its columns: its statistics, the recommended score, and two costs."""
    costs = {score.name: score for score in (Parameters(), Flops())}
    return {**statistics_of(samples), SCORE: get_score(), **costs}


def panel_table(measurement: Measurement, architectures: Sequence[str]) -> pd.DataFrame:
    """A row an architecture and a column each of :func:`panel_scores`, which have been measured."""
    return _table(measurement, architectures, panel_scores(measurement.kernel.minibatch.size))


def others_table(measurement: Measurement, architectures: Sequence[str], scores: Sequence[Score]) -> pd.DataFrame:
    """The same of other scores, which no search sees; they are called so, since some have the name of a statistic."""
    return _table(measurement, architectures, {f'{score.name} (score)': score for score in scores})


def _table(measurement: Measurement, architectures: Sequence[str], scores: Mapping[str, Score]) -> pd.DataFrame:
    columns = {name: measurement.values(score, architectures) for name, score in scores.items()}
    return pd.DataFrame(columns, index=pd.Index(architectures, name='architecture'))
