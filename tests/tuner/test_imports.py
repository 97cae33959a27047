"""Results of training that are imported into the tuner, under limits, on a front, and of networks that are known."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from identical_models import SameTwice
from nni.nas.space import SimplifiedModelSpace
from places import HELPERS
from spaces import TinySpace

from nni_knas import open_run
from nni_knas.networks import random_models
from nni_knas.tuner.background import BackgroundSearch

ARGUMENTS = {'space': 'spaces:TinySpace', 'data': 'nnictl_models:data', 'candidates': 3, 'top_k': 1, 'batch_size': 8}


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A search that has scored."""
    monkeypatch.chdir(HELPERS)
    searches = []

    def search(**arguments) -> BackgroundSearch:
        searches.append(BackgroundSearch({**ARGUMENTS, **arguments}, tmp_path, {}))
        assert searches[0].prepare({}) and searches[0].run()
        return searches[0]

    yield search
    for each in searches:
        each.close()


def unknown(search: BackgroundSearch, **choices) -> dict:
    """A sample that was not scored."""
    known = search.record.frame().architecture.tolist()
    models = random_models(SimplifiedModelSpace.from_model(TinySpace()), 27, 0)
    return next(m.sample for m in models if m.sample not in known and all(m.sample[k] == v for k, v in choices.items()))


def test_over_the_limits(search, tmp_path: Path, caplog):
    """What the limits leave out cannot win, however good it is."""
    tuner = search(max_parameters=100)
    kept, out = unknown(tuner, width=4), unknown(tuner, width=16)
    with caplog.at_level(logging.WARNING):
        tuner.import_result(out, 0.9)
        tuner.import_result(kept, 0.5)
    row = tuner.record.find(out)
    assert row.status == 'filtered' and row.metric == 0.9 and row.costs['parameters'] > 100
    assert 'does not count: parameters' in caplog.text
    run = open_run(tmp_path)
    assert run.architecture == kept and len(run.ranking()) == 1
    tuner.import_result(out, 0.95)
    assert tuner.record.find(out).metric == 0.95 and len(open_run(tmp_path).ranking()) == 1


def test_on_a_front(search, tmp_path):
    """Its costs are measured, so that it can be on the front."""
    tuner = search(front='flops')
    sample = unknown(tuner)
    tuner.import_result(sample, 0.5)
    frame = open_run(tmp_path).scores(all=True)
    assert frame.flops.notna().all() and frame.status.tolist().count('trained') == 1


@pytest.mark.parametrize('merge', [True, False])
def test_of_a_network_that_is_known(search, tmp_path, merge):
    tuner = search(space='identical_models:SameTwice', candidates=1, merge_identical=merge, choose='rank')
    [known] = tuner.record.explored()
    labels = {json.dumps(model.sample): model.sample for model in SimplifiedModelSpace.from_model(SameTwice()).grid()}
    [other] = [sample for sample in labels.values() if sample != known.sample]
    tuner.import_result(other, 0.5)
    assert len(tuner.record) == (1 if merge else 2)
    assert tuner.record.get(1).metric == (0.5 if merge else None)
    assert (tuner.next_trial() is None) == merge  # it is not trained again


@pytest.mark.parametrize('value', ['nan', None, 'true', '"good"'])
def test_what_is_no_number(search, value, caplog):
    tuner = search()
    tuner.import_result(unknown(tuner), value)
    assert len(tuner.record) == 3 and 'Ignored an imported result' in caplog.text


@pytest.mark.parametrize('value', [None, float('nan'), 'good'])
def test_trials_that_report_no_number(search, value):
    tuner = search()
    number, _ = tuner.next_trial()
    tuner.set_metric(number, value)
    tuner.end_trial(number, True)
    row = tuner.record.get(number)
    assert row.status == 'training-failed' and 'which is no finite number' in row.reason


def test_energy_that_cannot_be_told(search, monkeypatch):
    tuner = search()
    number, _ = tuner.next_trial()
    monkeypatch.setattr('nni_knas.tuner.background.energy_of', lambda *arguments: 1 / 0)
    tuner.set_metric(number, 0.5)
    tuner.end_trial(number, True)
    assert tuner.record.get(number).status == 'trained' and tuner.record.get(number).metric == 0.5
