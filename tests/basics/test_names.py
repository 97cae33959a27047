"""The names that are known without what is behind them are those of what is behind them."""

from __future__ import annotations

import sys
from typing import get_args

import nni.nas.hub.pytorch as hub
import pytest
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.strategy.base import Strategy
from spaces import tiny_kernel
from torch import nn

from nni_knas.basics import names
from nni_knas.basics.faces import opened_later
from nni_knas.config.options import SearchOptions
from nni_knas.engine import Placement
from nni_knas.search.coarse import PLACES


def of_the_package(registry: dict) -> list[str]:
    """The names in a registry of what comes with the package; other tests may have added their own."""
    return sorted(name for name, entry in registry.items() if getattr(entry, '__module__', '').startswith('nni_knas.'))


def test_scores():
    from nni_knas.scores import base

    assert of_the_package(base._REGISTRY) == sorted(names.SCORES)
    assert names.RECOMMENDED in names.SCORES


def test_aggregates():
    from nni_knas.benchmark import AGGREGATES

    assert tuple(AGGREGATES) == names.AGGREGATES == tuple(sorted(names.AGGREGATES))


def test_panel():
    """A table of candidates, or one of scores in a file, may have both: they are no names of other columns."""
    from nni_knas.record import Record

    assert len(set(names.PANEL)) == len(names.PANEL)
    assert not {*names.PANEL} & {'rank', 'panel_reason', *Record(None).frame().columns}
    assert tuple(tiny_kernel().statistics(nn.Linear(6, 3))) == names.PANEL


def test_benchmarks():
    from nni_knas.benchmark import base

    assert of_the_package({name: entry.function for name, entry in base._REGISTRY.items()}) == sorted(names.BENCHMARKS)


def test_spaces():
    spaces = [name for name, value in vars(hub).items() if isinstance(value, type) and issubclass(value, ModelSpace)]
    assert sorted(spaces) == sorted(names.HUB)


def test_placements():
    assert tuple(PLACES) == names.PLACEMENTS
    assert isinstance(PLACES['process'](), Placement)


@pytest.mark.parametrize('name', [name for name in names.EXPLORERS if name != 'rl'])
def test_explorers(name):
    assert isinstance(SearchOptions(explorer=name).make_explorer(), Strategy)


def test_costs_are_limits():
    assert set(names.COSTS) == {name.removeprefix('max_') for name in vars(SearchOptions()) if name.startswith('max_')}


def test_literals_have_the_defaults():
    options = SearchOptions()
    assert options.effort in get_args(names.Effort)
    assert options.normalization in get_args(names.Normalization)
    assert options.optimize_mode in (None, *get_args(names.OptimizeMode))  # by default the evaluator says


def test_a_face_opens_when_it_is_asked():
    look_up = opened_later('nni_knas.basics', {'known': 'texts'})
    try:
        assert look_up('known')(1)
        with pytest.raises(AttributeError, match=r"'nni_knas\.basics' has no attribute 'other'"):
            look_up('other')
    finally:
        del sys.modules['nni_knas.basics'].known


@pytest.mark.parametrize('room', ['nni_knas', 'nni_knas.config', 'nni_knas.runs', 'nni_knas.search'])
def test_faces_have_what_they_show(room):
    module = sys.modules[room]
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
