"""Pages of runs: their numbers are the record's, whatever the run has and has not, and a browser shows them well."""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import made_up_runs
import numpy as np
import pandas as pd
import psutil
import pytest
from counting import counted
from interrupted import work as search
from made_up_runs import usable
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import SimplifiedModelSpace
from processes import Forked
from servers import wait_until
from spaces import TinySpace, lines, tiny_kernel, train

from nni_knas import KNAS, plots, write_comparison, write_report
from nni_knas.cli import main
from nni_knas.record import Energy, Record, record_path
from nni_knas.report.page import energy_text
from nni_knas.report.table import STATUSES, columns, csv_table
from nni_knas.runs import Run

HOSTILE = '</script><b>bold</b> & "quoted" \'single\' <!-- '
METHODS = {'cpu': 'measured (RAPL)', 'memory': 'modelled (3 W)', 'co2': 'modelled (369 g a kWh)'}


def make(folder, *, name='a run', seed=0, complete=1, process=None, scale=1., **options):
    """A synthetic run with failures, and with all that a run records of itself."""
    made_up_runs.make(folder, **{'quick': True, **options})
    record, rng = Record(record_path(folder)), np.random.default_rng(seed)
    about = {'pid': process or 2**22 + 1, 'created': psutil.Process(process).create_time() if process else 1.,
             'host': os.uname().nodename, 'name': name, 'command': f'nni-knas search --seed {seed}',
             'directory': '/searches', 'asked': {
                 'space': 'NasBench201(num_labels=10)', 'score': 'steady-rank', 'data': 'digits', 'seed': seed,
                 'explorer': 'Random(dedup=True)', 'constraints': {'parameters': 1e6}, 'country': None},
             'versions': {'python': '3.11.7', 'torch': '2.14.1'}, 'machine': {'processor': 'AMD EPYC'}}
    session = record.begin_session(about)
    start = time.time() - 400
    record.set_energy(session, Energy('coarse', start, 60., 2e-4 * scale, 0., 1e-4 * scale, 0.4, 50., 40., 0))
    record.set_energy(session, Energy('fine', start + 60, 300., 3e-3 * scale, 8e-3, 5e-4, 0.4, 500., 450., 2))
    record.set_meta('energy methods', json.dumps(METHODS))
    record.set_meta('metric', 'accuracy')
    record.add_scoring_seconds(57.3)
    with record.transaction():
        for candidate in record.trained():
            record.end_training(candidate.id, candidate.training_seconds, kwh=rng.uniform(1e-3, 2e-3))
            for step in range(1, 5):
                record.add_step(candidate.id, candidate.metric * step / 4)
    if not process:
        record.keep_session(session, ended=True)
        record.set_meta('complete', complete)
    record.close()
    return Run(folder)


def hostile(folder):
    """A run with texts that would break a page that did not escape them, and with numbers that JSON does not have."""
    record = Record(record_path(folder))
    record.begin_session({'name': HOSTILE, 'command': f'nni-knas search --data {HOSTILE}', 'directory': HOSTILE,
                          'asked': {HOSTILE: HOSTILE}, 'versions': {HOSTILE: HOSTILE}, 'machine': {HOSTILE: HOSTILE}})
    record.set_meta('metric', HOSTILE)
    record.set_meta('top_k', 1)
    record.add_failed({HOSTILE: HOSTILE}, '1', HOSTILE, 0.1)
    candidate = record.add_scored({HOSTILE: f'{HOSTILE} 2', 'width': (1, 2)}, '2', 3., 0.1)
    record.add_scored({HOSTILE: True}, '3', 1e-300, 0.1, costs={'parameters': 12345678.})
    record.start_training(candidate.id)
    record.set_metric(candidate.id, math.inf)
    record.end_training(candidate.id, 1.)
    record.add_step(candidate.id, 0.5)
    record.close()
    return Run(folder)


class Reader(HTMLParser):
    """What a page has, as a browser without scripts sees it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts = [], [], {}
        self.inside = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ('script', 'style'):
            self.inside.append(dict(attributes).get('id', tag))

    def handle_endtag(self, tag):
        if tag in ('script', 'style'):
            self.inside.pop()

    def handle_data(self, data):
        if self.inside:
            self.scripts[self.inside[-1]] = self.scripts.get(self.inside[-1], '') + data
        elif data.strip():
            self.texts.append(' '.join(data.split()))

    def values(self):
        """The summary's numbers by key."""
        return {attributes['data-key']: attributes['data-value'] for _, attributes in self.tags
                if 'data-key' in attributes and 'data-value' in attributes}

    @property
    def text(self):
        return ' '.join(self.texts)


def read(path):
    return Reader(Path(path).read_text('utf-8'))


