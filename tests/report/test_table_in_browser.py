"""The table of a page in a browser: its cells, its pages, its order, its filter and its file."""

from __future__ import annotations

import contextlib
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from counting import counted
from pages import click, make, on, same, show, shown_rows

from nni_knas import write_report
from nni_knas.report.table import columns, csv_table


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
    frame = run.scores(all=True)
    keys = [column.key for column in columns(frame, run.metric_name, run.optimize_mode == 'minimize')]
    architectures = [
        ', '.join(
            f'{name}: {value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))}'
            for name, value in architecture.items()
        )
        for architecture in frame.architecture
    ]
    keys.insert(keys.index('status'), 'architecture')
    return keys, frame.reset_index().assign(architecture=architectures)[keys].to_numpy().tolist()


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
@on('mixed', 'full', 'tiny', 'hostile')
def test_every_cell_of_the_table(browser, pages, name):
    run = pages.run(name)
    show(browser, pages.path(name))
    keys, expected = expected_rows(run)  # with what was measured for the page
    assert len(shown_rows(browser)) == min(25, len(expected))
    with all_rows(browser) as rows:
        check_rows(rows, expected)
        texts = json.loads(
            browser.execute_script("""return JSON.stringify([...document.querySelectorAll(
            '#table tbody tr')].map(row => [...row.querySelectorAll('td')].map(cell => cell.innerText)))""")
        )
    # What is shown of a number has three digits at least, in the unit of its heading.
    listed = {each.key: each for each in columns(run.scores(all=True), run.metric_name, run.optimize_mode == 'minimize')}
    for cells, values in zip(texts, expected):
        for key, cell, value in zip(keys, cells, values):
            column = listed.get(key)
            if column and not column.text and not pd.isna(value) and math.isfinite(value):
                assert float(cell.replace(',', '').replace('\u2212', '-')) == pytest.approx(value / column.scale, rel=5e-3)


@pytest.mark.slow
@on('mixed', 'hostile')
def test_csv_of_the_button(browser, pages, name):
    show(browser, pages.path(name))
    text = browser.execute_async_script("""const make = URL.createObjectURL, done = arguments[0];
        URL.createObjectURL = blob => { blob.text().then(done); return make(blob); };
        document.getElementById('csv').click(); URL.createObjectURL = make""")
    written = pd.read_csv(io.StringIO(text), float_precision='round_trip')
    keys, _ = expected_rows(pages.run(name))
    expected = csv_table(pages.run(name).scores(all=True))[[*(key for key in keys if key != 'architecture'), 'architecture']]
    assert list(written) == list(expected)
    for key in set(keys) - {'architecture'}:
        if key in ('status', 'reason'):
            assert written[key].fillna('').tolist() == expected[key].fillna('').tolist()
        else:
            assert np.array_equal(written[key].astype(float), expected[key].astype(float), equal_nan=True)
    assert written.architecture.tolist() == expected.architecture.tolist()


@pytest.mark.slow
@on('mixed')
def test_pages_of_the_table(browser, pages, name):
    show(browser, pages.path(name))
    expected = expected_rows(pages.run(name))[1]
    for first in range(0, 160, 25):
        check_rows(shown_rows(browser), expected[first : first + 25])
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
        after_clicks = json.loads(browser.execute_script(SORTED, keys))
    for i, clicks in enumerate(after_clicks):
        assert {direction for direction, _ in clicks} == {'ascending', 'descending'}
        for direction, rows in clicks:
            known = [row for row in expected if not pd.isna(row[i])]
            ordered = sorted(known, key=lambda row: row[i], reverse=direction == 'descending')
            check_rows(rows, ordered + [row for row in expected if pd.isna(row[i])])
    assert browser.execute_script("return document.querySelectorAll('#table th:not([aria-sort=none])').length") == 1
    first = {
        key: browser.execute_script(
            """const heading = document.querySelector(`#table th[data-key=${arguments[0]}]`);
        document.querySelector('#table th[data-key=rank] button').click(); heading.firstElementChild.click();
        return heading.getAttribute('aria-sort')""",
            key,
        )
        for key in ('score', 'metric', 'parameters')
    }
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
        browser.execute_async_script(
            """const [text, done] = arguments, field = document.getElementById('filter');
            new MutationObserver((_, observer) => { observer.disconnect(); done(); }).observe(
                document.querySelector('#table tbody'), {childList: true});
            window.look = null; field.value = text; field.dispatchEvent(new Event('input'))""",
            text,
        )

    type_in('CONV_3x3')
    wanted = [row for row in expected if 'conv_3x3' in row[keys.index('architecture')]]
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


@pytest.mark.slow
def test_page_of_very_many(browser, tmp_path):
    """Each candidate takes a few calls and bytes, and the page shows a few of them at a time."""
    run, size = make(tmp_path / 'run', candidates=200, copies=199, trained=50, top_k=60), 40_000
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
    assert browser.find_element('id', 'shown').text == '1 to 25 of 40,000'
    assert browser.get_log('browser') == []
