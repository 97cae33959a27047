"""Pages of runs: their numbers are the record's, whatever the run has and has not, and they are written well."""

from __future__ import annotations

import json
import math
import os
import shutil
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from made_up_runs import usable
from pages import HOSTILE, METHODS, make, report

from nni_knas import write_report
from nni_knas.basics.texts import energy
from nni_knas.record import Record, record_path
from nni_knas.report.table import columns
from nni_knas.runs import Run


@pytest.mark.parametrize('name', ['plain', 'minimized'])
def test_summary(pages, name):
    page, run = pages.read(name), pages.run(name)
    frame, footprint = run.scores(all=True), run.footprint()
    scored = usable(run)
    expected = {
        'metric': run.metric,
        'scored': len(scored),
        'trained': 7,
        'failed': 7,
        'seconds': footprint.seconds,
        'kwh': footprint.kwh,
        'co2_kg': footprint.co2_kg,
    }
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
    assert f'own trials: {energy(estimate.kwh)}, between {energy(estimate.low)}' in page.text


@pytest.mark.parametrize(
    ('kwh', 'text'),
    [
        (None, '–'),
        (math.nan, '–'),
        (0.0, '0 mWh'),
        (1.5e-7, '0.15 mWh'),
        (0.000782, '782 mWh'),
        (0.0696, '69.6 Wh'),
        (12.345, '12.3 kWh'),
        (1234.5, '1,234 kWh'),
    ],
)
def test_energies_have_the_unit_that_suits_them(kwh, text):
    assert energy(kwh) == text


def test_winner(pages):
    page, row = pages.read('plain'), pages.run('plain').winner
    facts = [
        attributes['data-value']
        for tag, attributes in page.tags
        if tag == 'dd' and 'data-key' not in attributes and 'data-value' in attributes
    ]
    assert [float(fact) for fact in facts] == [
        row.metric,
        row.name,
        row.score,
        row.parameters,
        row.flops,
        row.training_seconds,
        row.training_kwh,
    ]
    assert f'Best accuracy: candidate {row.candidate}' in page.texts
    assert 'cell/0_1' in page.texts and row.architecture['cell/0_1'] in page.texts
    assert "There is no drawing, since the run does not know the shape of its networks' inputs." in page.texts


def test_nothing_is_trained(tmp_path):
    page = report(make(tmp_path / 'run', trained=0), tmp_path)
    assert page.values()['metric'] == ''
    assert 'nothing is trained yet' in page.texts and 'Best score; nothing is trained yet' in page.texts


def test_failures(pages, tmp_path):
    page = pages.read('plain')
    for text in (
        'ScoringError: the score is nan',
        '4, 24, 44, 64, 84, …',
        'RuntimeError: out of memory',
        'parameters',
        'over a limit',
    ):
        assert text in page.text
    record = Record(record_path(tmp_path / 'fine'))
    record.add_scored({'n': 1}, '1', 1.0, 0.1)
    assert 'Nothing failed.' in report(Run(tmp_path / 'fine'), tmp_path).texts


def test_configuration(pages):
    page = pages.read('plain')
    for text in (
        'NasBench201(num_labels=10)',
        'parameters: 1000000.0',
        '3.11.7',
        'AMD EPYC',
        'seed 3',
        'nni-knas search --seed 3',
        '/searches',
    ):
        assert text in page.text


@pytest.mark.parametrize(
    ('options', 'status', 'text'),
    [
        ({}, 'finished', 'Finished'),
        ({'complete': 0}, 'interrupted', 'experiment.resume()'),
        ({'process': os.getpid()}, 'running', 'The run goes on: this is how it was at'),
    ],
)
def test_status(tmp_path, options, status, text):
    run = make(tmp_path / 'run', **options)
    page = report(run, tmp_path)
    assert run.status == status
    assert status in page.texts and text.format(run.folder) in page.text
    assert ('resume()' in page.text) == (status == 'interrupted')


@pytest.mark.parametrize(('complete', 'text'), [(0, 'The search has stopped before its end'), (1, 'Finished')])
def test_manager_outlives_the_search(tmp_path, monkeypatch, complete, text):
    """NNI's manager and its trials can go on when the process that searched is gone."""
    run = make(tmp_path / 'run', complete=complete)
    monkeypatch.setattr('nni_knas.report.single.manager_lives', lambda identity: True)
    page = report(run, tmp_path)
    assert 'running' not in page.texts and text in page.text and "NNI's manager is still there" in page.text
    assert ('experiment.resume()' in page.text) == (complete == 0)


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
    record.add_scored({'n': 1}, '1', 3.0, 0.1)
    for table in ('sessions', 'energy', 'steps'):
        record._write(f'DROP TABLE {table}')
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
    assert tiny.scores(all=True).parameters.notna().all()


