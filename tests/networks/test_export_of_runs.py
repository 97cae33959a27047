"""What a run exports: its winner, or another of its networks."""

from __future__ import annotations

import json

import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import SimplifiedModelSpace
from spaces import TinySpace, tiny_kernel, train, vectors
from strangers import outputs_of

from nni_knas import KNAS, open_run
from nni_knas.record import record_path


def test_winner_of_a_run(run, tmp_path):
    files = run.export(tmp_path)
    inputs = vectors()[0]
    assert torch.allclose(torch.export.load(files['program']).module()(inputs), outputs_of(run.network(), inputs))
    description = json.loads(files['description'].read_text())
    assert description['architecture'] == run.architecture and description['metric'] == run.metric
    assert description['score'] == run.winner.score and description['rank'] == run.winner.name and description['trained']


def test_rank_of_a_run(run, tmp_path):
    scores = run.scores(all=True)
    [rank] = {*scores.index[scores.status == 'trained']} - {run.winner.name}
    files = run.export(tmp_path, ['state-dict'], rank=rank)
    assert json.loads(files['description'].read_text())['architecture'] == run.scores(all=True).architecture[rank]
    weights = torch.load(files['state-dict'], weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in run.network(rank).state_dict().items())


def test_untrained_is_refused_unless_asked_for(run, tmp_path):
    with pytest.raises(ValueError, match=r'rank 5 .* has no trained weights, since it was not trained; untrained=True'):
        run.export(tmp_path, rank=5)
    description = json.loads(run.export(tmp_path, rank=5, untrained=True)['description'].read_text())
    assert description['trained'] is False and description['metric'] is None
    with pytest.raises(LookupError, match='no candidate of rank 99: ranks go from 1 to 8'):
        run.export(tmp_path, rank=99)


def test_run_without_kept_weights(tmp_path):
    strategy = KNAS(tiny_kernel(), 5, 1, record=record_path(tmp_path))
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
    run = open_run(tmp_path)
    for path in tmp_path.rglob('*.pt'):
        path.unlink()
    with pytest.raises(ValueError, match='has no trained weights, since its weights were not kept'):
        run.export(tmp_path / 'to')


def test_run_that_does_not_know_its_inputs(run, tmp_path, monkeypatch):
    get = run.record.get_meta
    monkeypatch.setattr(run.record, 'get_meta', lambda key: None if key == 'example' else get(key))
    with pytest.raises(LookupError, match="does not know the shape of its networks' inputs: give example="):
        run.export(tmp_path)
    assert run.export(tmp_path, example=vectors()[0])['program'].exists()
