"""Figures of runs: their numbers are the record's, whatever the run has and has not."""

from __future__ import annotations

import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from counting import counted
from made_up_runs import make, usable
from scipy import stats
from servers import wait_until

from nni_knas import plots
from nni_knas.plots import common
from nni_knas.record import Record, record_path
from nni_knas.runs import Run

FIGURES = ('plot_scores', 'plot_progress', 'plot_costs', 'plot_curves', 'plot_ranks', 'plot_choices', 'plot_footprint')


def of_mode(figure, mode):
    """The visible traces of markers or of lines."""
    return [trace for trace in figure.data if trace.type == 'scatter' and trace.mode == mode and trace.visible is not False]


def points(figure):
    """The markers of a figure, as ``(rank, x, y)``."""
    return {
        (int(rank), x, y) for trace in of_mode(figure, 'markers') for rank, x, y in zip(trace.customdata, trace.x, trace.y)
    }


def trace(figure, name):
    [found] = [trace for trace in figure.data if trace.name == name]
    return found


def sentence(figure):
    assert not figure.data
    return figure.layout.annotations[0].text.replace('<br>', ' ')


# Scores.


@pytest.mark.parametrize('wide', [True, False])
def test_scores(tmp_path, wide):
    run = make(tmp_path, wide=wide)
    figure, scores = plots.plot_scores(run), usable(run).score
    bars = trace(figure, 'scores')
    assert sum(bars.y) == len(scores) == 108
    for left, width, count in zip(bars.x[:-1], bars.width[:-1], bars.y[:-1]):
        assert count == ((scores >= left) & (scores < left + width)).sum()
    assert {(rank, x) for rank, x, _ in points(figure)} == set(scores.items())
    assert figure.layout.xaxis.type == ('log' if wide else 'linear')


def test_top_k_is_marked(tmp_path):
    run = make(tmp_path)
    figure = plots.plot_scores(run)
    [line] = of_mode(figure, 'lines')
    assert line.name.startswith('top 10 from') and set(line.x) == {run.scores(all=True).score[10]}
    assert list(trace(figure, 'top 10, not trained').customdata) == [9, 10]
    assert list(trace(figure, 'training failed').customdata) == [2]
    assert list(trace(figure, 'trained').customdata) == [1, 3, 4, 5, 6, 7, 8]


def test_top_k_of_a_front(tmp_path):
    run = make(tmp_path, trained=0, front='parameters')
    figure = plots.plot_scores(run)
    assert set(run.pareto(all=True).index) <= set(trace(figure, 'top 10, not trained').customdata)
    assert not of_mode(figure, 'lines')


def test_quick_scores_are_apart(tmp_path):
    run = make(tmp_path, quick=True)
    figure, frame = plots.plot_scores(run), usable(run)
    assert sum(trace(figure, 'scores').y) == frame.score.notna().sum()
    assert sum(trace(figure, 'quick scores').y) == frame.score.isna().sum() > 0
    assert (trace(figure, 'scores').xaxis, trace(figure, 'quick scores').xaxis) == ('x', 'x2')
    progress = plots.plot_progress(run)
    assert set(trace(progress, 'quick score only').y) == set(frame.quick[frame.score.isna()])
    assert max(trace(progress, 'best so far').y) == frame.score.max()
    assert {trace.name: trace.yaxis for trace in progress.data}['quick score only'] == 'y2'


def test_candidates_with_both_scores_are_in_both_panels(tmp_path):
    record = Record(record_path(tmp_path))
    for i in range(4):
        record.add_screened({'n': i}, str(i), float(i), 0.1)
    record.rate(4, 300.0, None, 0.1)
    figure = plots.plot_scores(Run(tmp_path))
    assert sum(trace(figure, 'scores').y) == 1 and sum(trace(figure, 'quick scores').y) == 4
    both = [(each.xaxis, list(each.x)) for each in figure.data if each.name == 'scored']
    assert both == [('x', [300.0]), ('x2', [3.0])]
    progress = plots.plot_progress(Run(tmp_path))
    assert [each.showlegend for each in progress.data if each.name == 'scored'] == [True, False]


