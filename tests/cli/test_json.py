"""What commands print for other programs, and for a shell that completes them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from made_up_runs import make

from nni_knas.cli import main
from nni_knas.cli.machine import plain, print_json, stdout_kept

SMALL = ['--space-args', '{"num_modules_per_stack": 1, "stem_out_channels": 4}', '--image-size', '16', '--batch-size', '4']

LOUD = """
print('loading this module')
from nni_knas.data import load_data
def load():
    print('loading the data')
    data = load_data('digits', limit=40, size=16)
    return data.train, data.validation
"""


def test_runs(tmp_path, capsys):
    make(tmp_path / 'run1', candidates=40, learnt=True)
    make(tmp_path / 'run2', candidates=20, trained=0)
    (tmp_path / 'run3' / 'knas').mkdir(parents=True)
    (tmp_path / 'run3' / 'knas' / 'record.sqlite').write_text('no database')
    assert main(['list', '--directory', str(tmp_path), '--json']) == 0
    runs = {run['run']: run for run in json.loads(capsys.readouterr().out)}
    assert {'run1', 'run2', 'run3'} <= set(runs)
    assert runs['run1']['trained'] > 0 and isinstance(runs['run1']['best'], float) and runs['run2']['best'] is None
    assert (runs['run3']['status'], runs['run3']['scored'], runs['run3']['folder']) == (
        'damaged',
        None,
        str(tmp_path / 'run3'),
    )
    for name in ('run1', 'run2'):
        assert main(['show', str(tmp_path / name), '--top', '3', '--json']) == 0
        shown = json.loads(capsys.readouterr().out)
        assert {key: shown[key] for key in ('status', 'folder')} == {key: runs[name][key] for key in ('status', 'folder')}
        assert len(shown['candidates']) == 3 and isinstance(shown['candidates'][0]['architecture'], dict)
        assert sum(shown['counts'].values()) > 10 and shown['options'] is None
        assert (shown['lessons'] is None) == (name == 'run2')


def test_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('nni_knas.cli.listing.known_experiments', dict)
    monkeypatch.setattr('nni_knas.cli.listing.NNI_HOME', tmp_path)
    assert main(['list', '--json']) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_is_printed_once_is_not_watched(tmp_path, capsys):
    make(tmp_path / 'run', candidates=10)
    assert main(['show', str(tmp_path / 'run'), '--json', '--watch']) == 2
    assert '--json is printed once' in capsys.readouterr().err


def test_scores(capsys):
    assert main(['score', '--samples', '3', '--json', *SMALL]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [set(row) for row in rows] == [{'score', 'seconds', 'parameters', 'reason', 'architecture'}] * 3
    scores = [row['score'] for row in rows]
    assert scores == sorted(scores, reverse=True) and all(isinstance(row['architecture'], dict) for row in rows)


def benchmark(output, *arguments):
    common = ['--image-size', '8', '--batch-size', '4', '--scores', 'mgm', '--output', str(output)]
    return main(['benchmark', '--benchmark', 'small_benchmarks:small_nats', *common, *arguments, '--json'])


@pytest.mark.parametrize(
    ('protocol', 'options', 'file'),
    [
        ('correlation', ['--architectures', '6', '--cost-architectures', '0'], 'results'),
        ('knas', ['--candidates', '6', '--repeats', '2', '--top-k', '2'], 'knas'),
        ('search', ['--candidates', '6', '--repeats', '2', '--top-k', '2', '--searches', 'random'], 'search'),
    ],
)
def test_benchmarks(protocol, options, file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    assert benchmark(tmp_path, '--protocol', protocol, *options) == 0
    said = capsys.readouterr()
    printed = json.loads(said.out)
    assert {'settings', 'notes', 'results'} <= set(printed) and printed['settings']
    assert printed == json.loads((tmp_path / f'{file}.json').read_text(encoding='utf-8'))
    assert f'In {tmp_path}: {file}.csv, {file}.json' in said.err  # what people are told
    table = pd.read_csv(tmp_path / f'{file}.csv', float_precision='round_trip')
    for name in table.columns:  # all digits, and null where there is no number
        cells = [row[name] for row in printed['results']]
        assert [cell or None for cell in cells] == [None if pd.isna(cell) else cell or None for cell in table[name]]


def test_a_benchmark_that_cannot_be(tmp_path, capsys):
    assert benchmark(tmp_path, '--architectures', '1') == 2
    said = capsys.readouterr()
    assert said.out == '' and 'nni-knas: ' in said.err


def test_what_modules_print_is_elsewhere(tmp_path, monkeypatch, capsys):
    (tmp_path / 'loud.py').write_text(LOUD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(['score', '--samples', '1', '--json', '--data', 'loud:load', *SMALL[:2]]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 1 and 'loading the data' in said.err


def test_processes_print_elsewhere(capfd):
    with stdout_kept():
        subprocess.run([sys.executable, '-c', 'print("noise")'], check=True)
    print_json({'a': float('nan')})
    said = capfd.readouterr()
    assert json.loads(said.out) == {'a': None} and said.err == 'noise\n'


def test_numbers_that_json_lacks():
    assert plain({'a': [1.5, float('inf')], 'b': (float('nan'), True, 'x')}) == {'a': [1.5, None], 'b': [None, True, 'x']}


def test_a_mistake_leaves_stdout_empty(capsys):
    assert main(['score', '--samples', '0', '--json']) == 2
    said = capsys.readouterr()
    assert said.out == '' and '--samples is 0' in said.err


@pytest.mark.skipif(importlib.util.find_spec('argcomplete') is None, reason='argcomplete is not installed')
@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('nni-knas sch', ['schema ']),
        ('nni-knas search --choos', ['--choose ']),
        ('nni-knas search --choose ', ['learn', 'rank']),
        ('nni-knas list --js', ['--json ']),
    ],
)
def test_a_shell_completes(line, words, tmp_path):
    asked = {'_ARGCOMPLETE': '1', '_ARGCOMPLETE_IFS': '\n', 'COMP_LINE': line, 'COMP_POINT': str(len(line))}
    environment = {**os.environ, **asked, '_ARGCOMPLETE_STDOUT_FILENAME': str(tmp_path / 'words')}
    subprocess.run([sys.executable, '-m', 'nni_knas'], env=environment, check=True)
    assert (tmp_path / 'words').read_text().split('\n') == words