def report(run, folder):
    return read(write_report(run, folder / 'report.html'))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A real run, in this process."""
    folder = tmp_path_factory.mktemp('tiny')
    strategy = KNAS(tiny_kernel(), 20, 5, record=record_path(folder))
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
    return Run(folder)


class Pages:
    """Runs and their pages, which many tests look at: each is made when the first one asks for it."""

    def __init__(self, folder, tiny):
        self.folder = folder
        self._makers = {
            'plain': functools.partial(make, seed=3), 'minimized': functools.partial(make, mode='minimize'),
            'hostile': hostile, 'empty': functools.partial(make, candidates=0), 'tiny': lambda _: tiny,
            'mixed': functools.partial(make, name='digits', candidates=160, trained=12, top_k=15, front='parameters',
                                       mode='minimize'),
            'full': functools.partial(make, quick=False, wide=False, trained=30, top_k=30),
            'named': functools.partial(make, name=HOSTILE, scale=5.),
            'many': functools.partial(make, candidates=200, copies=14)}
        self.run, self.path = functools.cache(self._run), functools.cache(self._path)

    def _run(self, name):
        return self._makers[name](self.folder / name)

    def _path(self, name):
        path = self.folder / f'{name}.html'
        if name == 'both':
            return write_comparison([self.run(name) for name in ('mixed', 'full', 'named')], path)
        return write_report(self.run(name), path)

    def read(self, name):
        return read(self.path(name))


@pytest.fixture(scope='module')
def pages(tmp_path_factory, tiny):
    return Pages(tmp_path_factory.mktemp('pages'), tiny)


def same(shown, expected):
    """Whether a text of the page is this number in full; empty for none."""
    return shown == '' if expected is None or pd.isna(expected) else float(shown) == float(expected)


# What the page says.

@pytest.mark.parametrize('name', ['plain', 'minimized'])
def test_summary(pages, name):
    page, run = pages.read(name), pages.run(name)
    frame, footprint = run.scores(), run.footprint()
    scored = usable(run)
    expected = {'metric': run.metric, 'scored': len(scored), 'trained': 7, 'failed': 7, 'seconds': footprint.seconds,
                'kwh': footprint.kwh, 'co2_kg': footprint.co2_kg}
    assert {key: float(value) for key, value in page.values().items()} == expected
    assert run.metric == (min if name == 'minimized' else max)(frame.metric.dropna())
    assert f'{"the lowest" if name == "minimized" else "the highest"} of 7; rank {run.winner.name} of 108' in page.text
    assert '6 in scoring, 1 in training; 6 more left out' in page.text
    assert footprint.statement in page.texts
    assert 'scoring 57.3 s, trials 1 min 39 s' in page.texts


def test_footprint(pages):
    page, run = pages.read('plain'), pages.run('plain')
    stages = run.footprint().stages
    cells = [float(attributes['data-value']) for tag, attributes in page.tags if tag == 'td' and 'data-value' in attributes]
    rows = [*stages.to_numpy().tolist(), stages.sum().tolist()]
    assert cells == pytest.approx([value for row in rows for value in row], rel=1e-12)
    for method in METHODS.values():
        assert method in page.texts
    assert 'CPU (Wh)' in page.texts
    estimate = run.footprint().estimate
    assert f'own trials: {energy_text(estimate.kwh)}, between {energy_text(estimate.low)}' in page.text


@pytest.mark.parametrize(('kwh', 'text'), [
    (None, '–'), (math.nan, '–'), (0., '0 mWh'), (1.5e-7, '0.15 mWh'), (0.000782, '782 mWh'),  # noqa: RUF001
    (0.0696, '69.6 Wh'), (12.345, '12.3 kWh'), (1234.5, '1,234 kWh')])
def test_energies_have_the_unit_that_suits_them(kwh, text):
    assert energy_text(kwh) == text


def test_winner(pages):
    page, row = pages.read('plain'), pages.run('plain').winner
    facts = [attributes['data-value'] for tag, attributes in page.tags if tag == 'dd' and 'data-key' not in attributes
             and 'data-value' in attributes]
    assert [float(fact) for fact in facts] == [row.metric, row.name, row.score, row.parameters, row.flops,
                                               row.training_seconds, row.training_kwh]
    assert f'Best accuracy: candidate {row.candidate}' in page.texts
    assert 'cell/0_1' in page.texts and row.architecture['cell/0_1'] in page.texts
    assert "There is no drawing, since the run does not know the shape of its networks' inputs." in page.texts


def test_nothing_is_trained(tmp_path):
    page = report(make(tmp_path / 'run', trained=0), tmp_path)
    assert page.values()['metric'] == ''
    assert 'nothing is trained yet' in page.texts and 'Best score; nothing is trained yet' in page.texts


def test_failures(pages, tmp_path):
    page = pages.read('plain')
    for text in ('ScoringError: the score is nan', '4, 24, 44, 64, 84, …', 'RuntimeError: out of memory', 'parameters',
                 'over a limit'):
        assert text in page.text
    record = Record(record_path(tmp_path / 'fine'))
    record.add_scored({'n': 1}, '1', 1., 0.1)
    assert 'Nothing failed.' in report(Run(tmp_path / 'fine'), tmp_path).texts


def test_configuration(pages):
    page = pages.read('plain')
    for text in ('NasBench201(num_labels=10)', 'parameters: 1000000.0', '3.11.7', 'AMD EPYC', 'seed 3',
                 'nni-knas search --seed 3', '/searches'):
        assert text in page.text


@pytest.mark.parametrize(('options', 'status', 'text'), [
    ({}, 'finished', 'Finished'), ({'complete': 0}, 'interrupted', 'nni-knas resume {}'),
    ({'process': os.getpid()}, 'running', 'The run goes on: this is how it was at')])
def test_status(tmp_path, options, status, text):
    run = make(tmp_path / 'run', **options)
    page = report(run, tmp_path)
    assert run.status == status
    assert status in page.texts and text.format(run.folder) in page.text
    assert ('nni-knas resume' in page.text) == (status == 'interrupted')


@pytest.mark.parametrize(('complete', 'text'), [(0, 'The search has stopped before its end'), (1, 'Finished')])
def test_manager_outlives_the_search(tmp_path, monkeypatch, complete, text):
    """NNI's manager and its trials can go on when the process that searched is gone."""
    run = make(tmp_path / 'run', complete=complete)
    monkeypatch.setattr('nni_knas.runs.run.manager_lives', lambda identity: True)
    page = report(run, tmp_path)
    assert 'running' in page.texts and text in page.text and "NNI's manager is still at work" in page.text
    assert ('nni-knas resume' in page.text) == (complete == 0)