def test_hover_tells_rank_and_architecture(tmp_path):
    run = make(tmp_path)
    text = trace(plots.plot_scores(run), 'trained').hovertext[0]
    best = run.scores(all=True).iloc[0]
    operation = best.architecture['cell/0_1'].replace('<', '&lt;').replace('>', '&gt;')
    assert text.startswith(f'rank 1, candidate {best.candidate}<br>score ')
    assert f'accuracy {best.metric:.5g}' in text or f'metric {best.metric:.5g}' in text
    assert text.endswith(f'<br>cell/0_1: {operation}, n: {best.architecture["n"]}')


@pytest.mark.parametrize('values', [[1.0], [2.0, 2.0, 2.0], [0.0, 1e300], [-5.0, -4.0, 3.0], [1e-9, 1.0, 1e9]])
def test_histogram_counts_all(values):
    counts, edges = plots.histogram(values, plots.is_wide(pd.Series(values)))
    assert counts.sum() == len(values) and len(edges) == len(counts) + 1
    assert (np.diff(edges) > 0).all()


# Progress.


@pytest.mark.parametrize('quick', [True, False])
def test_progress(tmp_path, quick):
    run = make(tmp_path, quick=quick)
    figure, frame = plots.plot_progress(run), usable(run)
    assert points(figure) == set(zip(frame.index, frame.candidate, frame.score.fillna(frame.quick)))
    best = trace(figure, 'best so far')
    full = frame[frame.score.notna()].sort_values('candidate')
    steps = dict(zip(best.x, best.y))
    seen = -np.inf
    for number, score in zip(full.candidate, full.score):
        assert (number in steps) >= (score > seen)
        seen = max(seen, score)
        assert steps.get(number, seen) == seen
    assert best.x[-1] == frame.candidate.max() and best.y[-1] == frame.score.max()


# Costs.


def test_costs(tmp_path):
    run = make(tmp_path)
    figure, frame = plots.plot_costs(run), usable(run)
    buttons = {button.label: button.args for button in figure.layout.updatemenus[0].buttons}
    assert list(buttons) == ['parameters', 'FLOPs', 'scoring time', 'training time']
    for label, cost in (
        ('parameters', 'parameters'),
        ('FLOPs', 'flops'),
        ('scoring time', 'seconds'),
        ('training time', 'training_seconds'),
    ):
        for trace, visible in zip(figure.data, buttons[label][0]['visible']):
            trace.visible = visible
        known = frame[frame[cost].notna()]
        assert points(figure) == set(zip(known.index, known[cost], known.score))
        assert ('(s)' in buttons[label][1]['xaxis.title.text']) == cost.endswith('seconds')


def test_first_cost_is_shown(tmp_path):
    figure = plots.plot_costs(make(tmp_path))
    first = figure.layout.updatemenus[0].buttons[0].args
    assert [trace.visible for trace in figure.data] == first[0]['visible']
    assert figure.layout.xaxis.title.text == first[1]['xaxis.title.text']


@pytest.mark.parametrize('cost', ['parameters', 'flops', 'seconds'])
def test_one_cost(tmp_path, cost):
    run = make(tmp_path)
    figure, frame = plots.plot_costs(run, cost), usable(run)
    assert not figure.layout.updatemenus
    assert points(figure) == set(zip(frame.index, frame[cost], frame.score))
    lines = of_mode(figure, 'lines')
    assert [line.name for line in lines] == (['Pareto front'] if cost != 'seconds' else [])
    for line in lines:
        assert list(line.customdata) == list(run.pareto(cost, all=True).index)
        assert list(line.y) == list(run.pareto(cost, all=True).score)


def test_costs_that_are_not_known(tmp_path):
    run = make(tmp_path, costs=False)
    assert sentence(plots.plot_costs(run, 'latency')) == 'no candidate with a score has its latency recorded'
    assert [button.label for button in plots.plot_costs(run).layout.updatemenus[0].buttons] == [
        'scoring time',
        'training time',
    ]
    with pytest.raises(ValueError, match=r"unknown cost 'size': it is one of parameters, flops, .*training_kwh"):
        plots.plot_costs(run, 'size')


# Learning curves.


@pytest.fixture
def curves(monkeypatch):
    """Five steps of each candidate that is or was in training."""

    def of(run):
        rows = [
            (row.candidate, rank, step, rank + step / 10)
            for rank, row in run.scores(all=True).iterrows()
            if row.status in ('trained', 'training-failed', 'training')
            for step in range(1, 6)
        ]
        return pd.DataFrame(rows, columns=['candidate', 'rank', 'step', 'metric'])

    monkeypatch.setattr(Run, 'curves', of)


