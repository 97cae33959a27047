"""The table of candidates as it is printed on a terminal of 80 columns."""

from __future__ import annotations

import made_up_runs
import pandas as pd
import pytest

from nni_knas.basics.names import PANEL
from nni_knas.record import Record
from nni_knas.runs import score_table

SHORT = ['score', 'metric', 'architecture', 'status']


@pytest.fixture
def run(tmp_path):
    return made_up_runs.make(tmp_path / 'run')


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')


def test_what_is_asked_for_comes_first_and_the_rest_by_an_argument(run):
    assert list(run.scores().columns) == list(run.ranking().columns) == SHORT
    assert list(run.pareto('flops').columns) == ['score', 'metric', 'flops', 'architecture', 'status']
    assert run.scores(all=True).equals(run.record.frame())
    assert {'candidate', 'training_seconds'} <= set(run.ranking(all=True)) and 'latency' in run.pareto(all=True)
    assert run.scores().architecture[1] == run.scores(all=True).architecture[1]  # in full, whatever is printed


def test_the_panel_is_asked_for(run):
    assert list(run.scores(panel=True).columns) == SHORT  # of candidates without panels
    add = Record(run.record.path).add_scored
    add({'n': 'with'}, 'with', 1e9, 0.1, panel=dict(zip(PANEL, range(len(PANEL)))))
    add({'n': 'without'}, 'without', 1e8, 0.1, panel='no luck')
    table, all_columns = run.scores(panel=True), run.scores(all=True, panel=True)
    assert list(table.columns) == [*SHORT, *PANEL]
    assert list(all_columns.columns) == [*run.scores(all=True).columns, *PANEL, 'panel_reason']
    assert table.loc[1, list(PANEL)].tolist() == list(range(len(PANEL))) and table.loc[2:, list(PANEL)].isna().all(axis=None)
    assert all_columns.panel_reason[2] == 'no luck' and all_columns.panel_reason.drop(index=2).isna().all()
    assert run.scores().equals(table[SHORT]) and run.scores(all=True).equals(run.record.frame())
    assert max(map(len, str(table.head()).splitlines())) <= 80


@pytest.mark.parametrize('scale', [1e-7, 1.0, 2430211.1879581898])
@pytest.mark.parametrize('metric', [None, 0.98123456789, 12345.6789])
def test_nothing_is_left_out_on_80_columns(run, scale, metric):
    for table in (run.scores(), run.scores().head(), run.scores().tail(), run.ranking(), run.pareto()):
        table = table.assign(score=table.score * scale, metric=metric, status='training-failed')
        lines = str(table).splitlines()
        assert set(SHORT) <= set(lines[0].split()) and '...' not in lines[0].split(), lines[0]
        assert max(map(len, lines)) <= 80
        assert '{cell/0_1: ' in lines[2]


def test_a_long_architecture_is_cut_where_the_line_ends(run, monkeypatch):
    frame = run.scores(all=True).head(2)
    table = score_table(frame.assign(architecture=[{f'cell/{i}': 'conv_3x3' for i in range(20)}, {'depth': 2}]))
    assert '...' in str(table).splitlines()[2]
    assert '{depth: 2}' in str(table).splitlines()[3]
    monkeypatch.setenv('COLUMNS', '200')
    pd.set_option('display.width', None)
    wide = str(table).splitlines()[2]
    pd.reset_option('display.width')
    assert 80 < len(wide) <= 200


def test_parts_of_it_are_printed_too(run):
    assert 'architecture' not in str(run.scores()[['score', 'metric']])
    assert '{cell/0_1: ' in str(run.scores()[['architecture']])
    assert str(run.scores()[:0])  # none
