"""What a killed search leaves is ended whole, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from nni_knas.bridge.leftovers import end_leftovers, leftovers, managers

SLEEP = 'import time; print(flush=True); time.sleep(600)'
STUBBORN = f'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}'
WITH_CHILD = f'import subprocess, sys; subprocess.Popen([sys.executable, "-c", {SLEEP!r}]); import time; time.sleep(600)'


@pytest.fixture
def start():
    """Start a process that stands for one of NNI's; it is there when this returns."""
    started = []

    def start(code, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, '-c', code, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE
        )
        started.append(process)
        process.stdout.readline()
        return psutil.Process(process.pid)

    yield start
    for process in started:
        process.kill()
        process.wait()


def of(folder, identity='killed'):
    """Arguments of a manager, as NNI gives them."""
    return ('--port', '8080', '--experiment-id', identity, '--action', 'create', '--experiments-directory', str(folder))


def alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_all_managers_with_their_children(tmp_path, start):
    first, second = start(SLEEP, *of(tmp_path)), start(WITH_CHILD, *of(tmp_path))
    assert {process.pid for process in managers(tmp_path / 'killed')} == {first.pid, second.pid}
    [child] = second.children()
    end_leftovers(tmp_path / 'killed')
    assert not any(map(alive, (first, second, child)))


def test_trials_whose_manager_has_died(tmp_path, start):
    trial = start(SLEEP, NNI_OUTPUT_DIR=str(tmp_path / 'killed' / 'environments' / 'local-env' / 'trials' / 'abc'))
    dispatcher = start(SLEEP, NNI_LOG_DIRECTORY=str(tmp_path / 'killed' / 'log'))
    end_leftovers(tmp_path / 'killed')
    assert not alive(trial) and not alive(dispatcher)


def test_one_that_does_not_listen(tmp_path, start, monkeypatch):
    monkeypatch.setattr(
        psutil, 'wait_procs', lambda processes, timeout, wait=psutil.wait_procs: wait(processes, timeout / 50)
    )
    manager = start(STUBBORN, *of(tmp_path))
    end_leftovers(tmp_path / 'killed')
    assert not alive(manager)


def test_others_are_left_alone(tmp_path, start):
    """Of the same id in another folder, of another id in the same one; and what only names the run, as an editor may."""
    others = [
        start(SLEEP, *of(tmp_path / 'elsewhere')),
        start(SLEEP, *of(tmp_path, 'another')),
        start(SLEEP, '--experiment-id', 'killed'),
        start(SLEEP, 'killed', str(tmp_path)),
        start(SLEEP, NNI_OUTPUT_DIR=str(tmp_path / 'killed too')),
    ]
    assert leftovers(tmp_path / 'killed') == []
    end_leftovers(tmp_path / 'killed')
    assert all(map(alive, others))


def test_a_link_to_the_folder_is_the_folder(tmp_path, start):
    (tmp_path / 'link').symlink_to(tmp_path)
    manager = start(SLEEP, *of(tmp_path / 'link'))
    assert [process.pid for process in managers(tmp_path / 'killed')] == [manager.pid]


def test_never_this_process_nor_what_it_descends_from(tmp_path, monkeypatch):
    """A search that is resumed from a trial's or a dispatcher's shell."""
    code = (
        'import pathlib, sys; from nni_knas.bridge.leftovers import leftovers;'
        f'assert leftovers(pathlib.Path({str(tmp_path / "killed")!r})) == []'
    )
    environment = {**os.environ, 'SDK_PROCESS': 'dispatcher', 'NNI_OUTPUT_DIR': str(tmp_path / 'killed')}
    assert subprocess.run([sys.executable, '-c', code, *of(tmp_path)], env=environment).returncode == 0