@pytest.mark.parametrize('mode', ['maximize', 'minimize'])
def test_curves(tmp_path, curves, mode):
    run = make(tmp_path, mode=mode)
    figure = plots.plot_curves(run)
    assert [line.name for line in figure.data] == [
        *(f'rank {rank}' for rank in run.ranking(all=True).index),
        'rank 2 (failed)',
    ]
    for line in figure.data:
        rank = int(line.name.split()[1])
        assert list(line.x) == [1, 2, 3, 4, 5]
        assert list(line.y) == [rank + step / 10 for step in range(1, 6)]
        assert set(line.customdata) == {run.scores(all=True).candidate[rank]}
    assert [line.line.width > 2 for line in figure.data] == [True] + [False] * 7  # the winner's


def test_many_curves_are_thinned(tmp_path, curves):
    run = make(tmp_path, candidates=200, trained=150, top_k=150)
    figure = plots.plot_curves(run)
    assert [line.name for line in figure.data] == [f'rank {rank}' for rank in run.ranking(all=True).index[:100]]
    assert 'the 100 best of 150 curves are drawn' in figure.layout.title.subtitle.text


def test_no_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'curves', lambda run: pd.DataFrame(columns=['candidate', 'rank', 'step', 'metric']))
    assert sentence(plots.plot_curves(make(tmp_path / 'a'))) == 'the evaluator has reported no intermediate metric yet'
    assert sentence(plots.plot_curves(make(tmp_path / 'b', trained=0))) == 'no candidate is in training yet'


# Ranks.


@pytest.mark.parametrize('mode', ['maximize', 'minimize'])
def test_ranks(tmp_path, mode):
    run = make(tmp_path, mode=mode)
    figure, ranking = plots.plot_ranks(run), run.ranking(all=True)
    assert points(figure) == {(rank, rank, i) for i, rank in enumerate(ranking.index, start=1)}
    correlation = stats.spearmanr(ranking.score, ranking.metric * (1 if mode == 'maximize' else -1)).statistic
    assert f'Spearman {correlation:.3f}, p = ' in figure.layout.title.subtitle.text


def test_ranks_of_few(tmp_path):
    run = make(tmp_path, trained=4)  # of which one fails
    figure = plots.plot_ranks(run)
    assert len(points(figure)) == 3
    assert 'it takes 4 trained candidates, and there are 3' in figure.layout.title.subtitle.text.replace('<br>', ' ')


@pytest.mark.parametrize('count', [4, 5, 7, 20, 300])
def test_spearman_is_scipys(count):
    rng = np.random.default_rng(count)
    scores, metrics = rng.normal(size=count).round(1), rng.normal(size=count).round(1)  # with ties
    correlation, p, text = plots.spearman(scores, metrics)
    expected = stats.spearmanr(scores, metrics)
    assert correlation == expected.statistic
    assert f'Spearman {expected.statistic:.3f}' in text
    if count >= 20:
        assert p == pytest.approx(expected.pvalue, abs=0.03)


def test_p_value_is_that_of_all_permutations():
    scores, metrics = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    all_of_them = [stats.spearmanr(scores, order).statistic for order in itertools.permutations(metrics)]
    p = np.mean(np.abs(all_of_them) >= stats.spearmanr(scores, metrics).statistic - 1e-9)
    assert plots.spearman(scores, metrics)[1] == pytest.approx(p)
    assert plots.spearman(scores[:4], scores[:4])[1] == pytest.approx(2 / 24)


def test_no_spearman():
    assert plots.spearman([1, 2, 3, 4], [5, 5, 5, 5])[2] == 'no Spearman correlation: all metrics are equal'
    assert np.isnan(plots.spearman([1, 1, 1, 1], [1, 2, 3, 4])[0])


# Energy.


def footprint(estimate=True, scale=1.0):
    stages = (
        pd.DataFrame(
            {
                'seconds': [60.0, 300.0],
                'cpu_kwh': [0.001, 0.006],
                'gpu_kwh': [0.0, np.nan],
                'memory_kwh': [0.0002, 0.0008],
                'kwh': [0.0012, 0.0068],
                'co2_kg': [0.0004, 0.0023],
            },
            index=['coarse', 'fine'],
        )
        * scale
    )
    return SimpleNamespace(
        stages=stages,
        kwh=stages.kwh.sum(),
        methods={'cpu': 'measured (RAPL)', 'memory': 'modelled (3 W)'},
        statement='scored 108 candidates and trained 8 for 0.008 kWh',
        estimate=SimpleNamespace(kwh=0.1, low=0.08, high=0.15) if estimate else None,
    )


