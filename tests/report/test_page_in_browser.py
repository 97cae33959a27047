"""A page in a browser: its numbers and its plots are the record's."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from made_up_runs import usable
from pages import on, same, show, table_of

from nni_knas import plots
from nni_knas.report.table import STATUS_TEXTS


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
        'scored': len(usable(run)),
        'trained': len(run.ranking(all=True)),
        'failed': int(run.scores(all=True).status.isin(['failed', 'training-failed']).sum()),
        **({'seconds': footprint.seconds, 'kwh': footprint.kwh, 'co2_kg': footprint.co2_kg} if metered else {}),
    }
    if metered:
        stages = np.array(table_of(browser, '#footprint'), dtype=float)
        assert np.allclose(stages[:2], footprint.stages, rtol=1e-15, atol=0)
        assert browser.find_element('id', 'statement').text.lower() == footprint.statement.lower()
    gone = run.scores(all=True)[run.scores(all=True).status.isin(['failed', 'training-failed', 'filtered', 'outside'])]
    reasons = {
        (STATUS_TEXTS[status], reason): str(len(group)) for (status, reason), group in gone.groupby(['status', 'reason'])
    }
    assert {(what, reason): size for size, what, reason, _ in table_of(browser, '#table-of-failures')} == reasons


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
    ranking = run.ranking(all=True)
    by_metric = ranking.metric.rank(method='min', ascending=run.optimize_mode == 'minimize')
    assert points('ranks') == set(zip(ranking.index, ranking.index, by_metric))
    note = browser.find_element('css selector', '#plot-ranks').find_element('xpath', '../p').text
    better = ranking.metric * (-1 if run.optimize_mode == 'minimize' else 1)
    assert plots.spearman(ranking.score, better)[2] in note
    curves = browser.execute_script("""return document.getElementById('plot-curves')._fullData.map(
        trace => [trace.customdata[0], [...trace.x], [...trace.y]])""")
    expected = {
        candidate: (line.step.tolist(), line.metric.tolist()) for candidate, line in run.curves().groupby('candidate')
    }
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
    titles = set(
        browser.execute_script("""return [...document.querySelectorAll('.drawn')].flatMap(
        plot => Object.entries(plot._fullLayout).filter(([key, axis]) => /^[xy]axis\\d*$/.test(key) && axis.visible).map(
        ([key, axis]) => axis.title.text))""")
    )
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
        assert {int(rank): value for rank, value in metrics.items()} == run.ranking(all=True).metric.to_dict()
        assert {int(rank): value for rank, value in scores.items()} == frame.score.dropna().to_dict()


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