def test_sessions(tmp_path):
    run = make(tmp_path / 'run')
    record = Record(record_path(run.folder))
    record.begin_session({**run.sessions()[0].about, 'command': 'nni-knas resume it'})
    page = report(Run(run.folder), tmp_path)
    assert 'it was taken up once' in page.text
    assert 'nni-knas resume it' in page.texts and 'nni-knas search --seed 0' in page.texts


def test_record_of_an_earlier_version(tmp_path):
    """It knows of no session, no energy, no metric's name and no top k."""
    record = Record(record_path(tmp_path / 'run'))
    record.add_scored({'n': 1}, '1', 3., 0.1)
    for table in ('sessions', 'energy', 'steps'):
        record._run(f'DROP TABLE {table}')
    record.close()
    page = report(Run(tmp_path / 'run'), tmp_path)
    assert page.values()['kwh'] == page.values()['seconds'] == ''
    for text in ('Time and energy of this run were not recorded.', 'The command was not recorded.', 'interrupted'):
        assert text in page.texts


def test_empty_run(pages):
    page = pages.read('empty')
    assert page.values()['scored'] == '0'
    assert 'No candidate has a score yet.' in page.texts and 'Nothing failed.' in page.texts


def test_winner_is_drawn(pages, tiny):
    page = pages.read('tiny')
    assert [attributes['class'] for tag, attributes in page.tags if tag == 'svg'] == ['network']
    assert 'The network' in page.texts and 'linear' in page.texts
    assert {'relu': 'ReLU', 'tanh': 'tanh', 'sigmoid': 'sigmoid'}[tiny.architecture['outer']] in page.text
    assert json.loads(page.scripts['figure-parameters'])['data']  # measured for the report
    assert tiny.scores().parameters.notna().all()


def test_space_that_cannot_be_built(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / 'run')
    record = Record(record_path(tmp_path / 'run'))
    record.set_meta('space', record.get_meta('space').replace('spaces', 'gone'))
    page = report(Run(tmp_path / 'run'), tmp_path)
    assert 'There is no drawing: the space of' in page.text and 'svg' not in [tag for tag, _ in page.tags]


def test_network_that_cannot_be_drawn(tiny, tmp_path):
    with mock.patch.object(Run, 'network', side_effect=RuntimeError('this layer is broken')):
        assert 'There is no drawing: this layer is broken' in report(tiny, tmp_path).texts


# How the page is written.

def test_texts_are_escaped(pages):
    page, clean = pages.read('hostile'), pages.read('plain')
    known = {tag for tag, _ in clean.tags} | {'svg'}
    assert {tag for tag, _ in page.tags} <= known and 'b' not in known
    assert sum(tag == 'script' for tag, _ in page.tags) == sum(tag == 'script' for tag, _ in clean.tags)
    assert ' '.join(HOSTILE.split()) in page.texts
    data = json.loads(page.scripts['data'])
    assert data['texts']['reason'] == [HOSTILE]
    assert data['values']['score'] == [3, 1e-300, None]
    assert data['values']['metric'] == ['Infinity', None, None]
    both = pages.read('both')
    assert ' '.join(HOSTILE.split()) in both.texts and 'b' not in {tag for tag, _ in both.tags}


@pytest.mark.parametrize('name', ['plain', 'both'])
def test_page_is_one_file(pages, name):
    page = pages.read(name)
    for tag, attributes in page.tags:
        assert 'src' not in attributes
        assert attributes.get('href', '#').startswith(('#', 'data:')), tag
    policy = next(attributes['content'] for tag, attributes in page.tags if attributes.get('http-equiv'))
    assert policy.startswith("default-src 'none'") and 'http' not in policy
    assert 'url(' not in page.scripts['style'] and '@import' not in page.scripts['style']


def test_page_is_written_whole_or_not_at_all(tmp_path):
    run = make(tmp_path / 'run')
    page = write_report(run, tmp_path / 'new' / 'folder' / 'page.html')
    before = page.read_text()
    with mock.patch('nni_knas.report.page.whole', side_effect=OSError), pytest.raises(OSError):
        write_report(run, page)
    assert page.read_text() == before and os.listdir(page.parent) == ['page.html']


def unpacked(data):
    """The table that the page's script has, as it was before."""
    frame = pd.DataFrame(data['values'])
    for key, texts in data['texts'].items():
        frame[key] = [texts[code] if code >= 0 else None for code in frame[key]]
    frame['architecture'] = [{name: json.loads(data['choices'][i][choice]) for i, (name, choice) in
                              enumerate(zip(data['names'], row)) if choice >= 0} for row in data['architectures']]
    return frame


