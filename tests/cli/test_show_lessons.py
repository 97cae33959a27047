"""What ``nni-knas show`` says of what the trained candidates of a run have taught."""

from __future__ import annotations

import pytest
from made_up_runs import make
from searches import learnt_run

from nni_knas.cli import main
from nni_knas.runs import Run


@pytest.fixture(scope='module')
def learnt(tmp_path_factory):
    return learnt_run(tmp_path_factory.mktemp('learnt'))


def shown(folder, capsys):
    assert main(['show', str(folder)]) == 0
    return capsys.readouterr().out


def test_what_counted_and_what_was_trained(learnt, capsys):
    output, lessons = shown(learnt.folder, capsys), learnt.lessons()
    assert f'\n{lessons.sentence}\n' in output and 'of 14 trained.' in output
    counted = output.split('What counted on this space:\n')[1].split('\n\n')[0].splitlines()
    assert counted[0].split()[:2] == ['statistic', 'weight'] and counted[-1].endswith('statistics are not known to count')
    names = list(lessons.known.index[:8])
    assert [line.split()[0] for line in counted[1:-1]] == names
    assert all('less of it is better here' in line for line in counted[1:-1] if line.split()[0] in ('weights', 'units'))
    trained = output.split('What was trained, in that order:\n')[1].split('\n\n')[0].splitlines()
    assert len(trained) == 15
    for line, row in zip(trained[1:], learnt.choices().itertuples()):
        assert line.split()[:3] == [str(row.Index), str(row.rank), row.reason]
        assert float(line.split()[-1]) == pytest.approx(row.metric, abs=1e-4)


def test_a_score_that_does_not_rank_is_warned_of(learnt, capsys, monkeypatch):
    warning = 'The score does not rank this space: trust the trained ones'
    warned = learnt.lessons()._replace(warning=warning)
    monkeypatch.setattr(Run, 'lessons', lambda run: warned)
    assert f'{warned.sentence}\n{warning}\n' in shown(learnt.folder, capsys)


def test_of_a_run_by_rank_the_choices_are_not_listed(tmp_path, capsys):
    output = shown(make(tmp_path / 'run').folder, capsys)
    assert 'Rank correlation of score and metric' in output and 'What was trained' not in output


def test_of_a_run_in_which_nothing_is_trained_nothing_is_said(tmp_path, capsys):
    output = shown(make(tmp_path / 'run', trained=0).folder, capsys)
    assert 'correlation' not in output and 'What counted' not in output
