"""The repairs of NNI that no other test would miss."""

from __future__ import annotations

import nni
import pytest
from nni.common.serializer import is_traceable
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
