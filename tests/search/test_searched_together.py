"""A search whose candidates are scored together finds what one does that scores each by itself."""

from __future__ import annotations

import numpy as np
import pytest
from searches import run
from spaces import Many, tiny_kernel

from nni_knas.kernel import together


@pytest.fixture
def passes(monkeypatch):
    seen, shared = [], together.pass_together
    monkeypatch.setattr(together, 'pass_together', lambda g, networks: (seen.append(networks), shared(g, networks))[1])
    return seen


@pytest.mark.parametrize('effort', ['adaptive', 'full'])
def test_scores_are_those_of_one_by_one(passes, effort):
    tables = [run(Many(), tiny_kernel(together=most), effort=effort, ahead=32).scores(all=True) for most in (32, 32, 1)]
    once, again, alone = (table.set_index('candidate').sort_index() for table in tables)
    for column in ('quick', 'score'):
        assert once[column].equals(again[column])  # to the last bit
        np.testing.assert_allclose(once[column].astype(float), alone[column].astype(float), rtol=1e-5)
    assert max(passes) == 32 and np.mean(passes) > 8
