"""Pages of several runs, and the commands that write pages."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from interrupted import work as search
from pages import make, read
from processes import Forked
from servers import wait_until
from spaces import lines

from nni_knas import write_comparison
from nni_knas.basics.extras import how_to_install
from nni_knas.cli import main
from nni_knas.record import Record, record_path
from nni_knas.report.table import csv_table
from nni_knas.runs import Run

# Several runs.


def test_comparison(tmp_path):
    runs = [make(tmp_path / 'a', name='first', wide=False), make(tmp_path / 'b', name=None, seed=5, scale=3.0)]
    page = read(write_comparison(runs, tmp_path / 'comparison.html'))
    shown = [
        [attributes['data-value'] for tag, attributes in page.tags if attributes.get('data-key') == key]
        for key in ('scored', 'trained', 'metric', 'rank', 'scoring', 'training', 'kwh', 'co2_kg')
    ]
    for run, values in zip(runs, zip(*shown)):
        footprint = run.footprint()
        assert [float(value) for value in values] == [
            108,
            7,
            run.metric,
            run.winner.name,
            footprint.stages.seconds['coarse'],
            footprint.stages.seconds['fine'],
            footprint.kwh,
            footprint.co2_kg,
        ]
        assert footprint.statement in page.texts
    assert '2 runs compared' in page.texts and 'first' in page.texts and 'b' in page.texts
    first = page.texts.index('Field')
    assert page.texts[first:][3:7] == ['seed', 'differs', '0', '5']
    assert 'do not compare' not in page.text


def test_comparison_of_what_does_not_compare(tmp_path):
    runs = [make(tmp_path / 'a', mode='minimize'), make(tmp_path / 'b')]
    page = read(write_comparison(runs, tmp_path / 'comparison.html'))
    assert 'these do not compare' in page.text and 'accuracy, lower is better' in page.text


@pytest.mark.parametrize('digests', [('a', 'a'), ('a', 'b'), (None, None)])
def test_equal_data_are_equal_however_they_are_named(tmp_path, digests):
    runs = [make(tmp_path / 'a'), make(tmp_path / 'b')]
    for run, data, digest in zip(runs, ('digits', 'mine:digits'), digests):
        record = Record(record_path(run.folder))
        about = run.sessions()[-1].about
        record.begin_session({**about, 'asked': {**about['asked'], 'data': data}})
        record.set_meta('kernel', json.dumps({'minibatch': digest} if digest else {}))
        record.close()
    page = read(write_comparison([Run(run.folder) for run in runs], tmp_path / 'comparison.html'))
    line = page.texts.index('data', page.texts.index('Field'))
    names = ['digits', 'mine:digits']
    expected = names if digests == ('a', 'a') else ['differs', *names]
    assert page.texts[line + 1 :][: len(expected)] == expected


def test_comparison_with_runs_that_have_nothing(tmp_path):
    record = Record(record_path(tmp_path / 'empty'))
    record.close()
    page = read(write_comparison([Run(tmp_path / 'empty'), make(tmp_path / 'run')], tmp_path / 'comparison.html'))
    values = [attributes['data-value'] for tag, attributes in page.tags if attributes.get('data-key') == 'kwh']
    assert values[0] == '' and float(values[1]) > 0


# The commands.


def test_command(tmp_path, capsys):
    run = make(tmp_path / 'run')
    assert main(['report', str(run.folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f'Report: {run.folder / "report.html"}',
        f'Candidates: {run.folder / "report.csv"}',
    ]
    written = pd.read_csv(run.folder / 'report.csv', float_precision='round_trip')
    expected = csv_table(run.scores(all=True))
    pd.testing.assert_frame_equal(
        written.fillna({'reason': ''}), expected.fillna({'reason': ''}), check_dtype=False, rtol=0, atol=0
    )
    assert [json.loads(text) for text in written.architecture] == list(run.scores(all=True).architecture)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(('stream', 'told'), [(Terminal, True), (io.StringIO, False)])
def test_progress_is_shown_where_there_is_a_terminal(tmp_path, monkeypatch, stream, told):
    run, errors = make(tmp_path / 'run'), stream()
    monkeypatch.setattr('sys.stderr', errors)
    assert main(['report', str(run.folder)]) == 0
    assert ('Plots' in errors.getvalue()) == told


def test_command_of_several(tmp_path, capsys):
    runs = [str(make(tmp_path / name).folder) for name in 'ab']
    page = tmp_path / 'new' / 'both.html'
    assert main(['compare', *runs, '--to', str(page)]) == 0
    assert capsys.readouterr().out == f'Comparison: {page}\n' and page.exists()


def test_runs_of_a_directory(tmp_path, capsys):
    make(tmp_path / 'run')
    assert main(['report', 'run', '--directory', str(tmp_path), '--to', str(tmp_path / 'page.html')]) == 0
    assert (tmp_path / 'page.html').exists() and (tmp_path / 'page.csv').exists()


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['report', 'nowhere'], "there is no experiment 'nowhere'"),
        (['report', '{empty}'], 'is no KNAS run'),
        (['report', '{run}', '--to', '{empty}'], 'is a folder: name a file, such as'),
        (['report', '{run}', '--to', '{empty}/page.pdf'], 'is no name of a page: it has to end in .html'),
        (
            ['report', '{run}', '--to', '{run}/knas/record.sqlite/page.html'],
            f'cannot be written: {os.strerror(errno.EEXIST)}',
        ),
        (['compare', '{run}'], 'there is one run to compare: name two or more'),
        (['compare', '{run}', '{run}/../run'], 'is named twice: name different ones'),
        (['compare', '{run}', 'nowhere'], "there is no experiment 'nowhere'"),
    ],
)
def test_mistakes(tmp_path, capsys, arguments, sentence):
    places = {'run': make(tmp_path / 'run').folder, 'empty': tmp_path / 'empty'}
    places['empty'].mkdir()
    assert main([argument.format(**places) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith('nni-knas: ') and error.count('\n') == 1


BLOCKED = """
import sys

