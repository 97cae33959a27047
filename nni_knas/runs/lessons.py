"""What the trained candidates of a run have taught, as people are told it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from nni_knas.basics.names import Reason
from nni_knas.basics.texts import number
from nni_knas.record import Record, keys
from nni_knas.runs.correlation import LEAST, Correlation, rank_correlation
from nni_knas.runs.learning import learner_of, pool_of

__all__ = ['REASONS', 'Lessons', 'choices_of', 'lessons_of']

REASONS: dict[Reason, str] = {
    'score': 'the next by score',
    'learned': 'expected to be the best',
    'explore': 'to learn more',
}
"""Why a candidate was chosen, in words."""

_WEAK = 0.5
"""A score whose rank correlation with the metric is below this does not rank a space."""


class Lessons(NamedTuple):
    """What was learnt.

    Attributes
    ----------
    weights
        What each statistic counts for on this space, those first that are known to; see :meth:`nni_knas.Learner.weights`.
        Empty where there are too few metrics to say.
    choices
        What was trained, in the order of the choice; see :func:`choices_of`.
    correlation
        The rank correlation of score and metric, of all that are trained.
    sentence
        That in words.
    warning
        That the score does not rank this space, where that is known; empty where it is not.
    """

    weights: pd.DataFrame
    choices: pd.DataFrame
    correlation: Correlation
    sentence: str
    warning: str

    @property
    def known(self) -> pd.DataFrame:
        """The statistics that are known to count."""
        return self.weights[_is_known(self.weights)]


def choices_of(record: Record) -> pd.DataFrame:
    """The candidates that were chosen for training, in order, with what came of it.

    Returns
    -------
    pandas.DataFrame
        A row a choice, from 1: ``candidate`` (its number), ``rank`` (by score), ``reason`` (``'score'``, ``'learned'`` or
        ``'explore'``), ``predicted`` (the metric that was expected of it) and ``deviation`` of that, ``metric``, ``status``,
        and ``correlation``: the rank correlation of score and metric, of the trained ones as far as this one.
    """
    made = pd.DataFrame(record.choices(), columns=['candidate', 'rank', 'reason', 'predicted', 'deviation'])
    made = made.astype({'candidate': 'int64', 'rank': 'int64', 'predicted': 'float64', 'deviation': 'float64'})
    rows = [record.get(number) for number in made.candidate]
    made['metric'] = np.array([math.nan if row.metric is None else row.metric for row in rows], dtype=np.float64)
    made['status'] = [row.status for row in rows]
    sign = _sign_of(record)
    correlations = []
    for last in range(1, len(made) + 1):
        trained = made[:last].dropna(subset='metric')
        correlations.append(rank_correlation(-trained['rank'], sign * trained.metric).value)
    made['correlation'] = np.array(correlations, dtype=np.float64)
    made.index = pd.RangeIndex(1, len(made) + 1, name='choice')
    return made


def lessons_of(record: Record) -> Lessons | None:
    """What the trained candidates of a record have taught; ``None`` where none is trained."""
    pool = pool_of(record)
    trained = pool[pool.index.isin([number for number, metric in record.endings() if metric is not None])]
    if not len(trained):
        return None
    correlation = rank_correlation(-trained['rank'], _sign_of(record) * trained.metric)
    weights = learner_of(record, pool).weights() if trained.metric.nunique() > 1 and len(trained) >= LEAST else _NOTHING
    weights = weights.loc[weights.weight.abs().sort_values(ascending=False, kind='stable').index]
    weights = pd.concat([weights[_is_known(weights)], weights[~_is_known(weights)]])
    return Lessons(
        weights, choices_of(record), correlation, _sentence(correlation), _warning(correlation, trained, len(pool))
    )


_NOTHING = pd.DataFrame({'weight': [], 'low': [], 'high': [], 'meaning': []}, index=pd.Index([], name='statistic'))


def _is_known(weights: pd.DataFrame) -> pd.Series[bool]:
    return (weights.low > 0) | (weights.high < 0)


def _sign_of(record: Record) -> int:
    return -1 if record.get_meta(keys.OPTIMIZE_MODE) == 'minimize' else 1


def _sentence(correlation: Correlation) -> str:
    if math.isnan(correlation.value):
        return f'How well the score ranks this space cannot be said of {correlation.of} trained.'
    low, high = number(correlation.low, '.2f'), number(correlation.high, '.2f')
    return (
        f'Rank correlation of score and metric: {number(correlation.value, ".2f")} (between {low} and {high} with 95 %), '
        f'of {correlation.of:,} trained.'
    )


def _warning(correlation: Correlation, trained: pd.DataFrame, candidates: int) -> str:
    """Said only where those that are trained are from all over the ranking: among the best alone no score ranks well."""
    spread = trained['rank'].max() - trained['rank'].min() >= candidates / 4
    if math.isnan(correlation.value) or correlation.high >= _WEAK or not spread:
        return ''
    return 'The score does not rank this space: trust the trained ones, whatever their rank by score.'
