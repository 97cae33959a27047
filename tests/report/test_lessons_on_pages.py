"""What a report says of what the trained candidates have taught."""

from __future__ import annotations

import json

import pytest
from made_up_runs import make
from pages import report
from searches import learnt_run, near_run

from nni_knas import plots
from nni_knas.plots.common import rated_of
from nni_knas.record import Record, Stop, record_path, set_stop
from nni_knas.runs import REASONS, Run


@pytest.fixture(scope='module')
def learnt(tmp_path_factory):
    return learnt_run(tmp_path_factory.mktemp('learnt'))


def test_section(learnt, tmp_path):
    page, lessons = report(learnt, tmp_path), learnt.lessons()
    assert lessons.sentence in page.texts and 'What counted on this space' in page.texts
    assert all(name in page.texts for name in lessons.known.index) and 'less of it is better here' in page.texts
    unknown = len(lessons.weights) - len(lessons.known)
    assert f'{unknown} of {len(lessons.weights)} statistics are not known to count.' in page.texts
    assert all(REASONS[reason] in page.texts for reason in learnt.choices().reason)
    assert 'of 14, chosen by what was learnt' in page.text


def test_candidates_near_the_best(tmp_path):
    assert 'of 60 explored, 20 near the best' in report(near_run(tmp_path), tmp_path).text


def test_warning(learnt, tmp_path, monkeypatch):
    assert ('warning' in {attributes.get('id') for _, attributes in report(learnt, tmp_path).tags}) == bool(
        learnt.lessons().warning
    )
    warned = learnt.lessons()._replace(warning='The score does not rank this space.')
    monkeypatch.setattr(Run, 'lessons', lambda run: warned)
    assert 'The score does not rank this space.' in report(learnt, tmp_path).texts


def test_nothing_is_trained(tmp_path):
    page = report(make(tmp_path / 'run', trained=0), tmp_path)
    assert 'Nothing is trained yet.' in page.texts


def test_what_was_saved(tmp_path):
    run = make(tmp_path / 'run', trained=8, top_k=20, learnt=True)
    set_stop(Record(record_path(run.folder)), Stop(0.05, 0.03, 20))
    assert 'of 20, chosen by what was learnt; 12 were saved' in report(run, tmp_path).text


def test_figure(learnt, tmp_path):
    expected, trained = plots.plot_choices(learnt).data
    choices = learnt.choices()
    assert list(trained.y) == choices.metric.tolist() and list(trained.x) == choices.index.tolist()
    known = [value for value in expected.y if value == value]
    assert known == choices.predicted.dropna().tolist()
    assert len(json.loads(plots.plot_choices(make(tmp_path / 'rank')).to_json())['data']) == 1  # nothing was expected


def test_figure_of_an_earlier_version(tmp_path):
    run = make(tmp_path / 'run')
    Record(record_path(run.folder))._connection.execute('DROP TABLE choices')
    text = plots.plot_choices(Run(run.folder)).layout.annotations[0].text.replace('<br>', ' ')
    assert text == 'the run is of an earlier version: the order of its choices is not known'


def test_figures_mark_what_was_chosen_and_not_the_top_by_score(learnt):
    marked = rated_of(learnt).query('top').candidate
    assert set(marked) == set(learnt.choices().candidate)
