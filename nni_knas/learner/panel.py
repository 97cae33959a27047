"""What is known of candidates before any is trained: statistics, choices and the prior, checked and normalised."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nni_knas.basics.factors import FACTORS, LEAST
from nni_knas.learner.normalising import Floats, normal_scores

__all__ = ['Choices', 'Known', 'know']

Choices = NDArray[np.int32]
"""``n x c``, a column a choice: the same number where two candidates have chosen the same."""


class Known(NamedTuple):
    """Normal scores of ``n`` candidates, and what they have of each choice."""

    labels: pd.Index
    names: list[str]
    features: Floats
    """n x d, a column a statistic."""
    choices: Choices
    """Those in which candidates differ."""
    prior: Floats
    """n, what is believed of each before any is trained."""


def know(panel: pd.DataFrame, prior: str | pd.Series | None) -> Known:
    """The panel in normal scores and numbers of choices, and the prior."""
    _check(panel)
    statistics = panel.loc[:, [not _is_choice(kind) for kind in panel.dtypes]]
    values = statistics.to_numpy(dtype=float, na_value=np.nan)
    features = np.zeros(values.shape)
    for column, numbers in enumerate(values.T):
        features[:, column] = normal_scores(numbers)
    believed = np.nan_to_num(_prior_of(statistics, prior), nan=-np.inf)
    choices = _choices_of(panel.drop(columns=statistics.columns))
    return Known(panel.index, [*statistics.columns], features, choices, normal_scores(believed))


def _is_choice(kind: object) -> bool:
    return isinstance(kind, pd.CategoricalDtype)


def _choices_of(chosen: pd.DataFrame) -> Choices:
    codes = [pd.factorize(chosen[name], use_na_sentinel=False)[0] for name in chosen]
    varied = [column for column in codes if np.max(column) > 0]
    return np.array(varied, np.int32).reshape(len(varied), len(chosen)).T


def _check(panel: pd.DataFrame) -> None:
    if not isinstance(panel, pd.DataFrame) or not panel.size:
        raise ValueError(
            'panel must be a pandas.DataFrame with a row a candidate and a column a statistic, at least one of each'
        )
    for axis, of in ((panel.index, 'row'), (panel.columns, 'column')):
        if not axis.is_unique:
            raise ValueError(
                f'each {of} of the panel needs a label of its own, {axis[axis.duplicated()][0]!r} is there twice'
            )
    for name, kind in panel.dtypes.items():
        if _is_choice(kind):
            continue
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
            raise ValueError(
                f"statistics are numbers, but column {name!r} of the panel has {kind}; choices have pandas' type category"
            )


def _prior_of(panel: pd.DataFrame, prior: str | pd.Series | None) -> Floats:
    if isinstance(prior, pd.Series):
        return _given(panel, prior)
    if prior is not None:
        if not isinstance(prior, Hashable) or prior not in panel.columns:
            raise ValueError(
                f'prior names no column of the panel: {prior!r}; there are {", ".join(map(str, panel.columns))}'
            )
        return _numbers(panel[prior])
    if 'score' in panel.columns:
        return _numbers(panel['score'])
    if missing := [name for name in FACTORS if name not in panel.columns]:
        raise ValueError(
            f'the recommended score is the prior where none is given, and needs a column score or {", ".join(missing)}; '
            "give one of the panel's columns as prior, or a Series"
        )
    factors = [power * np.log(np.maximum(_numbers(panel[name]), LEAST)) for name, power in FACTORS.items()]
    score: Floats = np.sum(factors, axis=0)
    return score


def _given(panel: pd.DataFrame, prior: pd.Series) -> Floats:
    if not prior.index.is_unique or not panel.index.isin(prior.index).all():
        raise ValueError('prior must have exactly one value for each row of the panel, under the same label')
    if not pd.api.types.is_numeric_dtype(prior.dtype):
        raise ValueError(f'prior is numbers, higher is better, but the Series has {prior.dtype}')
    return _numbers(prior.reindex(panel.index))


def _numbers(values: pd.Series) -> Floats:
    return values.to_numpy(dtype=float, na_value=np.nan)