@pytest.mark.parametrize('name', ['plain', 'many', 'hostile'])
def test_table_has_all_candidates(pages, name):
    shown, frame = unpacked(json.loads(pages.read(name).scripts['data'])), pages.run(name).scores().reset_index()
    assert len(shown) == len(frame)
    for key in shown:
        if key == 'architecture':
            assert [*shown[key]] == json.loads(json.dumps([*frame[key]]))
        elif key in ('status', 'reason'):
            assert shown[key].fillna('').tolist() == frame[key].fillna('').tolist()
        else:
            assert np.array_equal(shown[key].astype(float), frame[key].astype(float), equal_nan=True)
    assert not set(frame.columns[frame.notna().any()]) - set(shown)


def test_units_of_columns(tmp_path):
    frame = make(tmp_path / 'run').scores().assign(latency=0.003, memory=3e6)
    labels = {column.key: column.label for column in columns(frame, 'accuracy', minimize=False)}
    assert (labels['latency'], labels['memory']) == ('Latency (ms)', 'Memory (MiB)')
    assert (labels['training_kwh'], labels['seconds']) == ('Training (Wh)', 'Scoring (s)')
    assert 'Latency (ms)' not in [column.label for column in columns(make(tmp_path / 'b').scores(), 'loss', True)]
    assert not next(column.falling for column in columns(frame, 'loss', minimize=True) if column.key == 'metric')


def test_what_is_measured_is_measured_once(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / 'run')
    record = Record(record_path(tmp_path / 'run'))
    record._run('UPDATE candidates SET parameters = NULL')
    with mock.patch.object(Run, 'measured', autospec=True, side_effect=lambda run, costs=(): run.scores()) as measured:
        write_report(Run(tmp_path / 'run'), tmp_path / 'report.html')
    assert measured.call_count == 1


# Several runs.

def test_comparison(tmp_path):
    runs = [make(tmp_path / 'a', name='first', wide=False), make(tmp_path / 'b', name=None, seed=5, scale=3.)]
    page = read(write_comparison(runs, tmp_path / 'comparison.html'))
    shown = [[attributes['data-value'] for tag, attributes in page.tags if attributes.get('data-key') == key] for key in
             ('scored', 'trained', 'metric', 'rank', 'scoring', 'training', 'kwh', 'co2_kg')]
    for run, values in zip(runs, zip(*shown)):
        footprint = run.footprint()
        assert [float(value) for value in values] == [
            108, 7, run.metric, run.winner.name, footprint.stages.seconds['coarse'], footprint.stages.seconds['fine'],
            footprint.kwh, footprint.co2_kg]
        assert footprint.statement in page.texts
    assert '2 runs compared' in page.texts and 'first' in page.texts and 'b' in page.texts
    first = page.texts.index('Field')
    assert page.texts[first:][3:7] == ['seed', 'differs', '0', '5']
    assert 'do not compare' not in page.text


def test_comparison_of_what_does_not_compare(tmp_path):
    runs = [make(tmp_path / 'a', mode='minimize'), make(tmp_path / 'b')]
    page = read(write_comparison(runs, tmp_path / 'comparison.html'))
    assert 'these do not compare' in page.text and 'accuracy, lower is better' in page.text


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
    assert capsys.readouterr().out.splitlines() == [f'Report: {run.folder / "report.html"}',
                                                    f'Candidates: {run.folder / "report.csv"}']
    written = pd.read_csv(run.folder / 'report.csv')
    expected = csv_table(run.scores())
    pd.testing.assert_frame_equal(written.fillna({'reason': ''}), expected.fillna({'reason': ''}), check_dtype=False, rtol=0,
                                  atol=0)
    assert [json.loads(text) for text in written.architecture] == list(run.scores().architecture)


def test_command_of_several(tmp_path, capsys):
    runs = [str(make(tmp_path / name).folder) for name in 'ab']
    page = tmp_path / 'new' / 'both.html'
    assert main(['compare', *runs, '--to', str(page)]) == 0
    assert capsys.readouterr().out == f'Comparison: {page}\n' and page.exists()


def test_runs_of_a_directory(tmp_path, capsys):
    make(tmp_path / 'run')
    assert main(['report', 'run', '--directory', str(tmp_path), '--to', str(tmp_path / 'page.html')]) == 0
    assert (tmp_path / 'page.html').exists() and (tmp_path / 'page.csv').exists()


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['report', 'nowhere'], "there is no experiment 'nowhere'"),
    (['report', '{empty}'], 'is no KNAS run'),
    (['report', '{run}', '--to', '{empty}'], 'is a folder: name a file, such as'),
    (['report', '{run}', '--to', '{empty}/page.pdf'], 'is no name of a page: it has to end in .html'),
    (['report', '{run}', '--to', '{run}/knas/record.sqlite/page.html'], f'cannot be written: {os.strerror(errno.EEXIST)}'),
    (['compare', '{run}'], 'there is one run to compare: name two or more'),
    (['compare', '{run}', '{run}/../run'], 'is named twice: name different ones'),
    (['compare', '{run}', 'nowhere'], "there is no experiment 'nowhere'")])
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
    refusal = 'nni-knas: a report needs the package plotly: pip install "nni-knas[report]"\n'
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
    assert capsys.readouterr().err == f'nni-knas: a report needs the package {package}: pip install "nni-knas[report]"\n'


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
    assert 'running' in running.texts and 'nni-knas resume' not in running.text
    assert running.values()['scored'] == '15' and running.values()['trained'] == '1'
    assert 'in training' in running.text

    assert main(['report', str(folder)]) == 0
    killed, run = read(folder / 'report.html'), Run(folder)
    assert 'interrupted' in killed.texts and f'nni-knas resume {folder}' in killed.texts
    assert float(killed.values()['metric']) == run.metric
    assert float(killed.values()['kwh']) == run.footprint().kwh > 0
    assert run.footprint().statement in killed.texts
    assert len(pd.read_csv(folder / 'report.csv')) == 15


