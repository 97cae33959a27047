"""The fine stage on an engine whose events come from a thread of its own, as those of NNI's training service do."""

from __future__ import annotations

import contextlib
import re
import threading

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from ready_engine import ReadyEngine
from searches import search
from spaces import TinySpace, tiny_kernel, train

from nni_knas import KNAS
from nni_knas.record import Record


class Threaded(ReadyEngine):
    """Trials that end at once, well or not."""

    def __init__(self, metric: float | None) -> None:
        super().__init__()
        self.metric = metric

    def submit_models(self, *models):
        for model in models:
            threading.Thread(target=self._end, args=(model,), daemon=True).start()

    def _end(self, model):
        if self.metric is not None:
            self.dispatch_model_event(FinalMetricEvent(model, self.metric))
        status = ModelStatus.Failed if self.metric is None else ModelStatus.Trained
        self.dispatch_model_event(TrainingEndEvent(model, status))


@pytest.fixture
def late(monkeypatch):
    """The end of a training is recorded late: when the stage is over, or has gone on for a while."""
    over, end_training = threading.Event(), Record.end_training

    def record_late(record, *arguments):
        over.wait(1)
        end_training(record, *arguments)

    monkeypatch.setattr(Record, 'end_training', record_late)
    return over


@pytest.mark.parametrize('metric', [None, 0.5], ids=['failed', 'trained'])
def test_stage_waits_until_the_end_of_a_training_is_recorded(metric, late):
    strategy = KNAS(tiny_kernel(), candidates=5, top_k=1)
    space = SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train))
    try:
        if metric is None:
            with pytest.raises(RuntimeError, match='the trial ended as failed'):
                strategy(space, Threaded(metric))
        else:
            strategy(space, Threaded(metric))
        statuses = strategy.scores(all=True).status.tolist()
    finally:
        late.set()
    assert statuses == ['training-failed' if metric is None else 'trained', *['scored'] * 4]


@pytest.mark.parametrize('metric, said', [(0.5, 'metric 0.5'), (None, 'the trial ended as')], ids=['trained', 'failed'])
def test_each_training_is_told_in_a_line_of_the_log_of_nni(metric, said, caplog):
    caplog.set_level('INFO', logger='nni.knas')
    strategy = KNAS(tiny_kernel(), candidates=5, top_k=2)
    space = SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train))
    with contextlib.suppress(RuntimeError):  # where all failed
        strategy(space, Threaded(metric))
    lines = sorted(line for line in caplog.messages if line.startswith('Trained'))
    assert [line.partition(':')[0].partition(' (')[0] for line in lines] == ['Trained 1 of 2', 'Trained 2 of 2']
    assert all(said in line and re.search(r'\(rank [12] by score\)', line) for line in lines)


def test_a_training_in_this_process_that_failed_is_told_with_its_own_error(tmp_path, caplog):
    caplog.set_level('INFO', logger='nni.knas')
    with pytest.raises(RuntimeError, match=r'training is broken in spaces.py, line'):
        search(KNAS(tiny_kernel(), candidates=5, top_k=1), tmp_path, evaluator=FunctionalEvaluator(train, fails=True))
    assert any('RuntimeError: training is broken in spaces.py, line' in line for line in caplog.messages)
