"""A search that is killed loses nothing, and when it is resumed repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from interrupted import kill, let, make, start
from panels import check_panels
from servers import wait_until
from spaces import TinySpace, lines, tiny_kernel

from nni_knas import open_run
from nni_knas.basics.names import PANEL
from nni_knas.record import record_path


def scores(folder: Path, **options):
    """What the record has, as far as it is there."""
    return open_run(folder / 'killed').scores(all=True, **options) if record_path(folder / 'killed').exists() else []


def trainings(folder, what):
    return sum(line.startswith(what) for line in lines(folder / 'trained'))


def architectures(frame):
    """Networks that were scored: what differs in the learning rate alone shares its score."""
    return {str({**sample, 'learning_rate': None}) for sample in frame.architecture}


@pytest.mark.parametrize('explorer', ['unseeded', 'evolution', 'tpe'])
def test_killed_while_scoring(tmp_path, explorer):
    let(tmp_path, score=5)
    process = start('run', tmp_path, explorer=explorer)
    wait_until(lambda: len(lines(tmp_path / 'scored')) == 5)
    wait_until(lambda: len(scores(tmp_path)) and len(architectures(scores(tmp_path))) >= 5)  # some may share their score
    kill(process)
    before = scores(tmp_path, panel=True)
    assert 5 <= len(before) < 15 and before[list(PANEL)].notna().all(axis=None)

    let(tmp_path)
    assert start('resume', tmp_path, explorer=explorer).wait() == 0
    after = scores(tmp_path, panel=True)
    assert len(after) == 15 and (after.status == 'trained').sum() == 3
    kept = after[after.candidate.isin(before.candidate)].sort_values('candidate')
    known = ['score', *PANEL]
    assert kept[known].to_numpy().tolist() == before.sort_values('candidate')[known].to_numpy().tolist()
    check_panels(open_run(tmp_path / 'killed'), tiny_kernel(), TinySpace())
    assert len(lines(tmp_path / 'scored')) == len(architectures(after))  # nothing that was recorded is scored again


def test_a_resumed_exploration_goes_the_same_way(tmp_path):
    """As if it had not been killed, though the explorer learns from scores and draws at random."""
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    experiment = make('sequential', 'killed', tmp_path / 'whole', 'evolution')
    experiment.strategy.explorer._random_state.seed(5)
    experiment.run()
    experiment.stop()
    whole = experiment.strategy.scores(all=True).sort_values('candidate').architecture

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
    assert list(second.strategy.scores(all=True).sort_values('candidate').architecture) == list(whole)


def test_killed_while_training(tmp_path):
    let(tmp_path, train=1)
    process = start('run', tmp_path)
    wait_until(lambda: trainings(tmp_path, 'start') == 2)
    kill(process)
    before = open_run(tmp_path / 'killed').scores(all=True)
    assert before.status.value_counts().to_dict() == {'scored': 13, 'trained': 1, 'training': 1}
    scored = len(lines(tmp_path / 'scored'))

    let(tmp_path)
    assert start('resume', tmp_path).wait() == 0
    after = open_run(tmp_path / 'killed').scores(all=True)
    assert list(after.status.iloc[:3]) == ['trained'] * 3
    assert after.metric.iloc[0] == before.metric.iloc[0]
    assert len(lines(tmp_path / 'scored')) == scored
    assert trainings(tmp_path, 'end') == 3 and trainings(tmp_path, 'start') == 4


def test_killed_while_training_what_is_learnt(tmp_path):
    let(tmp_path, train=3)
    process = start('run', tmp_path, choose='learn', top_k=6)
    wait_until(lambda: trainings(tmp_path, 'start') == 4)
    kill(process)
    before = open_run(tmp_path / 'killed').choices()
    assert before.status.tolist() == ['trained'] * 3 + ['training'] and before.metric.notna().sum() == 3

    let(tmp_path)
    assert start('resume', tmp_path, choose='learn', top_k=6).wait() == 0
    after = open_run(tmp_path / 'killed').choices()
    made = ['candidate', 'rank', 'reason', 'predicted', 'deviation']
    assert len(after) == 6 and after[made][:4].equals(before[made]) and after.metric[:3].equals(before.metric[:3])
    assert after.status.tolist() == ['trained'] * 6 and after.predicted[4:].notna().all()
    assert trainings(tmp_path, 'end') == 6 and trainings(tmp_path, 'start') == 7


def test_finished_run_resumed(tmp_path):
    assert start('run', tmp_path).wait() == 0
    before = open_run(tmp_path / 'killed').scores(all=True)
    assert start('resume', tmp_path).wait() == 0
    assert open_run(tmp_path / 'killed').scores(all=True).equals(before)
    assert trainings(tmp_path, 'start') == 3


@pytest.mark.slow
def test_killed_while_nni_trains(tmp_path):
    """NNI's manager and its trials outlive the process that is killed: one ends before the restart, one goes on."""
    let(tmp_path, train=1)
    options = dict(engine='ts', top_k=4, concurrency=2)
    process = start('run', tmp_path, **options)
    wait_until(lambda: trainings(tmp_path, 'start') == 3)
    wait_until(lambda: sorted(scores(tmp_path).status.iloc[:4]) == ['scored', 'trained', 'training', 'training'])
    kill(process)
    let(tmp_path, train=2)
    wait_until(lambda: len(list((tmp_path / 'killed' / 'knas' / 'results').glob('*.json'))) == 2)

    process = start('resume', tmp_path, **options)
    wait_until(lambda: trainings(tmp_path, 'start') >= 4)
    let(tmp_path)
    assert process.wait() == 0
    after = scores(tmp_path)
    assert list(after.status.iloc[:4]) == ['trained'] * 4
    assert trainings(tmp_path, 'end') == 4
    assert trainings(tmp_path, 'start') == 5
