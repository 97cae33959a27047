"""What is beside the work may fail, and a manager may be late: no result is lost by it, and no run ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import requests
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from ready_engine import ReadyEngine
from searches import report
from spaces import TinySpace, tiny_kernel

from nni_knas import KNAS
from nni_knas.bridge.experiment import answer_of
from nni_knas.engine import engine as engine_module
from nni_knas.footprint import Meter
from nni_knas.search import fine


class Listener(ReadyEngine):
    """One thread tells of all trials, as NNI's does: an exception ends it."""

    def submit_models(self, *models):
        self.thread = threading.Thread(target=self._end, args=models, daemon=True)
        self.thread.start()

    def _end(self, model):
        self.dispatch_model_event(FinalMetricEvent(model, 0.5))
        self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))


def fail(*arguments, **more):
    raise OSError('it is broken')


FAULTS = {
    'mark': (Meter, 'mark'),
    'reading': (Meter, '_clock_and_cpu_seconds'),
    'interval': (Meter, '_write_interval'),
    'energy': (fine, 'energy_of'),
    'bar': (fine.tqdm, 'update'),
    'text': (engine_module.tqdm, 'set_postfix_str'),
}


@pytest.mark.parametrize('engine', [Listener, SequentialExecutionEngine])
@pytest.mark.parametrize('fault', FAULTS)
def test_what_is_beside_the_work_fails(monkeypatch, caplog, fault, engine):
    monkeypatch.setattr(*FAULTS[fault], fail)
    strategy = KNAS(tiny_kernel(), candidates=6, top_k=2)
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(report)), engine())
    scores = strategy.scores()
    assert list(scores.status) == ['trained'] * 2 + ['scored'] * 4 and scores.metric.notna().sum() == 2
    said = [line for line in caplog.messages if 'it is broken' in line]
    assert len(said) in (1, 2) and len(set(said)) == len(said)  # the meter's user may say it, too


def late_manager(monkeypatch, alive: bool):
    """An experiment whose manager refuses the first three questions."""
    with subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE) as process:
        if not alive:
            process.communicate()
        yield SimpleNamespace(id='abc', _proc=process)


@pytest.fixture(params=[True, False], ids=['alive', 'gone'])
def manager(request, monkeypatch):
    yield from ((experiment, request.param) for experiment in late_manager(monkeypatch, request.param))


@pytest.mark.parametrize('error', [requests.ConnectionError('refused'), requests.Timeout('late')], ids=['refused', 'late'])
def test_manager_that_does_not_answer(manager, error):
    experiment, alive = manager
    refusals = iter([error] * 3)

    def ask():
        for refusal in refusals:
            raise refusal
        return 'RUNNING'

    if alive:
        assert answer_of(SimpleNamespace(nodejs_binding=experiment), ask, pause=0) == 'RUNNING'
    else:
        with pytest.raises(RuntimeError, match="NNI's manager of the experiment abc has ended"):
            answer_of(experiment, ask, pause=0)


def test_manager_that_says_no():
    response = requests.Response()
    response.status_code = 404

    def ask():
        raise requests.HTTPError('no such trial', response=response)

    with pytest.raises(requests.HTTPError):
        answer_of(SimpleNamespace(id='abc'), ask)