def test_footprint(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'footprint', lambda run: footprint())
    figure = plots.plot_footprint(make(tmp_path))
    bars = {trace.name: dict(zip(trace.y, trace.x)) for trace in figure.data}
    assert bars.pop('this run') == {'this run<br>8 Wh': 8}
    assert bars == {
        'CPU (measured)': {'coarse': 1, 'fine': 6},
        'memory (modelled)': {'coarse': 0.2, 'fine': 0.8},
        'estimate of training all': {'training all<br>100 Wh<br>80 to 150 Wh': 100},
    }
    assert figure.layout.xaxis.title.text == figure.layout.xaxis2.title.text == 'energy (Wh)'
    error = trace(figure, 'estimate of training all').error_x
    assert (error.array[0], error.arrayminus[0]) == pytest.approx((50, 20))
    assert 'trained 8 for 0.008 kWh' in figure.layout.title.subtitle.text.replace('<br>', ' ')


def test_footprint_without_an_estimate(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'footprint', lambda run: footprint(estimate=False))
    assert {tuple(trace.y) for trace in plots.plot_footprint(make(tmp_path)).data} == {('coarse', 'fine')}


# Several runs.


def test_comparison_of_candidates(tmp_path):
    runs = [make(tmp_path / name, mode=mode) for name, mode in (('a', 'maximize'), ('b', 'minimize'))]
    figure = plots.plot_comparison(runs)
    for run, box in zip(runs, (trace for trace in figure.data if trace.type == 'box')):
        assert dict(zip(box.customdata, box.x)) == dict(run.ranking(all=True).metric)
        assert set(box.y) == {run.name}
    assert [trace.x[0] for trace in figure.data if trace.type == 'scatter'] == [run.metric for run in runs]
    boxes = [trace for trace in plots.plot_comparison(runs, 'score').data if trace.type == 'box']
    assert [dict(zip(box.customdata, box.x)) for box in boxes] == [dict(usable(run).score) for run in runs]


def test_comparison_of_stages(tmp_path, monkeypatch):
    footprints = iter([footprint(), footprint(scale=2)])
    monkeypatch.setattr(Run, 'footprint', lambda run: next(footprints))
    runs = [make(tmp_path / name / 'run') for name in 'ab']  # folders, and so runs, of one name
    figure = plots.plot_comparison(runs, 'kwh')
    assert {trace.name: list(trace.x) for trace in figure.data} == {'coarse stage': [1.2, 2.4], 'fine stage': [6.8, 13.6]}
    assert list(figure.data[0].y) == list(figure.layout.yaxis.ticktext) == ['run', 'run (2)']
    assert figure.layout.xaxis.title.text == 'energy (Wh)'


def test_comparisons_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="unknown comparison 'joules': it is one of metric, score, kwh"):
        plots.plot_comparison([make(tmp_path)], 'joules')
    with pytest.raises(ValueError, match='there is no run to compare'):
        plots.plot_comparison([])


# All figures.


def test_empty_run(tmp_path):
    run = make(tmp_path, 0)
    for figure in (
        plots.plot_scores(run),
        plots.plot_progress(run),
        plots.plot_costs(run),
        plots.plot_comparison([run], 'score'),
    ):
        assert sentence(figure) == 'no candidate has a score yet'
    for figure in (plots.plot_footprint(run), plots.plot_comparison([run], 'kwh')):
        assert sentence(figure) == 'no energy was recorded yet'
    assert sentence(plots.plot_curves(run)) == 'no candidate is in training yet'
    assert sentence(plots.plot_ranks(run)) == 'no candidate is trained yet'
    assert sentence(plots.plot_comparison([run])) == 'no run has a trained candidate yet'


def test_nothing_but_failures(tmp_path):
    record = Record(record_path(tmp_path))
    record.add_failed({'n': 1}, '1', 'ScoringError: the score is nan', 0.1)
    record.add_screened({'n': 2}, '2', None, 0.1)
    assert sentence(plots.plot_scores(Run(tmp_path))) == 'no candidate has a score yet'
    assert sentence(plots.plot_costs(Run(tmp_path), 'parameters')) == 'no candidate has a score yet'


