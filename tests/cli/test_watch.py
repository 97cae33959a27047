"""The ranking that is printed while a run goes on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from config_models import config_file
from made_up_runs import make
from processes import Forked
from searches import near_run
from servers import free_port, wait_until

from nni_knas import Run, open_run
from nni_knas.basics.texts import one_line
from nni_knas.cli import main, watch
from nni_knas.record import Record, record_path


def rows(text):
    """The cells of each line of a table but the architecture, which has spaces in it."""
    return [line.partition('{')[0].split() for line in text.splitlines()[1:]]


def test_table_is_the_records(tmp_path):
    run = make(tmp_path)
    best = watch.best_so_far(run, 12)
    text = watch.candidate_table(best, run.metric_name, status=True)
    assert text.splitlines()[0].split() == ['rank', 'score', 'parameters', 'flops', 'metric', 'status', 'architecture']
    assert list(best.index[:7]) == list(run.ranking(all=True).index)  # what is trained comes first, the best metric above
    for cells, (rank, row) in zip(rows(text), best.iterrows(), strict=True):
        metric = [] if row.status != 'trained' else [f'{row.metric:.4f}']
        assert cells == [str(rank), f'{row.score:.4g}', f'{row.parameters:.6g}', f'{row.flops:.6g}', *metric, row.status]
    assert all(one_line(architecture) in text for architecture in best.architecture)


def test_candidates_near_the_best(tmp_path):
    assert (
        watch.progress_line(near_run(tmp_path)).split(': ')[-1].startswith('60 scored (20 of them near the best), 8 trained')
    )


def test_quick_scores_are_marked(tmp_path):
    run = make(tmp_path, quick=True, trained=0)
    table = watch.candidate_table(run.scores(all=True)[30:80], 'accuracy', status=True)
    assert {cells[1][0] == '~' for cells in rows(table)} == {True, False}


def test_printed_when_it_has_changed(tmp_path, capsys):
    printer = watch._Printer(tmp_path, 3)
    printer.print()
    assert capsys.readouterr().out == ''  # it has not begun
    record = Record(record_path(tmp_path))
    record.add_scored({'a': 1}, 'a', 1.5, 0.1)
    printer.print()
    assert f'{tmp_path.name}: 1 scored\n' in capsys.readouterr().out
    printer.print()
    assert capsys.readouterr().out == ''
    record.add_scored({'a': 2}, 'b', 2.5, 0.1)
    printer.print()
    assert '2 scored' in (printed := capsys.readouterr().out) and printed.index('2.5') < printed.index('1.5')


def test_watched(tmp_path, capsys):
    record = Record(record_path(tmp_path))
    with watch.watched(tmp_path, 0.02):
        for number in range(3):
            record.add_scored({'a': number}, str(number), number, 0.1)
            wait_until(lambda number=number: f'{number + 1} scored' in capsys.readouterr().out)


def test_watched_to_the_end(tmp_path, capsys):
    record = Record(record_path(tmp_path))
    with watch.watched(tmp_path, 3600):
        record.add_scored({'a': 1}, 'a', 1.5, 0.1)
    assert '1 scored' in capsys.readouterr().out


def test_shown_to_the_end(tmp_path, capsys, monkeypatch):
    record = Record(record_path(tmp_path))

    def status(run):
        record.add_scored({'a': len(record)}, str(len(record)), 1.5, 0.1)
        return 'running' if len(record) < 3 else 'finished'

    monkeypatch.setattr(Run, 'status', property(status))
    watch.print_while_running(Run(tmp_path), 1e-3)
    assert '3 scored' in capsys.readouterr().out


@pytest.mark.parametrize('seconds', ['0', '-1', 'often', 'inf'])
def test_mistakes(seconds, capsys):
    with pytest.raises(SystemExit):
        main(['show', 'x', '--watch', seconds])
    assert f"'{seconds}' is no time: it has to be a number of seconds above 0" in capsys.readouterr().err


def test_a_run_that_is_over(tmp_path, capsys):
    make(tmp_path)
    assert main(['show', str(tmp_path), '--watch']) == 0
    assert '108 scored, 7 trained, 7 failed' in capsys.readouterr().out


def command(*arguments: str) -> None:
    assert main(list(arguments)) == 0


@pytest.mark.slow
def test_search_and_show(tmp_path, capsys):
    """Both print the ranking as it grows; show ends with the run."""
    path = config_file(tmp_path, top_k=2, evaluator_args={'log': str(tmp_path / 'log'), 'gate': str(tmp_path / 'gate')})
    shown, printed, errors = tmp_path / 'shown', tmp_path / 'printed', tmp_path / 'errors'
    search = Forked(
        command, 'search', '--config', str(path), '--port', str(free_port()), '--watch', '0.2', output=printed, errors=errors
    )
    try:
        wait_until(lambda: '1 trained' in text(printed))
        folder = tmp_path / 'runs' / text(printed).split()[1]
        show = Forked(command, 'show', str(folder), '--watch', '0.2', output=shown)
        wait_until(lambda: '1 trained' in text(shown))
        assert open_run(folder).status == 'running'
        (tmp_path / 'gate').touch()
        assert show.wait() == 0 and search.wait() == 0
    finally:
        search.kill()
    assert text(errors) == ''
    for each in (shown, printed):
        found = [int(trained) for trained in re.findall(r'^from a file: 6 scored, (\d) trained', text(each), re.MULTILINE)]
        assert found == sorted(found) and {*found} == {1, 2}
    run = open_run(folder)
    assert run.status == 'finished'
    assert f'Energy: {run.footprint().statement}.' in text(printed)
    command('show', str(folder))
    assert f'Energy: {run.footprint().statement}.' in capsys.readouterr().out


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ''
