"""Who is at work on a run, and for how long it has been."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import psutil
import pytest
from interrupted import make
from servers import wait_until

from nni_knas.record import Record, record_path
from nni_knas.runs import check_idle, session, worked_seconds


@pytest.fixture
def path(tmp_path):
    return record_path(tmp_path / 'killed')


@pytest.fixture
def another():
    """A process that does nothing."""
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    yield process
    process.kill()
    process.wait()


def at_work(path, pid, **about):
    """Write down that a process is at work on a run."""
    with contextlib.closing(Record(path)) as record:  # whole in its file from here on
        with session(record, {}, command='nni-knas search --port 8080'):
            [begun] = record.sessions()
        created = psutil.Process(pid).create_time()
        record.keep_session(1, about={**begun.about, 'pid': pid, 'created': created, **about})


def contents(folder):
    """All files but those that SQLite makes for readers."""
    files = [file for file in folder.rglob('*') if file.is_file() and not file.name.endswith(('-shm', '-wal'))]
    return {file: file.read_bytes() for file in files}


class TestIdle:
    def test_a_run_that_is_not_there_yet(self, path):
        check_idle(path)
        assert not path.exists()

    def test_a_process_that_is_at_work_is_named(self, path, another):
        at_work(path, another.pid)
        with pytest.raises(ValueError) as raised:
            check_idle(path)
        assert str(raised.value) == (
            f'the run killed is being searched by process {another.pid} (nni-knas search --port 8080): '
            'stop that first, or let it finish'
        )

    def test_this_process_is_one_too(self, path):
        with session(Record(path), {}), pytest.raises(ValueError, match=rf'by process {os.getpid()} '):
            check_idle(path)
        check_idle(path)

    def test_one_that_was_killed_is_not_at_work(self, path, another):
        at_work(path, another.pid)
        another.kill()
        wait_until(lambda: psutil.Process(another.pid).status() == psutil.STATUS_ZOMBIE)  # nobody has waited for it
        check_idle(path)

    def test_another_process_of_the_same_number_is_not_meant(self, path, another):
        at_work(path, another.pid, created=1.0)
        check_idle(path)

    def test_a_damaged_record_is_said_to_be(self, path):
        path.parent.mkdir(parents=True)
        path.write_bytes(b'SQLite format 3\0' + b'nonsense' * 1000)
        with pytest.raises(ValueError, match=rf'{path} is damaged'):
            check_idle(path)


@pytest.mark.parametrize('engine', ['sequential', 'ts'])
@pytest.mark.parametrize('action', ['run', 'resume'])
def test_a_run_at_work_is_left_as_it_is(tmp_path, path, another, monkeypatch, engine, action):
    """Nothing is written, no manager stopped, though a script stops its experiment whatever has happened."""
    at_work(path, another.pid)
    experiment = make(engine, 'killed', tmp_path)
    monkeypatch.setattr(experiment, 'has_checkpoint', lambda: True)
    monkeypatch.setattr(experiment, 'load_checkpoint', lambda: None)
    names = ['--experiment-id', 'killed', '--experiments-directory', str(tmp_path)]
    manager = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', *names])
    before = contents(tmp_path)
    try:
        with pytest.raises(ValueError, match=f'the run killed is being searched by process {another.pid} '):
            getattr(experiment, action)()
        experiment.stop()
        assert manager.poll() is None
    finally:
        manager.kill()
        manager.wait()
    assert contents(tmp_path) == before


def test_a_strategy_without_an_experiment_checks_too(path, another, tmp_path):
    at_work(path, another.pid)
    experiment = make('sequential', 'other', tmp_path)
    experiment.strategy._record_path = path
    with pytest.raises(ValueError, match='is being searched by process'):
        experiment.strategy.initialize(experiment.executable_model_factory(experiment.config.model_format), None)


def test_time_at_work_is_that_of_the_sessions(path, monkeypatch):
    """Not that of the trials, which run side by side; nor that between a kill and a restart."""
    record = Record(path)
    for begin, end in ((1000.0, 1900.0), (5000.0, 5060.0)):
        monkeypatch.setattr(time, 'time', lambda now=begin: now)
        number = record.begin_session({})
        monkeypatch.setattr(time, 'time', lambda now=end: now)
        record.keep_session(number)
    assert worked_seconds(record) == 960.0
    monkeypatch.setattr(time, 'time', lambda: 100.0)  # the clock was set
    record.keep_session(2)
    assert worked_seconds(record) == 900.0
