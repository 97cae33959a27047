"""A search that is killed loses nothing, and when it is resumed repeats nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interrupted import make
from servers import free_port, wait_until
from spaces import lines

from nni_knas import open_run

SCRIPT = Path(__file__).with_name('interrupted.py')


def start(action, folder, engine='sequential', explorer='unseeded', pause=0.0, training=0.0):
    return subprocess.Popen([sys.executable, str(SCRIPT), action, engine, 'killed', str(folder), str(free_port()), explorer,
                             str(pause), str(training)], cwd=SCRIPT.parent, stdout=subprocess.DEVNULL)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def trainings(folder, what):
    return sum(line.startswith(what) for line in lines(folder / 'trained'))


def architectures(frame):
    """Networks that were scored: what differs in the learning rate alone shares its score."""
    return {str({**sample, 'learning_rate': None}) for sample in frame.architecture}


@pytest.mark.parametrize('explorer', ['unseeded', 'evolution', 'tpe'])
def test_killed_while_scoring(tmp_path, explorer):
    process = start('run', tmp_path, explorer=explorer, pause=0.05)
    wait_until(lambda: len(lines(tmp_path / 'scored')) >= 5)
    kill(process)
    before = open_run(tmp_path / 'killed').scores()
    assert 4 <= len(before) < 15

    assert start('resume', tmp_path, explorer=explorer).wait(180) == 0
    after = open_run(tmp_path / 'killed').scores()
    assert len(after) == 15 and (after.status == 'trained').sum() == 3
    kept = after[after.candidate.isin(before.candidate)].sort_values('candidate')
    assert list(kept.score) == list(before.sort_values('candidate').score)
    # What was being scored at the moment of the kill may be scored again; nothing that was recorded is.
    assert len(lines(tmp_path / 'scored')) <= len(architectures(after)) + 1


def test_a_resumed_exploration_goes_the_same_way(tmp_path):
    """As if it had not been killed, though the explorer learns from scores and draws at random."""
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    experiment = make('sequential', 'killed', tmp_path / 'whole', 'evolution')
    experiment.strategy.explorer._random_state.seed(5)
    experiment.run()
    experiment.stop()
    whole = experiment.strategy.scores().sort_values('candidate').architecture

    first = make('sequential', 'killed', tmp_path / 'killed', 'evolution')
    first.strategy.explorer._random_state.seed(5)
    judge, left = first.strategy.kernel.score, iter(range(8))

    def score(network):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return judge(network)

    first.strategy.kernel.score = score
    first.run()  # NNI stops the experiment on an interrupt
    second = make('sequential', 'killed', tmp_path / 'killed', 'evolution')
    second.resume()
    second.stop()
    assert list(second.strategy.scores().sort_values('candidate').architecture) == list(whole)


def test_killed_while_training(tmp_path):
    process = start('run', tmp_path, training=1.0)
    wait_until(lambda: trainings(tmp_path, 'start') == 2)
    kill(process)
    before = open_run(tmp_path / 'killed').scores()
    assert before.status.value_counts().to_dict() == {'scored': 13, 'trained': 1, 'training': 1}
    scored = len(lines(tmp_path / 'scored'))

    assert start('resume', tmp_path).wait(180) == 0
    after = open_run(tmp_path / 'killed').scores()
    assert list(after.status.iloc[:3]) == ['trained'] * 3
    assert after.metric.iloc[0] == before.metric.iloc[0]
    assert len(lines(tmp_path / 'scored')) == scored
    assert trainings(tmp_path, 'end') == 3 and trainings(tmp_path, 'start') == 4


def test_finished_run_resumed(tmp_path):
    assert start('run', tmp_path).wait(180) == 0
    before = open_run(tmp_path / 'killed').scores()
    assert start('resume', tmp_path).wait(180) == 0
    assert open_run(tmp_path / 'killed').scores().equals(before)
    assert trainings(tmp_path, 'start') == 3


@pytest.mark.slow
@pytest.mark.parametrize('training', [0.5, 8.0], ids=['trial ends before the restart', 'trial is still running'])
def test_killed_while_nni_trains(tmp_path, training):
    """NNI's manager and its trials outlive the process that is killed."""
    process = start('run', tmp_path, engine='ts', training=training)
    wait_until(lambda: trainings(tmp_path, 'start') == 2)
    kill(process)
    if training < 1:
        wait_until(lambda: len(list((tmp_path / 'killed' / 'knas' / 'results').glob('*.json'))) >= 2)
    before = open_run(tmp_path / 'killed').scores()
    assert (before.status == 'training').sum() >= 1

    assert start('resume', tmp_path, engine='ts', training=training).wait(180) == 0
    after = open_run(tmp_path / 'killed').scores()
    assert list(after.status.iloc[:3]) == ['trained'] * 3
    assert trainings(tmp_path, 'end') == 3
    assert trainings(tmp_path, 'start') == (3 if training < 1 else 4)
