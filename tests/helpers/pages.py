"""Made-up runs that have all that a report shows, and their pages: as they are read, and as a browser shows them."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import math
import os
import time
from html.parser import HTMLParser
from pathlib import Path

import made_up_runs
import numpy as np
import pandas as pd
import psutil
import pytest
from servers import wait_until

from nni_knas import write_comparison, write_report
from nni_knas.record import Energy, Record, record_path
from nni_knas.runs import Run

HOSTILE = '</script><b>bold</b> & "quoted" \'single\' <!-- '
METHODS = {'cpu': 'measured (RAPL)', 'memory': 'modelled (3 W)', 'co2': 'modelled (369 g a kWh)'}


def make(folder, *, name='a run', seed=0, complete=1, process=None, scale=1.0, **options):
    """A synthetic run with failures, and with all that a run records of itself."""
    made_up_runs.make(folder, **{'quick': True, **options})
    record, rng = Record(record_path(folder)), np.random.default_rng(seed)
    about = {
        'pid': process or 2**22 + 1,
        'created': psutil.Process(process).create_time() if process else 1.0,
        'host': os.uname().nodename,
        'name': name,
        'command': f'nni-knas search --seed {seed}',
        'directory': '/searches',
        'asked': {
            'space': 'NasBench201(num_labels=10)',
            'score': 'steady-rank',
            'data': 'digits',
            'seed': seed,
            'explorer': 'Random(dedup=True)',
            'constraints': {'parameters': 1e6},
            'country': None,
        },
        'versions': {'python': '3.11.7', 'torch': '2.14.1'},
        'machine': {'processor': 'AMD EPYC'},
    }
    session = record.begin_session(about)
    start = time.time() - 400
    record.set_energy(session, Energy('coarse', start, 60.0, 2e-4 * scale, 0.0, 1e-4 * scale, 0.4, 50.0, 40.0, 0))
    record.set_energy(session, Energy('fine', start + 60, 300.0, 3e-3 * scale, 8e-3, 5e-4, 0.4, 500.0, 450.0, 2))
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
    record.begin_session(
        {
            'name': HOSTILE,
            'command': f'nni-knas search --data {HOSTILE}',
            'directory': HOSTILE,
            'asked': {HOSTILE: HOSTILE},
            'versions': {HOSTILE: HOSTILE},
            'machine': {HOSTILE: HOSTILE},
        }
    )
    record.set_meta('metric', HOSTILE)
    record.set_meta('top_k', 1)
    record.add_failed({HOSTILE: HOSTILE}, '1', HOSTILE, 0.1)
    candidate = record.add_scored({HOSTILE: f'{HOSTILE} 2', 'width': (1, 2)}, '2', 3.0, 0.1)
    record.add_scored({HOSTILE: True}, '3', 1e-300, 0.1, costs={'parameters': 12345678.0})
    record.start_training(candidate.id)
    record.set_metric(candidate.id, math.inf)
    record.end_training(candidate.id, 1.0)
    record.add_step(candidate.id, 0.5)
    record.close()
    return Run(folder)


def _unpacked(text):
    return gzip.decompress(base64.b64decode(text)).decode()


class Reader(HTMLParser):
    """What a page has, as a browser without scripts sees it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self.packed = [], [], {}, []
        self.inside = []
        self.feed(text)
        self.scripts.update({name: _unpacked(self.scripts[name]) for name in self.packed})

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ('script', 'style'):
            self.inside.append(dict(attributes).get('id', tag))
            if dict(attributes).get('type') == 'application/gzip':
                self.packed.append(self.inside[-1])

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
        return {
            attributes['data-key']: attributes['data-value']
            for _, attributes in self.tags
            if 'data-key' in attributes and 'data-value' in attributes
        }

    @property
    def text(self):
        return ' '.join(self.texts)


def read(path):
    return Reader(Path(path).read_text('utf-8'))


def report(run, folder):
    return read(write_report(run, folder / 'report.html'))


class Pages:
    """Runs and their pages, which many tests look at: each is made when the first one asks for it."""

    def __init__(self, folder, tiny):
        self.folder = folder
        self._makers = {
            'plain': functools.partial(make, seed=3),
            'minimized': functools.partial(make, mode='minimize'),
            'hostile': hostile,
            'empty': functools.partial(make, candidates=0),
            'tiny': lambda _: tiny,
            'mixed': functools.partial(
                make, name='digits', candidates=160, trained=12, top_k=15, front='parameters', mode='minimize'
            ),
            'full': functools.partial(make, quick=False, wide=False, trained=30, top_k=30),
            'named': functools.partial(make, name=HOSTILE, scale=5.0),
            'many': functools.partial(make, candidates=200, copies=14),
        }
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


def same(shown, expected):
    """Whether a text of the page is this number in full; empty for none."""
    return shown == '' if expected is None or pd.isna(expected) else float(shown) == float(expected)


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
    browser.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride', {'width': width, 'height': 1000, 'deviceScaleFactor': 1, 'mobile': width < 500}
    )
    browser.execute_cdp_cmd(
        'Emulation.setEmulatedMedia', {'media': media, 'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}
    )


def click(browser, selector):
    browser.execute_script('window.look = null; document.querySelector(arguments[0]).click()', selector)


def table_of(browser, selector):
    """The cells of a table: in full where the page has that, else as they are shown."""
    return json.loads(
        browser.execute_script(
            """return JSON.stringify([...document.querySelectorAll(
        arguments[0] + ' tbody tr')].map(row => [...row.querySelectorAll('td')].map(
        cell => cell.dataset.value ?? cell.textContent)))""",
            selector,
        )
    )  # text takes the driver less time than lists


def shown_rows(browser):
    return table_of(browser, '#table')


def facts_and_drawing(browser):
    return browser.execute_script("""return ['.facts', 'svg.network'].map(
        selector => document.querySelector(selector).getBoundingClientRect().toJSON())""")
