"""The command that measures how well the learner, and others, choose what to train."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from small_benchmarks import small_from_csv, small_nats

from nni_knas.basics.names import PANEL, SEARCHES
from nni_knas.benchmark import base, panel, register_benchmark
from nni_knas.cli import main

RANKINGS = {'rank', 'parameters', 'flops', 'layers'}


@pytest.fixture
def without_plots(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setitem(sys.modules, 'matplotlib', None)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder with the tables of two benchmarks; that of a third is not in it."""

    def own(table, classes=10):
        return small_from_csv(table, classes)

    monkeypatch.setattr(base, '_REGISTRY', {})
    for name in ('first', 'second', 'third'):
        register_benchmark(name, file=f'{name}.csv', image_size=8)(own)
    folder = tmp_path / 'tables'
    folder.mkdir()
    table = small_nats(10).table
    table.to_csv(folder / 'first.csv')
    table.assign(two_test_acc=np.random.default_rng(0).permutation(10)).to_csv(folder / 'second.csv')
    return folder


def run(output, *arguments):
    given = ['--data', 'digits', '--batch-size', '4', '--candidates', '8', '--repeats', '3', '--top-k', '2,4']
    return main(['benchmark', '--protocol', 'search', *given, '--output', str(output), *arguments])


def run_all(tables, output, *arguments):
    return run(output, '--benchmark', 'all', '--tables', str(tables), *arguments)


class TestOfSeveral:
    def test_everything(self, tables, tmp_path, capsys):
        pytest.importorskip('matplotlib')
        output = tmp_path / 'output'
        assert run_all(tables, output) == 0
        text = capsys.readouterr().out
        assert f'Left out: {tables} has no table of third' in text
        assert (
            'first: 8 candidates in each repeat, of 10 architectures; one_test_acc, two_test_acc; 4 images of digits' in text
        )
        assert '4 tasks, 3 repeats.' in text and '\nk = 2: learn has a mean percentile of ' in text
        rows = text.split('\nk = 4\n')[1].split('\n\n')[0].splitlines()[1:]
        names = [row.split('  ')[0].removesuffix(' *') for row in rows]
        assert set(names) >= RANKINGS | set(SEARCHES) and sum(' * ' in f'{row} ' for row in rows) == 1
        self.check_files(output, names)

    def check_files(self, output, names):
        assert {path.name for path in output.iterdir() if path.is_file()} == {
            *(f'search{end}' for end in ('.csv', '.json', '.md', '-overall.csv')),
            *(f'search-{kind}.{end}' for kind in ('percentile', 'metric') for end in ('png', 'svg')),
        }
        tasks, overall = (pd.read_csv(output / name) for name in ('search.csv', 'search-overall.csv'))
        statistics = {'rank', 'parameters', 'flops', *PANEL}
        assert set(tasks.search) == {*SEARCHES, *statistics, *(f'least {name}' for name in statistics)}
        assert len(tasks) == 2 * 4 * len(set(tasks.search)) and set(tasks.repeats) == {3}
        np.testing.assert_allclose(tasks.percentile, 100 * tasks['rank'] / 8)
        means = tasks[tasks.k == 4].groupby('search').percentile.mean()
        at_four = overall[overall.k == 4].set_index('search')
        np.testing.assert_allclose(at_four.percentile[means.index], means)
        read = json.loads((output / 'search.json').read_text())
        assert read['settings']['second']['top_k'] == [2, 4] and len(read['overall']) == len(overall)
        assert any('learn has a mean percentile' in note for note in read['notes'])
        lines = (output / 'search.md').read_text().splitlines()
        assert f'| task | {" | ".join(names)} |' in lines and '## k = 2' in lines
        assert sum(line.startswith('| second two_test_acc | ') for line in lines) == 2 * 3

    def test_again_measures_nothing(self, tables, tmp_path, monkeypatch, capsys, without_plots):
        calls = []
        original = panel.statistics
        monkeypatch.setattr(panel, 'statistics', lambda given: calls.append(1) or original(given))
        results = []
        for arguments, expected in (
            (['--candidates', '4'], 2 * 5),
            (['--candidates', '4'], 2 * 5),
            ([], 2 * 10),
            (['--concurrency', '3', '--searches', 'learn,tpe'], 2 * 10),
        ):
            assert run_all(tables, tmp_path, *arguments) == 0
            assert len(calls) == expected * len(PANEL)
            results.append((tmp_path / 'search.csv').read_text())
        assert results[0] == results[1] != results[2]
        assert '3 trainings at the same time' in capsys.readouterr().out

    def test_an_end_at_any_moment(self, tables, tmp_path, monkeypatch, without_plots):
        """What is lost is the architecture that was being measured."""
        networks = []

        def benchmark(table, classes=10):
            plain = small_from_csv(table, classes)

            def network(architecture, seed):
                networks.append(architecture)
                if len(networks) == 13:
                    raise KeyboardInterrupt
                return plain.network(architecture, seed)

            return base.Benchmark('ends', plain.table, network)

        register_benchmark('second', file='second.csv', image_size=8)(benchmark)
        register_benchmark('first', file='first.csv', image_size=8)(benchmark)
        assert run_all(tables, tmp_path) == 130
        assert not (tmp_path / 'search.csv').exists()
        assert run_all(tables, tmp_path) == 0 and len(networks) == 21


class TestOfOne:
    def test_metric_and_other_scores(self, tmp_path, capsys, without_plots):
        arguments = ['--metric', 'loss', '--scores', 'mgm,gradient-norm,two-way-rank', '--searches', 'random']
        assert run(tmp_path, '--benchmark', 'small_benchmarks:small_nats', '--image-size', '8', *arguments) == 0
        results = pd.read_csv(tmp_path / 'search.csv')
        assert set(results.metric) == {'loss'} and (results['rank'] == 1).all()  # all have the same
        assert {'gradient-norm', 'mgm (score)', 'gradient-norm (score)', 'least mgm (score)'} <= set(results.search)
        assert 'two-way-rank (score)' not in set(results.search) and 'learn' not in set(results.search)
        assert 'mean percentile of' not in capsys.readouterr().out

    @pytest.mark.parametrize(
        'arguments, sentence',
        [
            (['--searches', 'lern'], '--searches has \'lern\': did you mean "learn"?'),
            (['--searches', ','], "--searches is ','"),
            (['--concurrency', '0'], '--concurrency is 0'),
            (['--top-k', '9'], 'top_k=9 is more than candidates=8'),
            (['--top-k', 'x'], "--top-k is 'x'"),
            (['--repeats', '0'], '--repeats is 0'),
            (['--scores', 'mgn'], "unknown score 'mgn'"),
            (['--scores', ''], "--scores is ''"),
            (['--metric', 'acc'], "has no metric 'acc'"),
            (['--candidates', '1', '--top-k', '1'], 'less than 2 architectures have a result'),
            (['--protocol', 'knas', '--searches', 'learn'], '--searches is for --protocol search'),
            (['--protocol', 'correlation', '--concurrency', '2'], '--concurrency is for --protocol search'),
            (['--benchmark', 'autoformer-digits,darts-cifar10', '--metric', 'test_acc'], '--metric is for one benchmark'),
        ],
    )
    def test_mistakes(self, arguments, sentence, tmp_path, capsys):
        assert run(tmp_path, '--benchmark', 'small_benchmarks:small_nats', '--image-size', '8', *arguments) == 2
        captured = capsys.readouterr()
        [line] = captured.err.splitlines()
        assert sentence in line and captured.out == ''
        assert not list(tmp_path.iterdir())
