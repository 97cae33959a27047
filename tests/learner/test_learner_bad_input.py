"""A mistake gets one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_up_panels import made_up

from nni_knas import Learner

PANEL = pd.DataFrame({'score': [1.0, 2.0], 'a': [0.5, 0.1]}, index=['x', 'y'])


@pytest.mark.parametrize(
    ('wrong', 'said'),
    [
        ({'panel': [[1.0]]}, 'panel must be a pandas.DataFrame with a row a candidate'),
        ({'panel': PANEL.iloc[:0]}, 'panel must be a pandas.DataFrame with a row a candidate'),
        ({'panel': PANEL.assign(a=['p', 'q'])}, "statistics are numbers, but column 'a' of the panel has"),
        ({'panel': PANEL.assign(a=[1j, 2j])}, "statistics are numbers, but column 'a' of the panel has complex128"),
        ({'panel': PANEL.set_axis(['x', 'x'])}, "each row of the panel needs a label of its own, 'x' is there twice"),
        ({'panel': PANEL.set_axis(['a', 'a'], axis=1)}, "each column of the panel needs a label of its own, 'a' is"),
        ({'panel': PANEL[['a']]}, 'the recommended score is the prior where none is given, and needs a column score or'),
        ({'prior': 'flops'}, "prior names no column of the panel: 'flops'; there are score, a"),
        ({'prior': ['score']}, r"prior names no column of the panel: \['score'\]; there are score, a"),
        ({'prior': pd.Series([1.0], ['x'])}, 'prior must have exactly one value for each row of the panel'),
        ({'prior': pd.Series([1.0, 2.0, 3.0], ['x', 'y', 'y'])}, 'prior must have exactly one value for each row'),
        ({'prior': pd.Series(['p', 'q'], ['x', 'y'])}, 'prior is numbers, higher is better, but the Series has'),
        ({'optimize_mode': 'max'}, "optimize_mode is 'maximize' or 'minimize', not 'max'"),
        ({'seed': -1}, 'seed is a whole number of at least 0, not -1'),
        ({'seed': None}, 'seed is a whole number of at least 0, not None'),
    ],
)
def test_in_what_it_is_made_of(wrong, said):
    with pytest.raises(ValueError, match=f'^{said}') as caught:
        Learner(**{'panel': PANEL, **wrong})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('n', [0, -1, 1.5, '3', None, True])
def test_in_how_many(n):
    with pytest.raises(ValueError, match=r'^n is how many to train next, a whole number of at least 1, not '):
        Learner(PANEL).ask(n)


@pytest.mark.parametrize('label', ['z', 0, None, ['x']])
def test_in_whom(label):
    learner = Learner(PANEL)
    for use in (lambda: learner.tell(label, 1.0), lambda: learner.begin(label), lambda: learner.reason(label)):
        with pytest.raises(ValueError, match=r'^no candidate of the panel has the label '):
            use()


@pytest.mark.parametrize('metric', ['0.9', [0.9, 0.8], {}, 1j])
def test_in_the_metric(metric):
    learner = Learner(PANEL)
    with pytest.raises(ValueError, match=r'^a metric is a number, or None where training failed, not '):
        learner.tell('x', metric)
    assert learner.ask(2) == ['y', 'x']  # nothing was taken in


def test_numbers_of_any_kind():
    panel, _ = made_up(10)
    learner = Learner(panel.astype({'a': 'Float64', 'b': 'float32'}).assign(c=panel.c > 0), seed=np.int64(3))
    for label, metric in zip(learner.ask(np.int64(3)), (np.float32(0.5), 1, np.array(0.25)), strict=True):
        learner.tell(label, metric)
    assert np.isfinite(learner.predictions()).all(axis=None)
