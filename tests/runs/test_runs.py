"""Runs opened by id or folder, in this process and in a new one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import SimplifiedModelSpace
from processes import Forked
from searches import search
from spaces import FaultySpace, TinySpace, tiny_kernel, train, vectors

from nni_knas import KNAS, open_run
from nni_knas.record import record_path


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    return search(KNAS(tiny_kernel(), 10, 3), tmp_path_factory.mktemp('runs'))


def folder(experiment):
    return Path(experiment.config.experiment_working_directory) / experiment.id


def test_by_id_and_by_folder(experiment):
    by_id, by_folder = open_run(experiment.id), open_run(folder(experiment))
    assert by_id.scores(all=True).equals(by_folder.scores(all=True))
    assert by_id.scores(all=True).equals(experiment.strategy.scores(all=True))


def test_winner(experiment):
    run = open_run(experiment.id)
    [best] = experiment.export_top_models(1)
    assert run.architecture == best.sample and run.metric == best.metric
    assert list(run.ranking(all=True).metric) == sorted(run.ranking(all=True).metric, reverse=True)


def test_network_has_the_trained_weights(experiment):
    run = open_run(experiment.id)
    inputs, targets = vectors()
    loss = torch.nn.functional.cross_entropy(run.network()(inputs), targets).item()
    assert -loss >= run.metric  # one step of training after the loss that was reported


def test_network_of_a_rank(experiment):
    run = open_run(experiment.id)
    architecture = run.scores(all=True).architecture[7]
    assert run.network(rank=7).first.out_features == architecture['width']


def print_winner(identity):
    run = open_run(identity)
    print(run.metric, type(run.network()).__name__)


def test_in_a_new_process(experiment, tmp_path):
    assert Forked(print_winner, experiment.id, output=tmp_path / 'printed').wait() == 0
    assert (tmp_path / 'printed').read_text() == f'{open_run(experiment.id).metric} TinySpace\n'


def test_while_nothing_is_trained(tmp_path):
    strategy = KNAS(tiny_kernel(), 5, 0, record=record_path(tmp_path))
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
    run = open_run(tmp_path)
    assert run.metric is None
    assert run.architecture == strategy.scores(all=True).architecture[1]


def test_no_candidate_with_a_score(tmp_path):
    strategy = KNAS(tiny_kernel(), 9, 0, record=record_path(tmp_path))
    with pytest.raises(RuntimeError), pytest.warns(UserWarning):
        KNAS(tiny_kernel(), 100, 0, record=record_path(tmp_path))(
            SimplifiedModelSpace.from_model(FaultySpace(good=False), FunctionalEvaluator(train)), SequentialExecutionEngine()
        )
    assert strategy._record is None
    with pytest.raises(LookupError, match='no candidate with a score'):
        _ = open_run(tmp_path).winner


def test_no_such_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no experiment 'nowhere'"):
        open_run('nowhere')
    with pytest.raises(FileNotFoundError, match='is no KNAS run'):
        open_run(tmp_path)
