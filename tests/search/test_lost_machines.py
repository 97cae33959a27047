"""Trainings that are lost with their machines, and weights that other machines have."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nni.experiment.config import K8sNfsConfig, KubeflowConfig, RemoteConfig
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from ready_engine import ReadyEngine
from searches import search
from spaces import TinySpace, tiny_kernel, train

import nni_knas.runs.ranked as ranked_module
import nni_knas.search.fine as fine_module
import nni_knas.search.strategy as strategy_module
from nni_knas import KNAS, open_run
from nni_knas.bridge.machines import is_fetched, shared_folder
from nni_knas.record import result_path, unfetched_path, weights_path


class Losing(ReadyEngine):
    """Its trials end at once: the first ``lost`` of them with their machine, each with another."""

    def __init__(self, lost: int, monkeypatch) -> None:
        super().__init__()
        self.trained = []
        self.lost = lost
        monkeypatch.setattr(fine_module, 'last_words_of_training', lambda *arguments: self._last_line())

    def _last_line(self):
        return f'nni_knas: the machine 10.0.0.{len(self.trained)} was lost while it ran this trial'

    def submit_models(self, *models):
        for model in models:
            self.trained.append(model.evaluator.candidate)
            if len(self.trained) <= self.lost:
                self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Failed))
            else:
                self.dispatch_model_event(FinalMetricEvent(model, 0.5))
                self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))


@pytest.mark.parametrize('choose', ['rank', 'learn'])
def test_what_was_lost_with_its_machine_is_trained_on_another(choose, monkeypatch):
    engine, strategy = Losing(1, monkeypatch), KNAS(tiny_kernel(), candidates=5, top_k=2, choose=choose)
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), engine)
    scores = strategy.scores(all=True)
    assert engine.trained[0] == engine.trained[1] and len(engine.trained) == 3
    assert scores.status.value_counts().to_dict() == {'scored': 3, 'trained': 2} and scores.reason.isna().all()


def test_what_was_lost_with_two_machines_has_failed_and_says_with_which(monkeypatch):
    engine, strategy = Losing(2, monkeypatch), KNAS(tiny_kernel(), candidates=5, top_k=2)
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), engine)
    scores = strategy.scores(all=True)
    assert scores.status.value_counts().to_dict() == {'scored': 3, 'trained': 1, 'training-failed': 1}
    [reason] = scores.reason.dropna()
    assert reason == 'its machines were lost while they trained it: 10.0.0.1, and then 10.0.0.2'


@contextlib.contextmanager
def elsewhere(monkeypatch, folder: Path, *, fetched=True, shared=None):
    """Trials run on a machine of which this is the folder of the one that runs, as far as a search can tell."""
    with monkeypatch.context() as patch:
        patch.setattr(strategy_module, 'is_local', lambda experiment: False)
        patch.setattr(strategy_module, 'is_fetched', lambda experiment: fetched)
        patch.setattr(strategy_module, 'shared_folder', lambda experiment: shared)
        patch.setattr(fine_module.FineStage, '_allow_another_trial', lambda stage: None)  # there is no manager
        patch.setattr(ranked_module, 'trial_folder', lambda: folder)
        yield


def test_a_trial_elsewhere_keeps_all_in_its_own_folder(tmp_path, monkeypatch):
    with elsewhere(monkeypatch, tmp_path / 'there'):
        run = open_run(search(KNAS(tiny_kernel(), candidates=4, top_k=1), tmp_path).id)
    number = int(run.winner.candidate)
    assert weights_path(tmp_path / 'there', number).exists() and result_path(tmp_path / 'there', number).exists()
    assert not weights_path(run.folder, number).exists()


def test_weights_in_a_shared_storage_come_here(tmp_path, monkeypatch):
    with elsewhere(monkeypatch, tmp_path / 'trials' / 'x1' / 'nnioutput', shared=tmp_path / 'trials'):
        run = open_run(search(KNAS(tiny_kernel(), candidates=4, top_k=1), tmp_path).id)
    kept = torch.load(weights_path(tmp_path / 'trials' / 'x1' / 'nnioutput', int(run.winner.candidate)))
    assert all(map(torch.equal, run.network().state_dict().values(), kept.values()))
    assert run.metrics() == {} and result_path(run.folder, int(run.winner.candidate)).exists()


def test_the_place_of_trials_in_a_shared_storage(tmp_path):
    storage = SimpleNamespace(local_mount_point=tmp_path)
    config = SimpleNamespace(shared_storage=storage, training_service=RemoteConfig(reuse_mode=True))
    experiment = SimpleNamespace(id='ab12', config=config)
    assert shared_folder(experiment) == tmp_path / 'nni' / 'ab12' / 'trials' and is_fetched(experiment)
    config.shared_storage = None
    assert shared_folder(experiment) is None and not is_fetched(experiment)


def test_the_place_of_trials_that_kubernetes_runs(tmp_path):
    """NNI mounts there what it shares with them."""
    config = SimpleNamespace(experiment_working_directory=tmp_path, canonical_copy=lambda: config)
    config.training_service = KubeflowConfig(storage=K8sNfsConfig(storage_type='nfs'), reuse_mode=True)
    experiment = SimpleNamespace(id='ab12', config=config)
    assert shared_folder(experiment) == tmp_path / 'ab12' / 'nfs-root' / 'nni' / 'ab12' / 'trials' and is_fetched(experiment)
    config.training_service.reuse_mode = False
    assert shared_folder(experiment) is None


def test_where_weights_cannot_be_had_a_sentence_says_why(tmp_path, monkeypatch, caplog):
    with elsewhere(monkeypatch, None, fetched=False), monkeypatch.context() as patch:
        patch.setattr(ranked_module, '_write_if_reachable', lambda path, write: None)
        run = open_run(search(KNAS(tiny_kernel(), candidates=4, top_k=1), tmp_path).id)
    why = unfetched_path(run.folder, int(run.winner.candidate)).read_text()
    assert why.startswith('it was trained on another machine')
    assert any(why in message for message in caplog.messages)
    caplog.clear()
    run.network()
    assert why in caplog.text
    with pytest.raises(ValueError, match='has no trained weights, since it was trained on another machine'):
        run.export(tmp_path / 'exported')