# In a browser.

def on(*names):
    """On these pages; tests come in the order of pages, so that each is opened once for all that change nothing in it."""
    return pytest.mark.parametrize('name', names, scope='module')


def show(browser, path, width=1500, scheme='light', media=''):
    """Open a page, and wait until all is drawn. One that is open like that stays, if no test has done anything to it."""
    look = f'{path} {width} {scheme} {media}'
    if browser.execute_script('return window.look') == look:
        return
    look_at(browser, width, scheme, media)
    browser.get_log('performance'), browser.get_log('browser')
    browser.get(path.as_uri())
    wait_until(lambda: browser.execute_script("return document.documentElement.dataset.drawn === 'all'"))
    browser.execute_script('window.look = arguments[0]', look)


def look_at(browser, width, scheme, media):
    """Have a window of this width, whatever is in it."""
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
        'width': width, 'height': 1000, 'deviceScaleFactor': 1, 'mobile': width < 500})
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {
        'media': media, 'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})


def table_of(browser, selector):
    """The cells of a table: in full where the page has that, else as they are shown."""
    return json.loads(browser.execute_script("""return JSON.stringify([...document.querySelectorAll(
        arguments[0] + ' tbody tr')].map(row => [...row.querySelectorAll('td')].map(
        cell => cell.dataset.value ?? cell.textContent)))""", selector))  # text takes the driver less time than lists


def shown_rows(browser):
    return table_of(browser, '#table')


def click(browser, selector):
    browser.execute_script('window.look = null; document.querySelector(arguments[0]).click()', selector)


@contextlib.contextmanager
def all_rows(browser):
    """Those of the whole table, while the context lasts."""
    resize = """const size = document.getElementById('size'); size.value = arguments[0];
                size.dispatchEvent(new Event('change'))"""
    look = browser.execute_script("const look = window.look; window.look = 'all rows'; return look")
    browser.execute_script(resize, '500')
    yield shown_rows(browser)
    browser.execute_script(resize, '25')
    browser.execute_script('if (window.look) window.look = arguments[0]', look)


def expected_rows(run):
    """What the table's cells have to be, in full."""
    frame = run.scores()
    keys = [column.key for column in columns(frame, run.metric_name, run.optimize_mode == 'minimize')]
    architectures = [', '.join(f'{name}: {value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))}'
                               for name, value in architecture.items()) for architecture in frame.architecture]
    return keys, [[*row, architecture] for row, architecture in zip(frame.reset_index()[keys].to_numpy().tolist(),
                                                                    architectures)]


def check_rows(rows, expected):
    assert len(rows) == len(expected)
    for cells, values in zip(rows, expected):
        assert len(cells) == len(values)
        for cell, value in zip(cells, values):
            if isinstance(value, str):
                assert cell == value
            else:
                assert same(cell, value)


@pytest.mark.slow
@on('mixed', 'full', 'tiny')
def test_browser_shows_the_records_numbers(browser, pages, name):
    run = pages.run(name)
    show(browser, pages.path(name))
    tiles = browser.execute_script("""return Object.fromEntries([...document.querySelectorAll('.tiles dd[data-key]')].map(
        each => [each.dataset.key, each.dataset.value]))""")
    footprint = run.footprint()
    metered = bool(footprint.statement)
    assert same(tiles.pop('metric'), run.metric)
    assert {key: float(value) for key, value in tiles.items() if value} == {
        'scored': len(usable(run)), 'trained': len(run.ranking()),
        'failed': int(run.scores().status.isin(['failed', 'training-failed']).sum()),
        **({'seconds': footprint.seconds, 'kwh': footprint.kwh, 'co2_kg': footprint.co2_kg} if metered else {})}
    if metered:
        stages = np.array(table_of(browser, '#footprint'), dtype=float)
        assert np.allclose(stages[:2], footprint.stages, rtol=1e-15, atol=0)
        assert browser.find_element('id', 'statement').text.lower() == footprint.statement.lower()
    gone = run.scores()[run.scores().status.isin(['failed', 'training-failed', 'filtered', 'outside'])]
    reasons = {(STATUSES[status], reason): str(len(group)) for (status, reason), group in gone.groupby(['status', 'reason'])}
    assert {(what, reason): size for size, what, reason, _ in table_of(browser, '#table-of-failures')} == reasons


@pytest.mark.slow
@on('mixed', 'full', 'tiny', 'hostile')
def test_every_cell_of_the_table(browser, pages, name):
    run = pages.run(name)
    expected = expected_rows(run)[1]
    show(browser, pages.path(name))
    assert len(shown_rows(browser)) == min(25, len(expected))
    with all_rows(browser) as rows:
        check_rows(rows, expected)
        texts = json.loads(browser.execute_script("""return JSON.stringify([...document.querySelectorAll(
            '#table tbody tr')].map(row => [...row.querySelectorAll('td')].map(cell => cell.innerText)))"""))
    # What is shown of a number has three digits at least, in the unit of its heading.
    listed = columns(run.scores(), run.metric_name, run.optimize_mode == 'minimize')
    for cells, values in zip(texts, expected):
        for column, cell, value in zip(listed, cells, values):
            if not column.text and not pd.isna(value) and math.isfinite(value):
                assert float(cell.replace(',', '').replace('\u2212', '-')) == pytest.approx(value / column.scale, rel=5e-3)


@pytest.mark.slow
@on('mixed', 'hostile')
def test_csv_of_the_button(browser, pages, name):
    show(browser, pages.path(name))
    text = browser.execute_async_script("""const make = URL.createObjectURL, done = arguments[0];
        URL.createObjectURL = blob => { blob.text().then(done); return make(blob); };
        document.getElementById('csv').click(); URL.createObjectURL = make""")
    written = pd.read_csv(io.StringIO(text))
    keys, _ = expected_rows(pages.run(name))
    expected = csv_table(pages.run(name).scores())[[*keys, 'architecture']]
    assert list(written) == list(expected)
    for key in keys:
        if key in ('status', 'reason'):
            assert written[key].fillna('').tolist() == expected[key].fillna('').tolist()
        else:
            assert np.array_equal(written[key].astype(float), expected[key].astype(float), equal_nan=True)
    assert written.architecture.tolist() == expected.architecture.tolist()


POINTS = """return JSON.stringify(document.getElementById('plot-' + arguments[0])._fullData.filter(
    trace => trace.visible === true && trace.mode === 'markers' && (!arguments[1] || trace.yaxis === arguments[1])).flatMap(
    trace => [...trace.customdata].map((rank, i) => [rank, trace.x[i], trace.y[i]])))"""


@pytest.mark.slow
@on('mixed', 'full', 'tiny')
def test_points_of_the_plots(browser, pages, name):
    run = pages.run(name)
    show(browser, pages.path(name))
    frame = usable(run)
    full, quick = frame[frame.score.notna()], frame[frame.quick.notna()]

    def points(plot, axis=''):
        return {tuple(point) for point in json.loads(browser.execute_script(POINTS, plot, axis))}

    for plot, x in (('progress', 'candidate'), ('parameters', 'parameters'), ('flops', 'flops'), ('seconds', 'seconds')):
        assert points(plot, 'y') == set(zip(full.index, full[x], full.score))
        assert points(plot, 'y2') == set(zip(quick.index, quick[x], quick.quick))
    trained = frame[frame.training_seconds.notna()]
    assert points('training_seconds') == set(zip(trained.index, trained.training_seconds, trained.score))
    assert {point[:2] for point in points('scores', 'y11')} == set(full.score.items())
    counts = browser.execute_script("""return document.getElementById('plot-scores')._fullData.filter(
        trace => trace.type === 'bar').map(trace => [trace.name, trace.y.reduce((sum, count) => sum + count)])""")
    assert dict(counts) == {'scores': len(full), **({'quick scores': len(quick)} if len(quick) else {})}
    ranking = run.ranking()
    by_metric = ranking.metric.rank(method='min', ascending=run.optimize_mode == 'minimize')
    assert points('ranks') == set(zip(ranking.index, ranking.index, by_metric))
    note = browser.find_element('css selector', '#plot-ranks').find_element('xpath', '../p').text
    better = ranking.metric * (-1 if run.optimize_mode == 'minimize' else 1)
    assert plots.spearman(ranking.score, better)[2] in note
    curves = browser.execute_script("""return document.getElementById('plot-curves')._fullData.map(
        trace => [trace.customdata[0], [...trace.x], [...trace.y]])""")
    expected = {candidate: (line.step.tolist(), line.metric.tolist()) for candidate, line in
                run.curves().groupby('candidate')}
    assert {candidate: (x, y) for candidate, x, y in curves} == expected and len(expected) >= 5


@pytest.mark.slow
@on('mixed')
def test_energy_plot(browser, pages, name):
    run = pages.run(name)
    show(browser, pages.path(name))
    bars = browser.execute_script("""return Object.fromEntries(document.getElementById('plot-footprint')._fullData.map(
        trace => [trace.name, [...trace.x]]))""")
    footprint = run.footprint()
    for name, column in (('CPU (measured)', 'cpu_kwh'), ('GPU', 'gpu_kwh'), ('memory (modelled)', 'memory_kwh')):
        assert bars[name] == pytest.approx(1000 * footprint.stages[column])  # in Wh
    assert bars['this run'] == pytest.approx([1000 * footprint.kwh])
    assert bars['estimate of training all'] == pytest.approx([1000 * footprint.estimate.kwh])


@pytest.mark.slow
@on('mixed', 'full', 'both')
def test_axes_have_titles_and_units(browser, pages, name):
    show(browser, pages.path(name))
    titles = set(browser.execute_script("""return [...document.querySelectorAll('.drawn')].flatMap(
        plot => Object.entries(plot._fullLayout).filter(([key, axis]) => /^[xy]axis\\d*$/.test(key) && axis.visible).map(
        ([key, axis]) => axis.title.text))"""))
    without_unit = {'score', 'quick score', 'accuracy', 'stage', 'estimate', 'run'}
    assert all(title in without_unit or re.search(r' \(.+\)$', title) for title in titles), titles
    of_one = {'training time (s)', 'rank by accuracy (1 is the best)'}
    assert {'score', 'energy (Wh)', *(of_one if name != 'both' else ())} <= titles


@pytest.mark.slow
@on('both')
def test_comparison_in_a_browser(browser, pages, name):
    show(browser, pages.path(name))
    boxes = browser.execute_script("""return ['metric', 'score'].map(what => document.getElementById(
        'plot-' + what)._fullData.filter(trace => trace.type === 'box').map(
        trace => Object.fromEntries([...trace.customdata].map((rank, i) => [rank, trace.x[i]]))))""")
    for each, metrics, scores in zip(('mixed', 'full'), *boxes):
        run = pages.run(each)
        frame = usable(run)
        assert {int(rank): value for rank, value in metrics.items()} == run.ranking().metric.to_dict()
        assert {int(rank): value for rank, value in scores.items()} == frame.score.dropna().to_dict()


@pytest.mark.slow
@on('tiny')
def test_drawing_is_beside_the_metric(browser, pages, name):
    show(browser, pages.path(name))
    facts, drawing = facts_and_drawing(browser)
    assert facts['right'] <= drawing['left'] and abs(facts['top'] - drawing['top']) < 100


@pytest.mark.slow
@on('mixed', 'full', 'both', 'tiny', 'hostile', 'empty')
def test_page_fetches_nothing_and_complains_of_nothing(browser, pages, name):
    """When it is opened, and when its buttons are used."""
    path = pages.path(name)
    show(browser, path)
    for selector in ('#theme', '#next', '.copy'):
        browser.execute_script('window.look = null; document.querySelector(arguments[0])?.click()', selector)
    events = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    urls = [event['params']['request']['url'] for event in events if event['method'] == 'Network.requestWillBeSent']
    assert urls[0] == path.as_uri()
    assert [url for url in urls[1:] if not url.startswith(('data:', 'blob:'))] == []
    assert browser.get_log('browser') == []


@pytest.mark.slow
@on('mixed')
def test_pages_of_the_table(browser, pages, name):
    show(browser, pages.path(name))
    expected = expected_rows(pages.run(name))[1]
    for first in range(0, 160, 25):
        check_rows(shown_rows(browser), expected[first:first + 25])
        shown = browser.find_element('id', 'shown').text
        assert shown == f'{first + 1} to {min(first + 25, 160)} of 160'
        click(browser, '#next')
    click(browser, '#previous')
    check_rows(shown_rows(browser), expected[125:150])


SORTED = """window.look = null; return JSON.stringify(arguments[0].map(key => [1, 2].map(() => {
    const heading = document.querySelector(`#table th[data-key=${key}]`);
    heading.querySelector('button').click();
    return [heading.getAttribute('aria-sort'), [...document.querySelectorAll('#table tbody tr')].map(
        row => [...row.querySelectorAll('td')].map(cell => cell.dataset.value ?? cell.textContent))];
})))"""  # in one go, since the browser would lay out the table after each click


@pytest.mark.slow
@on('mixed')
def test_sorting(browser, pages, name):
    keys, expected = expected_rows(pages.run(name))
    show(browser, pages.path(name))
    with all_rows(browser):
        after_clicks = json.loads(browser.execute_script(SORTED, [*keys, 'architecture']))
    for i, clicks in enumerate(after_clicks):
        assert {direction for direction, _ in clicks} == {'ascending', 'descending'}
        for direction, rows in clicks:
            known = [row for row in expected if not pd.isna(row[i])]
            ordered = sorted(known, key=lambda row: row[i], reverse=direction == 'descending')
            check_rows(rows, ordered + [row for row in expected if pd.isna(row[i])])
    assert browser.execute_script("return document.querySelectorAll('#table th:not([aria-sort=none])').length") == 1
    first = {key: browser.execute_script("""const heading = document.querySelector(`#table th[data-key=${arguments[0]}]`);
        document.querySelector('#table th[data-key=rank] button').click(); heading.firstElementChild.click();
        return heading.getAttribute('aria-sort')""", key) for key in ('score', 'metric', 'parameters')}
    assert first == {'score': 'descending', 'metric': 'ascending', 'parameters': 'ascending'}  # a low metric is good here


@pytest.mark.slow
@on('mixed')
def test_filtering(browser, pages, name):
    show(browser, pages.path(name))
    with all_rows(browser):
        check_filtering(browser, *expected_rows(pages.run(name)))


def check_filtering(browser, keys, expected):
    status = keys.index('status')

    def type_in(text):
        """And wait until the table is drawn anew, which the page puts off until the typing ends."""
        browser.execute_async_script("""const [text, done] = arguments, field = document.getElementById('filter');
            new MutationObserver((_, observer) => { observer.disconnect(); done(); }).observe(
                document.querySelector('#table tbody'), {childList: true});
            window.look = null; field.value = text; field.dispatchEvent(new Event('input'))""", text)

    type_in('CONV_3x3')
    wanted = [row for row in expected if 'conv_3x3' in row[-1]]
    check_rows(shown_rows(browser), wanted)
    assert browser.find_element('id', 'shown').text.endswith(f'of {len(wanted)}, filtered from 160')
    click(browser, '[name=status][value=screened]')
    wanted = [row for row in wanted if row[status] != 'screened']
    check_rows(shown_rows(browser), wanted)
    click(browser, '#table th[data-key=candidate] button')
    check_rows(shown_rows(browser), sorted(wanted, key=lambda row: row[1]))
    type_in('out memory')
    assert [row[status] for row in shown_rows(browser)] == ['training-failed']
    type_in('no such thing')
    assert browser.find_element('id', 'shown').text == 'No candidate is like that.'


# What a browser shows is readable.

CONTRASTS = """
    const channels = color => { const c = color.match(/[\\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const luminance = color => { const [r, g, b] = color.map(c => c / 255).map(
        c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    function ground(element) {
        if (!element) return [255, 255, 255];
        return over(channels(getComputedStyle(element).backgroundColor), ground(element.parentElement));
    }
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        const box = element.getBoundingClientRect(), style = getComputedStyle(element);
        if (!own || !box.width || element.disabled || element.closest('script, style, noscript, .skip, tspan')) continue;
        let below = ground(element);
        const rect = element.closest('.network') && element.parentElement.querySelector('rect');
        if (rect && getComputedStyle(rect).fill !== 'none') below = over(channels(getComputedStyle(rect).fill), below);
        const color = channels(element.ownerSVGElement ? style.fill : style.color);
        color[3] *= Number(style.opacity);
        const [high, low] = [luminance(over(color, below)), luminance(below)].sort((a, b) => b - a);
        found.push([(high + 0.05) / (low + 0.05), element.textContent.trim().slice(0, 40), parseFloat(style.fontSize)]);
    }
    return found"""


@pytest.mark.slow
@on('mixed')
def test_print(browser, pages, name):
    show(browser, pages.path(name), scheme='dark')
    pdf = base64.b64decode(browser.execute_cdp_cmd('Page.printToPDF', {})['data'])
    assert len(re.findall(rb'/Type\s*/Page\b', pdf)) in range(4, 16)
    look_at(browser, 690, 'dark', 'print')
    browser.execute_script("window.look = null; dispatchEvent(new Event('beforeprint'))")
    widths = browser.execute_script("return [...document.querySelectorAll('.drawn')].map(plot => plot._fullLayout.width)")
    assert set(widths) == {610}
    assert [each for each in browser.execute_script(CONTRASTS) if each[0] < 4.5] == []
    assert browser.execute_script("""return [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('nav')).display]""") == ['rgb(255, 255, 255)', 'none']
    assert len(shown_rows(browser)) == 50
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(shown_rows(browser)) == 25


@pytest.mark.slow
@on('mixed', 'both', 'tiny', 'empty')
def test_text_is_readable(browser, pages, name):
    """In light colours and in dark ones, of which a page shows first what the browser prefers."""
    scheme = 'dark' if name in ('mixed', 'both') else 'light'
    show(browser, pages.path(name), scheme=scheme)
    check_readable(browser, scheme)
    click(browser, '#theme')
    check_readable(browser, 'light' if scheme == 'dark' else 'dark')


def check_readable(browser, scheme):
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 50
    assert [each for each in found if each[0] < 4.5] == []
    assert [each for each in found if each[2] < 9] == []
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r'\d+', ground))) < 200) == (scheme == 'dark')