asked = []

class Blocked:
    def find_spec(self, name, path=None, target=None):
        package = name.partition('.')[0]
        if package in ('plotly', 'codecarbon', 'pycountry', 'tensorboard', 'pygraphviz'):
            asked.append(package)
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Blocked())
import nni_knas.plots.notebook, nni_knas.plots, nni_knas.runs.ranked, nni_knas.runs.scalars
from nni_knas import KNAS
from nni_knas.cli import main

assert main(['show', sys.argv[1]]) == 0
assert 'plotly' not in asked
assert main(['report', sys.argv[1]]) == 2
assert 'plotly' in asked
"""


def test_all_else_works_without_the_extras(tmp_path):
    """In a new process, since this one has imported them; nor does it ask for plotly before it needs it."""
    make(tmp_path)
    result = subprocess.run([sys.executable, '-c', BLOCKED, str(tmp_path)], capture_output=True, text=True)
    refusal = f'nni-knas: a report needs the package plotly: {how_to_install("report")}\n'
    assert (result.returncode, result.stderr) == (0, refusal)
    assert 'Candidates: 120' in result.stdout and not list(tmp_path.glob('*.html'))


@pytest.mark.parametrize('package', ['plotly', 'jinja2'])
@pytest.mark.parametrize('name', ['report', 'compare'])
def test_missing_packages(tmp_path, monkeypatch, capsys, package, name):
    for module in [module for module in sys.modules if module.startswith('nni_knas.report.') or module == 'nni_knas.report']:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    run = str(make(tmp_path / 'run').folder)
    assert main([name, run, *([run] if name == 'compare' else [])]) == 2
    assert capsys.readouterr().err == f'nni-knas: a report needs the package {package}: {how_to_install("report")}\n'


@pytest.mark.slow
def test_run_that_goes_on_and_is_killed(tmp_path):
    """In the midst of the second of three trainings."""
    (tmp_path / 'may train').write_text('1')
    process, folder = Forked(search, 'run', 'sequential', 'search', tmp_path), tmp_path / 'search'
    try:
        wait_until(lambda: sum(line.startswith('start') for line in lines(tmp_path / 'trained')) == 2)
        assert main(['report', str(folder), '--to', str(tmp_path / 'running.html')]) == 0
    finally:
        process.kill()
    running = read(tmp_path / 'running.html')
    assert 'running' in running.texts and 'resume()' not in running.text
    assert running.values()['scored'] == '15' and running.values()['trained'] == '1'
    assert 'in training' in running.text

    assert main(['report', str(folder)]) == 0
    killed, run = read(folder / 'report.html'), Run(folder)
    assert 'killed' in killed.texts and "NasExperiment(..., id='search'), then experiment.resume()" in killed.text
    assert float(killed.values()['metric']) == run.metric
    assert float(killed.values()['kwh']) == run.footprint().kwh > 0
    assert run.footprint().statement in killed.texts
    assert len(pd.read_csv(folder / 'report.csv')) == 15