def test_space_that_cannot_be_built(tiny, tmp_path):
    """What was kept is shown; where nothing was, a page cannot be drawn, and says what does."""
    shutil.copytree(tiny.folder, tmp_path / 'run')
    record = Record(record_path(tmp_path / 'run'))
    record.set_meta('space', record.get_meta('space').replace('spaces', 'gone'))
    assert 'svg' in [tag for tag, _ in report(Run(tmp_path / 'run'), tmp_path).tags]
    record.forget_meta('drawing')
    page = report(Run(tmp_path / 'run'), tmp_path)
    assert 'There is no drawing: a search keeps one at its end.' in page.text
    assert 'svg' not in [tag for tag, _ in page.tags]
    Run(tmp_path / 'run').prepare_report()
    assert 'There is no drawing: the space of' in report(Run(tmp_path / 'run'), tmp_path).text


def test_network_that_cannot_be_drawn(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / 'run')
    with mock.patch.object(Run, 'network', side_effect=RuntimeError('this layer is broken')):
        Run(tmp_path / 'run').prepare_report()
    assert 'There is no drawing: this layer is broken' in report(Run(tmp_path / 'run'), tmp_path).texts


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
    with mock.patch('nni_knas.report.page.atomic_write', side_effect=OSError), pytest.raises(OSError):
        write_report(run, page)
    assert page.read_text() == before and os.listdir(page.parent) == ['page.html']


def unpacked(data):
    """The table that the page's script has, as it was before."""
    frame = pd.DataFrame(data['values'])
    for key, texts in data['texts'].items():
        frame[key] = [texts[code] if code >= 0 else None for code in frame[key]]
    frame['architecture'] = [
        {
            name: json.loads(data['choices'][i][choice])
            for i, (name, choice) in enumerate(zip(data['names'], row))
            if choice >= 0
        }
        for row in data['architectures']
    ]
    return frame


@pytest.mark.parametrize('name', ['plain', 'many', 'hostile'])
def test_table_has_all_candidates(pages, name):
    shown, frame = unpacked(json.loads(pages.read(name).scripts['data'])), pages.run(name).scores(all=True).reset_index()
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
    frame = make(tmp_path / 'run').scores(all=True).assign(latency=0.003, memory=3e6)
    labels = {column.key: column.label for column in columns(frame, 'accuracy', minimize=False)}
    assert (labels['latency'], labels['memory']) == ('Latency (ms)', 'Memory (MiB)')
    assert (labels['training_kwh'], labels['seconds']) == ('Training (Wh)', 'Scoring (s)')
    assert 'Latency (ms)' not in [column.label for column in columns(make(tmp_path / 'b').scores(all=True), 'loss', True)]
    assert not next(column.falling for column in columns(frame, 'loss', minimize=True) if column.key == 'metric')


def test_table_has_no_empty_columns_and_the_architecture_among_the_first(tmp_path):
    page = report(make(tmp_path / 'run', trained=0, quick=False), tmp_path)
    headings = [attributes['data-key'] for tag, attributes in page.tags if tag == 'th' and 'data-key' in attributes]
    assert headings[:4] == ['rank', 'candidate', 'score', 'architecture'] and 'metric' not in headings
    data = json.loads(page.scripts['data'])
    assert all(any(value is not None for value in values) for values in data['values'].values())


def test_plots_of_few_points_are_small(tmp_path):
    run = make(tmp_path / 'run', candidates=60, trained=3, top_k=3)
    classes = {
        attributes['aria-labelledby']: attributes['class']
        for tag, attributes in report(run, tmp_path).tags
        if tag == 'figure'
    }
    heights = {
        attributes['id']: attributes['style']
        for tag, attributes in report(run, tmp_path).tags
        if 'data-figure' in attributes
    }
    assert heights['plot-ranks'] == 'height: 260px' and heights['plot-footprint'] == 'height: 400px'  # bars have names
    small = {name for name, kinds in classes.items() if 'small-plot' in kinds}
    assert small == {'title-curves', 'title-ranks', 'title-choices', 'title-training_seconds'}


def test_nothing_is_measured_for_a_page(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / 'run')
    record = Record(record_path(tmp_path / 'run'))
    record._write('UPDATE candidates SET parameters = NULL')
    with mock.patch('nni_knas.runs.run.nni.load', side_effect=AssertionError):
        write_report(Run(tmp_path / 'run'), tmp_path / 'report.html')
    assert Run(tmp_path / 'run').frame().parameters.isna().all()
    Run(tmp_path / 'run').prepare_report()
    assert Run(tmp_path / 'run').frame().parameters.notna().all()


def test_title_says_what_was_searched_on_what(tmp_path):
    page = report(make(tmp_path / 'run'), tmp_path)
    assert 'NasBench201 on digits by steady-rank' in page.texts
    assert 'a run: NasBench201 on digits by steady-rank' in page.texts


@pytest.mark.parametrize('copies', [1, 84])
def test_page_can_be_mailed(tmp_path, copies):
    """It is below 2 MB, also of 10,000 candidates."""
    path = write_report(make(tmp_path / 'run', copies=copies, trained=50, top_k=60), tmp_path / 'report.html')
    assert path.stat().st_size < 2e6