@pytest.mark.slow
@on('tiny')
def test_drawing_is_below_the_metric_on_a_phone(browser, pages, name):
    show(browser, pages.path(name), width=390)
    facts, drawing = facts_and_drawing(browser)
    assert drawing['top'] > facts['top'] and drawing['left'] < facts['right']


def facts_and_drawing(browser):
    return browser.execute_script("""return ['.facts', 'svg.network'].map(
        selector => document.querySelector(selector).getBoundingClientRect().toJSON())""")


@pytest.mark.slow
@on('mixed', 'both', 'tiny')
def test_nothing_is_wider_than_the_screen(browser, pages, name):
    """Neither of a phone, nor when that becomes a larger screen."""
    show(browser, pages.path(name), width=390)
    check_widths(browser, 390)
    for width in (768, 1100):
        browser.execute_script('window.look = null')
        look_at(browser, width, 'light', '')
        wait_until(lambda width=width: browser.execute_script('return innerWidth') == width and fit(browser))
        check_widths(browser, width)


def check_widths(browser, width):
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width
    plots = plot_widths(browser)
    assert plots and fit(browser) and max(outer for outer, _ in plots) <= width


def plot_widths(browser):
    return browser.execute_script("return [...document.querySelectorAll('.drawn')].map(plot => [plot.clientWidth, "
                                  "plot._fullLayout.width])")


