"""What counts on a space, in numbers and in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nni_knas.learner.normalising import Floats
from nni_knas.learner.surrogate import Expectation

__all__ = ['explain']


def explain(names: list[str], features: Floats, expected: Expectation, told: int) -> pd.DataFrame:
    """How the expected metric goes with each statistic over all candidates, from -1 to 1."""
    mean = expected.weights @ expected.mean
    spread = mean.std() or 1.0
    weight = features.T @ (mean - mean.mean()) / len(mean) / spread
    reach = 2 / np.sqrt(told + 3)
    low, high = np.maximum(weight - reach, -1), np.minimum(weight + reach, 1)
    meaning = [_in_words(*each) for each in zip(low, high, features.std(0), strict=True)]
    table = {'weight': weight, 'low': low, 'high': high, 'meaning': meaning}
    return pd.DataFrame(table, index=pd.Index(names, name='statistic'))


def _in_words(low: float, high: float, spread: float) -> str:
    if not spread:
        return 'says nothing here: it is the same for all candidates'
    if low > 0:
        return 'more of it is better here'
    return 'less of it is better here' if high < 0 else 'not yet known'
