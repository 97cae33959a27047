"""The models that a strategy lists."""

from __future__ import annotations

from searches import search
from spaces import TinySpace, tiny_kernel

from nni_knas import KNAS


def test_all_candidates_whatever_became_of_them(tmp_path):
    """Filtered ones and those outside of the space among them."""
    strategy = KNAS(tiny_kernel(), candidates=8, top_k=1, constraints={'parameters': 100})
    search(strategy, tmp_path, TinySpace())
    record = strategy._record
    record.exclude([row.id for row in record.explored() if row.status == 'scored'][:1])
    statuses = {row.status for row in record.explored()}
    assert {'filtered', 'outside', 'scored', 'trained'} <= statuses
    strategy._model_space = strategy._fine.space
    models = list(strategy.list_models(sort=False))
    assert [model.sample for model in models] == [row.sample for row in record.explored()]
    assert {model.status.value for model in models} == {'frozen', 'trained', 'invalid'}
