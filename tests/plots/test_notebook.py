"""What a notebook shows of a strategy."""

from __future__ import annotations

from xml.etree import ElementTree

import pandas as pd
import pytest
from made_up_runs import make
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import SimplifiedModelSpace
from spaces import TinySpace, tiny_kernel, train

from nni_knas import KNAS, plots
from nni_knas.basics.names import RECOMMENDED
from nni_knas.record import Record, record_path
from nni_knas.runs import Run


def test_strategy_before_its_run():
    html = KNAS(tiny_kernel(), 30, 4, constraints={'parameters': 1e6}, front='flops', choose='rank')._repr_html_()
    for text in (
        'not run yet',
        '30, of which the best 4 are trained',
        'parameters at most 1,000,000',
        'Random(',
        'the Pareto front of score and flops',
        f'{RECOMMENDED}, on 16 samples, seed 0',
    ):
        assert text in html
    assert '<svg' not in html and html.count('<table') == html.count('</table>') == 1


@pytest.fixture(scope='module')
def strategy(tmp_path_factory):
    strategy = KNAS(tiny_kernel(), 20, 5, choose='rank', record=record_path(tmp_path_factory.mktemp('run')))
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
    return strategy


def rows(html):
    """The cells of the tables of a fragment, which has to be well-formed."""
    return [[''.join(cell.itertext()) for cell in row] for row in ElementTree.fromstring(html).iter('tr')]


def test_strategy_after_its_run(strategy):
    html, run = strategy._repr_html_(), Run.of(strategy)
    assert f'run {run.name}, finished' in html
    table = rows(html)
    head = table.index(['rank', 'score', run.metric_name, 'parameters', 'architecture'])
    expected = pd.concat([run.ranking(all=True), run.scores(all=True)[5:]])[:10]
    assert len(run.ranking(all=True)) == 5
    for cells, (rank, row) in zip(table[head + 1 :], expected.iterrows(), strict=True):
        metric = '' if pd.isna(row.metric) else f'{row.metric:.5g}'
        assert cells[:3] == [str(rank), plots.number_text(row.score), metric]
        assert cells[3:] == [f'{row.parameters:,.0f}', plots.architecture_text(row.architecture)]


def test_sizes_of_a_strategy(tmp_path):
    run = make(tmp_path)
    table = rows(KNAS(tiny_kernel(), 120, 10, record=record_path(tmp_path))._repr_html_())
    head = table.index(['rank', 'score', run.metric_name, 'parameters', 'architecture'])
    assert [cells[3] for cells in table[head + 1 : head + 8]] == [
        f'{size:,.0f}' for size in run.ranking(all=True).parameters
    ]


def test_histogram_of_a_strategy(strategy):
    titles = [''.join(title.itertext()) for title in ElementTree.fromstring(strategy._repr_html_()).iter('title')]
    assert sum(int(title.split()[0]) for title in titles) == strategy.scores(all=True).score.notna().sum()


def test_strategy_is_escaped(tmp_path):
    make(tmp_path)
    strategy = KNAS(tiny_kernel(), 120, 10, record=record_path(tmp_path))
    html = strategy._repr_html_()
    assert '<b>skip' not in html and '&lt;b&gt;skip&lt;/b&gt;' in html
    assert ElementTree.fromstring(html) is not None


def test_strategy_in_memory_that_has_just_begun():
    strategy = KNAS(tiny_kernel(), 20, 5)
    strategy._record = Record(None)
    assert Run.of(strategy).record is strategy._record
    assert 'none yet' in strategy._repr_html_()


def test_strategy_without_a_score(tmp_path):
    Record(record_path(tmp_path)).add_failed({'n': 1}, '1', 'ScoringError: no', 0.1)
    html = KNAS(tiny_kernel(), 20, 5, record=record_path(tmp_path))._repr_html_()
    assert '1 failed' in html and '<svg' not in html and 'rank' not in html.replace(RECOMMENDED, '')