def fit(browser):
    """Whether all plots are as wide as the places that they are in."""
    return all(abs(outer - inner) <= 1 for outer, inner in plot_widths(browser))


@pytest.mark.slow
def test_page_of_very_many(browser, tmp_path):
    """Each candidate takes a few calls and bytes, and the page shows a few of them at a time."""
    run, size = make(tmp_path / 'run', candidates=200, copies=499, trained=50, top_k=60), 100_000
    path, calls = counted(write_report, run, tmp_path / 'report.html')
    assert calls < 500 * size and path.stat().st_size < 250 * size
    show(browser, path)
    assert browser.execute_script("return document.querySelectorAll('*').length") < size / 2
    browser.execute_script("""window.work = {compared: 0, parsed: 0};
        const sort = Uint32Array.prototype.sort, parse = JSON.parse;
        JSON.parse = text => { window.work.parsed++; return parse(text); };
        Uint32Array.prototype.sort = function (compare) {
            return sort.call(this, (a, b) => { window.work.compared++; return compare(a, b); }); };""")
    click(browser, '#table th[data-key=architecture] button')
    click(browser, '#table th[data-key=parameters] button')
    work = browser.execute_script('return window.work')
    assert 0 < work['compared'] < 2 * size * math.log2(size)
    assert 0 < work['parsed'] < 3 * size  # the two choices of each candidate once, and those that are shown
    assert browser.find_element('id', 'shown').text == '1 to 25 of 100,000'
    assert browser.get_log('browser') == []
