"""What counts on a space, in numbers and in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nni_knas.learner.normalising import Floats

__all__ = ['explain']

LITTLE = 0.2
"""A correlation that is surely smaller than this says little."""


def explain(names: list[str], features: Floats, drawn: Floats) -> pd.DataFrame:
    """Correlations of the metrics that may be, ``count x n`` draws, with the statistics of the ``n`` candidates."""
    correlations = _standard(drawn) @ _standard(features.T).T / features.shape[0]
    low, high = np.quantile(correlations, [0.025, 0.975], axis=0)
    meaning = [_in_words(*each) for each in zip(low, high, features.std(0), strict=True)]
    table = {'weight': correlations.mean(0), 'low': low, 'high': high, 'meaning': meaning}
    return pd.DataFrame(table, index=pd.Index(names, name='statistic'))


def _standard(rows: Floats) -> Floats:
    """Each row with mean 0 and deviation 1; 0 where all of it is the same."""
    rows = rows - rows.mean(1, keepdims=True)
    spread = rows.std(1, keepdims=True)
    standard: Floats = np.divide(rows, spread, out=np.zeros_like(rows), where=spread > 1e-9)
    return standard


def _in_words(low: float, high: float, spread: float) -> str:
    if spread <= 1e-9:
        return 'says nothing here: it is the same for all candidates'
    if low > 0:
        return 'more of it is better here'
    if high < 0:
        return 'less of it is better here'
    return 'counts for little here' if max(-low, high) < LITTLE else 'not yet known'
