"""The repairs of NNI that no other test would miss."""

from __future__ import annotations

import nni
import pytest
import requests
from nni.common.serializer import is_traceable
from nni.experiment import launcher, rest
from nni.nas.execution import TrainingServiceExecutionEngine
from nni.runtime.tuner_command_channel import CommandType, TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import RequestTrialJobs, Terminate

from nni_knas.bridge.repairs import _check_machines


class Table:
    pass


def made_table():
    return Table()


class Manager:
    """The manager's end of the channel."""

    def __init__(self, *commands):
        self.commands = [{'type': kind, 'content': content} for kind, content in commands]

    def receive(self):
        return self.commands.pop(0) if self.commands else None


def channel_of(manager):
    channel = TunerCommandChannel('ws://localhost:0/tuner')
    channel._channel = manager
    return channel


@pytest.mark.parametrize('kind', [CommandType.ImportData, CommandType.AddCustomizedTrialJob, CommandType.Ping])
def test_commands_for_tuners_are_skipped(kind):
    """They come when an experiment is resumed."""
    channel = channel_of(Manager((kind.value, '[]'), (kind.value, ''), ('GE', '2')))
    assert channel.receive() == RequestTrialJobs(2)
    assert isinstance(channel.receive(), Terminate)  # there is nothing left


def test_commands_that_are_wrong_still_raise():
    with pytest.raises(TypeError):
        channel_of(Manager(('GE', '{}'))).receive()
    with pytest.raises(ValueError):
        channel_of(Manager(('XX', ''))).receive()


def test_a_manager_that_ended_for_want_of_machines_is_told_of(tmp_path):
    error = OSError('nobody listens')
    _check_machines(tmp_path, error)
    (tmp_path / 'log').mkdir()
    (tmp_path / 'log' / 'machines.log').write_text('The machine a cannot be used: no.\nThe machine b cannot be used: no.\n')
    with pytest.raises(RuntimeError, match=r'no machine can be used\. The machine a .*: no\. The machine b .*: no\.$'):
        _check_machines(tmp_path, error)


def test_what_a_traced_function_returns_makes_no_others_of_its_class_traced():
    made, other = nni.trace(made_table)(), Table()
    assert is_traceable(made)
    assert not is_traceable(other)


class TestManagerThatIsAwaited:
    @pytest.fixture
    def pauses(self, monkeypatch):
        pauses: list[float] = []
        monkeypatch.setattr('time.sleep', pauses.append)
        return pauses

    def answers(self, monkeypatch, *answers):
        left = list(answers)

        def get(*_):
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer

        monkeypatch.setattr(rest, 'get', get)
        return left

    def test_as_long_as_it_takes(self, monkeypatch, pauses):
        left = self.answers(monkeypatch, *[requests.ConnectionError()] * 30, None, None)
        launcher._check_rest_server(8080)
        assert len(left) == 1
        assert sum(pauses) >= 3 - 1e-6  # NNI's patience
        assert max(pauses) < 0.5

    def test_not_for_ever(self, monkeypatch, pauses):
        self.answers(monkeypatch, *[requests.ConnectionError('not there')] * 4)
        with pytest.raises(requests.ConnectionError, match='not there'):
            launcher._check_rest_server(8080, retry=4)


class Statistics:
    """A manager that knows of trials, and notes whether it is asked what NNI asks while it waits."""

    def __init__(self, *statuses):
        self.statuses, self.waited = statuses, False

    def get_job_statistics(self):
        return [{'trialJobStatus': status, 'trialJobNumber': 1} for status in self.statuses]

    def get_status(self):
        self.waited = True
        return 'DONE'


@pytest.mark.parametrize(
    ('statuses', 'submitted', 'unseen', 'waits'),
    [
        (['SUCCEEDED', 'FAILED'], 2, {}, False),
        (['SUCCEEDED', 'RUNNING'], 2, {}, True),
        (['WAITING'], 1, {}, True),
        (['SUCCEEDED'], 2, {1: 'a model'}, True),  # the manager has not heard of it yet
        ([], None, {}, True),  # resumed: it may be of what was submitted before
    ],
)
def test_the_end_is_awaited_where_something_is_under_way(statuses, submitted, unseen, waits):
    engine = object.__new__(TrainingServiceExecutionEngine)
    engine._stopped, engine._current_parameter_id, engine._submitted_cache = False, submitted, unseen
    engine.nodejs_binding = Statistics(*statuses)
    engine.wait_models()
    assert engine.nodejs_binding.waited == waits
