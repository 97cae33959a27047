"""The repairs of NNI that no other test would miss."""

from __future__ import annotations

import nni
import pytest
from nni.common.serializer import is_traceable
from nni.runtime.tuner_command_channel import CommandType, TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import RequestTrialJobs, Terminate


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


def test_what_a_traced_function_returns_makes_no_others_of_its_class_traced():
    made, other = nni.trace(made_table)(), Table()
    assert is_traceable(made)
    assert not is_traceable(other)
