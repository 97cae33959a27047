"""The machines of NNI's remote service: what is lost with one, what is fetched, and what is said of it."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nni_node
import pytest
from nni.experiment.config import LocalConfig, RemoteConfig
from places import HELPERS

import nni_knas.bridge
from nni_knas.bridge.machines import MachineNews, is_fetched, lost_machine


@pytest.fixture(scope='module')
def told(tmp_path_factory):
    """What a manager tells in whose machines much happens; its folder is that of the experiment."""
    folder, node = tmp_path_factory.mktemp('managed'), Path(nni_node.__path__[0])
    repairs = Path(nni_knas.bridge.__file__).with_name('machines.js')
    command = [node / 'node', HELPERS / 'machines.js', repairs, node, folder]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return SimpleNamespace(folder=folder, **json.loads(ran.stdout))


def test_a_call_ends_with_the_connection(told):
    assert told.call == 'the connection has ended'


def test_one_machine_that_cannot_be_reached_keeps_no_search_from_beginning(told):
    assert told.begun == ['a', 'b', 'c']


def test_what_a_trial_keeps_is_here_before_its_end_is_told(told):
    assert told.ended[0] == ['done', 0, True]


def test_a_machine_writes_nothing_here_but_what_trials_keep(told):
    kept = sorted(str(path.relative_to(told.folder / 'knas')) for path in told.folder.glob('knas/**/*') if path.is_file())
    assert kept == ['results/7.json', 'tensorboard/trial-7/events.x.knas', 'weights/7.pt', 'weights/8.txt']


def test_weights_that_cannot_be_fetched_keep_no_trial_from_ending(told):
    assert told.ended[1][:2] == ['unfetched', 0]
    assert (told.folder / 'knas' / 'weights' / '8.txt').read_text() == 'they could not be fetched from b: no sftp here'


def test_a_trial_of_a_lost_machine_fails_once_and_says_why(told):
    assert [end[:2] for end in told.ended[2:]] == [['running', 255]]
    assert lost_machine(told.stderr) == 'a'
    assert told.left == ['b', 'c']


def test_a_machine_that_is_being_lost_gets_no_trial(told):
    assert told.created is None


def test_machines_that_were_lost_or_not_there_take_part_again(told):
    assert told.none == 0
    assert told.again == ['a', 'b', 'c', 'off']


def test_the_user_is_told_once(told, caplog):
    news = MachineNews(told.folder)
    with caplog.at_level(logging.WARNING, 'nni.knas'):
        news.tell()
        news.tell()
    said = [record.getMessage().partition(' every')[0] for record in caplog.records]
    assert [*said[:5], *sorted(said[5:])] == [
        'The machine off cannot be used: connect ECONNREFUSED.',
        *(
            f'The machine {host} was lost: what ran there is begun anew on the others, and it is tried again'
            for host in ('a', 'b', 'c')
        ),
        'No machine is left: the search waits until one can be reached again.',
        *(f'The machine {host} takes part again.' for host in told.again),
    ]


def test_no_news_where_nothing_was_said(tmp_path):
    MachineNews(tmp_path).tell()


@pytest.mark.parametrize(
    ('service', 'fetched'),
    [(None, False), (LocalConfig(), False), (RemoteConfig(machine_list=[]), True), (RemoteConfig(reuse_mode=True), False)],
)
def test_what_is_fetched(service, fetched):
    experiment = SimpleNamespace(id='ab12', config=SimpleNamespace(training_service=service))
    assert is_fetched(experiment) == fetched
    assert not is_fetched(None)


@pytest.mark.parametrize('line', ['', 'RuntimeError: the machine x was lost', 'nni_knas: the machine'])
def test_other_ends_of_trials(line):
    assert lost_machine(line) is None
