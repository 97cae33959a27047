"""How a run stands: at work, finished, failed, interrupted or killed; what it is called, and how it is taken up."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest
from interrupted import make
from made_up_runs import make as make_up
from servers import wait_until

from nni_knas.record import Record, Status, keys, record_path
from nni_knas.runs import Run, session


@pytest.fixture
def run(tmp_path):
    return make_up(tmp_path / 'run', candidates=10, trained=0)


def writable(run):
    return Record(record_path(run.folder))


def test_at_work_and_given_up(run):
    record = writable(run)
    with pytest.raises(KeyboardInterrupt), session(record, {}):
        assert run.status == 'running'
        raise KeyboardInterrupt
    assert str(run.state) == 'interrupted' and run.state.stopped


def test_at_its_end(run):
    record = writable(run)
    with session(record, {}):
        record.set_meta(keys.COMPLETE, 1)
    assert str(run.state) == 'finished' and not run.state.stopped


def test_killed(run):
    """Its process says so, though NNI's manager may live on."""
    record = writable(run)
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    with session(record, {}):
        about = {**record.sessions()[0].about, 'pid': process.pid, 'created': psutil.Process(process.pid).create_time()}
    record.keep_session(1, about=about)
    assert run.status == 'running'
    process.kill()
    wait_until(lambda: run.status == 'killed')  # before its parent has asked for it
    process.wait()
    assert str(run.state) == 'killed' and run.state.stopped


@pytest.mark.parametrize('stage', ['_run_explorer', '_begins_quickly'])
def test_failed(tmp_path, monkeypatch, stage):
    """By an error of the user's code as well, before the first candidate or later."""

    def fail(*_):
        raise OSError('the disk is full')

    experiment = make('sequential', 'failed', tmp_path)
    monkeypatch.setattr(f'nni_knas.search.coarse.CoarseStage.{stage}', fail)
    with pytest.raises(OSError):
        experiment.run()
    experiment.stop()
    run = Run(tmp_path / 'failed')
    assert str(run.state) == 'failed: OSError: the disk is full'
    monkeypatch.undo()
    again = make('sequential', 'failed', tmp_path)
    (again.resume if stage == '_run_explorer' else again.run)()
    again.stop()
    assert str(run.state) == 'finished'


def test_limit_of_trials(tmp_path):
    experiment = make('sequential', 'limited', tmp_path, top_k=3)
    experiment.config.max_trial_number = 1
    experiment.run()
    experiment.stop()
    assert str(Run(tmp_path / 'limited').state) == 'finished: max_trial_number was reached'


def test_limit_of_time(run):
    """NNI ends an experiment whose time is over without a word; its strategy may be in the middle of a training."""
    record = writable(run)
    with session(record, {}):
        record.set_meta(keys.DEADLINE, time.time() + 1)
        record.start_training(record.best(1)[0].id)
    assert str(run.state) == 'finished: max_experiment_duration was reached'
    record.set_meta(keys.DEADLINE, time.time() + 1000)
    assert str(run.state) == 'interrupted'


def test_how_it_is_taken_up(run):
    assert run.how_to_resume() == "in its script: NasExperiment(..., id='run'), then experiment.resume()"
    with session(writable(run), {}, command='python search.py'):
        pass
    assert '(python search.py)' in run.how_to_resume()
    (run.folder / 'knas' / 'config.json').write_text('{}')
    assert run.how_to_resume() == f'nni-knas resume {run.folder}'


def test_named_by_its_script(run, monkeypatch):
    monkeypatch.setattr('sys.argv', ['/home/me/search.py', '--epochs', '3'])
    with session(writable(run), {}):
        assert run.name == 'search.py'
    with session(writable(run), {}, name='mine'):
        assert run.name == 'mine'


def test_scored_are_those_that_have_a_score(tmp_path):
    record = make_up(tmp_path / 'run', 60, 8, quick=True).record
    frame = record.frame()
    assert record.scored() == (frame.score.notna() | frame.quick.notna()).sum() == 54
    assert record.count(Status.FAILED) == 3