def test_one_candidate(tmp_path):
    Record(record_path(tmp_path)).add_scored({'n': 1}, '1', 0.0, 0.1)
    run = Run(tmp_path)
    assert points(plots.plot_progress(run)) == {(1, 1, 0.0)}
    assert sum(trace(plots.plot_scores(run), 'scores').y) == 1


@pytest.mark.parametrize('name', FIGURES)
def test_figures_suit_light_and_dark(tmp_path, curves, monkeypatch, name):
    monkeypatch.setattr(Run, 'footprint', lambda run: footprint())
    layout = json.loads(getattr(plots, name)(make(tmp_path, quick=True)).to_json())['layout']
    assert layout['paper_bgcolor'] == layout['plot_bgcolor'] == 'rgba(0,0,0,0)'
    assert 'font' not in layout and 'font' not in layout['title']
    assert layout['title']['text'].endswith(f'of {tmp_path.name}')
    axes = [layout['xaxis'], layout['yaxis']]
    assert all(axis['title']['text'] and 'color' not in axis and 'tickfont' not in axis for axis in axes)


def test_colours_are_seen_on_light_and_dark():
    def luminance(color):
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for color in (common.BLUE, common.VERMILLION, common.GREEN, common.GREY):
        assert 1.05 / (luminance(color) + 0.05) > 3
        assert (luminance(color) + 0.05) / (luminance('#111418') + 0.05) > 3


def test_many_candidates(tmp_path):
    """As few points are drawn as of a fifth of them, and the work grows no faster than they do."""
    run, fewer = (make(tmp_path / str(copies), 200, 50, top_k=60, copies=copies) for copies in (64, 12))
    scores = run.scores(all=True)  # reading the record is no part of the work
    assert len(scores) == 13_000 and len(fewer.scores(all=True)) == 2_600
    for figure_of in (plots.plot_scores, plots.plot_progress, plots.plot_costs):
        (figure, work), (_, less) = counted(figure_of, run), counted(figure_of, fewer)
        assert work < 5 * less
        assert len(figure.to_json()) < 4_000_000
        markers = of_mode(figure, 'markers')
        ranks = np.concatenate([trace.customdata for trace in markers])
        assert len(ranks) == len(set(ranks)) == common.MOST_POINTS
        assert set(range(1, 61)) <= set(ranks)
        others = ranks[ranks > 60]
        assert np.abs(np.quantile(others, [0.25, 0.5, 0.75]) / len(usable(run)) - [0.25, 0.5, 0.75]).max() < 0.01
        assert '2,000 of 11,700 candidates are drawn' in figure.layout.title.subtitle.text.replace('<br>', ' ')
    assert sum(trace(plots.plot_scores(run), 'scores').y) == scores.score.notna().sum() == 11_700


@pytest.mark.parametrize('name', FIGURES)
def test_without_plotly(tmp_path, monkeypatch, name):
    run = make(tmp_path)
    monkeypatch.setitem(sys.modules, 'plotly', None)
    with pytest.raises(ValueError, match=r'^plotting needs the package plotly: pip install "plotly>='):
        getattr(plots, name)(run)


# In a browser.


@pytest.mark.slow
def test_in_a_browser(browser, tmp_path):
    run = make(tmp_path / 'run')
    page = tmp_path / 'page.html'
    plots.plot_costs(run).write_html(page, div_id='figure')
    browser.get(page.as_uri())
    wait_until(lambda: browser.execute_script("return document.querySelectorAll('#figure .scatterlayer .point').length"))
    shown = """return document.getElementById('figure')._fullData.filter(t => t.visible === true && t.mode === 'markers')
               .flatMap(t => [...t.customdata].map((rank, i) => [rank, t.x[i], t.y[i]]))"""
    frame = usable(run)
    assert {tuple(point) for point in browser.execute_script(shown)} == set(zip(frame.index, frame.parameters, frame.score))
    click = "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    browser.execute_script(click, browser.find_element('css selector', '#figure .updatemenu-header'))
    entries = browser.find_elements('css selector', '#figure .updatemenu-dropdown-button')
    browser.execute_script(click, next(entry for entry in entries if entry.text == 'scoring time'))
    wait_until(lambda: browser.find_element('css selector', '#figure .xtitle').text == 'time of building and scoring (s)')
    assert {tuple(point) for point in browser.execute_script(shown)} == set(zip(frame.index, frame.seconds, frame.score))
