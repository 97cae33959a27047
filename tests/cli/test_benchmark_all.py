"""Several benchmarks in one command: one table, resumed where it stopped, and what is said of what is missing."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_benchmarks import small_from_csv, small_nats

from nni_knas.benchmark import base, register_benchmark
from nni_knas.cli import benchmark_setup, main
from nni_knas.gradients import NotApplicable
from nni_knas.scores import MGM, MGMSampled

NAMES = ('first', 'second', 'third', 'words')


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder with the tables of two small benchmarks; those of a third and of one of texts are not in it."""

    def own(table, classes=10):
        return small_from_csv(table, classes)

    monkeypatch.setattr(base, '_REGISTRY', {})
    options = {'image_size': 8, 'witness': 'two_test_acc'}
    for name in NAMES[:3]:
        register_benchmark(name, file=f'{name}.csv', within='layers' if name == 'second' else '', **options)(own)
    register_benchmark('words', takes='texts', file='words.csv')(own)
    register_benchmark('shipped', image_size=8)(small_nats)
    folder = tmp_path / 'tables'
    folder.mkdir()
    table = small_nats(10).table
    table.to_csv(folder / 'first.csv')
    shuffled = table.assign(two_test_acc=np.random.default_rng(0).permutation(10), layers=[2, 4] * 5)
    shuffled.to_csv(folder / 'second.csv')
    return folder


@pytest.fixture
def without_plots(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setitem(sys.modules, 'matplotlib', None)


def run(tables, output, *arguments):
    given = ['--tables', str(tables), '--data', 'digits', '--batch-size', '4', '--scores', 'mgm,mgm-sampled']
    return main(['benchmark', '--benchmark', 'all', *given, '--output', str(output), *arguments])


def rows_below(text: str, title: str) -> dict[str, str]:
    """The rows of a printed table by the score's name."""
    lines = text.split(f'\n{title}\n')[1].split('\n\n')[0].splitlines()
    return {line.split()[0]: line for line in lines[1:]}


class TestTable:
    def test_everything(self, tables, tmp_path, capsys):
        pytest.importorskip('matplotlib')
        output = tmp_path / 'output'
        assert run(tables, output, '--kendall') == 0
        text = capsys.readouterr().out
        assert f'Left out: {tables} has no table of third, which is called third.csv' in text
        assert f'Left out: {tables} has no table of words, which is called words.csv' in text
        assert 'first: 10 of 10 architectures, two_test_acc, first.csv; 4 images of digits' in text
        summary = rows_below(text, "Spearman's rank correlation")
        assert set(summary) == {'parameters', 'flops', 'layers', 'mgm', 'mgm-sampled'}
        scores = {name: pd.read_csv(output / name / 'scores.csv') for name in ('first', 'second')}
        by_hand = [stats.spearmanr(each.mgm, each.two_test_acc).statistic for each in scores.values()]
        shown = [f'{value:.2f}'.replace('0.', '.', 1) for value in (*by_hand, np.mean(by_hand), min(by_hand))]
        cells = summary['mgm'].split()
        assert [cells[1], cells[4], cells[7], cells[10]] == shown
        assert set(rows_below(text, "Kendall's rank correlation (tau-b)")) == set(summary)
        assert {path.name for path in output.iterdir()} == {
            *('first', 'second', 'all.csv', 'all.json', 'all.md', 'all.png', 'all.svg')
        }
        self.check_files(output, text, by_hand)

    def check_files(self, output, text, by_hand):
        results = pd.read_csv(output / 'all.csv')
        assert len(results) == 2 * 3 * 5  # benchmarks, metrics, scores
        assert set(results[results.witness].metric) == {'two_test_acc'}
        witness = results[results.witness & (results.score == 'mgm')].set_index('benchmark')
        assert list(witness.spearman[['first', 'second']]) == pytest.approx(by_hand)
        read = json.loads((output / 'all.json').read_text())
        [row] = [row for row in read['spearman'] if row['score'] == 'mgm']
        assert [row['first'], row['second']] == pytest.approx(by_hand) and row['on'] == 2
        assert row['first low'] == pytest.approx(witness.spearman_low['first'])
        assert row['mean'] == pytest.approx(np.mean(by_hand)) and row['worst'] == pytest.approx(min(by_hand))
        assert set(read['settings']) == {'first', 'second'} and len(read['notes']) >= 2
        lines = (output / 'all.md').read_text().splitlines()
        assert '| score | first | second | mean | worst |' in lines
        assert {line.split(' | ')[0] for line in lines if line.startswith('| ')} >= {'| `mgm`', '| *parameters*'}
        assert (output / 'all.png').read_bytes()[:4] == b'\x89PNG' and '<svg' in (output / 'all.svg').read_text()

    def test_within(self, tables, tmp_path, capsys, without_plots):
        assert run(tables, tmp_path / 'output') == 0
        row = rows_below(capsys.readouterr().out, 'second within each layers')['mgm']
        scores = pd.read_csv(tmp_path / 'output/second/scores.csv').set_index('architecture')
        layers = pd.read_csv(tables / 'second.csv', index_col=0).layers
        cells = row.replace('[', '').replace(']', '').replace(',', '').split()
        for place, depth in ((1, 2), (7, 4)):
            group = scores[layers[scores.index] == depth]
            assert float(cells[place]) == pytest.approx(stats.kendalltau(group.mgm, group.two_test_acc).statistic, abs=0.005)
            rho = stats.spearmanr(group.mgm, group.two_test_acc).statistic
            assert float(cells[place + 3]) == pytest.approx(rho, abs=0.005)
        assert not (tmp_path / 'output/first/within.csv').exists()
        within = pd.read_csv(tmp_path / 'output/second/within.csv')
        assert set(within.metric) == {'one_test_acc', 'two_test_acc', 'one_valid_acc'} and set(within.architectures) == {5}

    def test_one_of_the_folder(self, tables, tmp_path, capsys, without_plots):
        """By itself it prints all its metrics, and the groups of the one that stands for it among several."""
        assert run(tables, tmp_path, '--benchmark', 'second', '--cost-architectures', '0') == 0
        text = capsys.readouterr().out
        assert '10 of 10 architectures of small-nats' in text and 'one_valid_acc (best of the sample' in text
        assert text.count(' within each ') == 1 and set(rows_below(text, 'two_test_acc within each layers')) >= {'mgm'}

    def test_some_by_name(self, tables, tmp_path, capsys, without_plots):
        assert run(tables, tmp_path, '--benchmark', 'shipped, second') == 0
        text = capsys.readouterr().out
        assert 'shipped: 10 of 10 architectures, one_test_acc; 4 images' in text and 'Left out' not in text

    def test_where_a_score_does_not_apply(self, tables, tmp_path, capsys, monkeypatch, without_plots):
        def applied(self, gradients):
            count = len(list(gradients.network.parameters()))
            if gradients.network.fails:
                raise NotApplicable('it has no rectifiers')
            if count % 2:
                raise RuntimeError('out of luck')
            return float(count)

        monkeypatch.setattr(MGM, '__call__', applied)
        monkeypatch.setattr(MGMSampled, '__call__', lambda self, gradients: 1.0)
        for name in ('first', 'second'):
            fails = name == 'first'

            def benchmark(table, classes=10, fails=fails):
                plain = small_from_csv(table, classes)

                def network(architecture, seed):
                    made = plain.network(architecture, seed)
                    made.fails = fails
                    return made

                return base.Benchmark(f'fails {fails}', plain.table, network)

            register_benchmark(name, file=f'{name}.csv', image_size=8, witness='two_test_acc')(benchmark)
        assert run(tables, tmp_path) == 0
        text = capsys.readouterr().out
        summary = rows_below(text, "Spearman's rank correlation")
        scores = pd.read_csv(tmp_path / 'second/scores.csv')
        assert summary['mgm'].split()[1] == 'n/a' and ' of 1 ' in summary['mgm']
        failed = scores.mgm.isna().sum()
        assert 0 < failed < 10 and summary['mgm'].split()[-1] == str(failed)
        assert summary['mgm-sampled'].split()[1:] == ['n/a'] * 4
        assert 'mgm, first: n/a: it has no rectifiers' in text
        assert f'mgm, second: no value for {failed} architectures, for example: RuntimeError: out of luck' in text
        assert 'mgm-sampled, first and second: n/a: the same for all architectures' in text


def test_again_scores_nothing(tables, tmp_path, monkeypatch, capsys, without_plots):
    calls = []
    original = MGM.__call__
    monkeypatch.setattr(MGM, '__call__', lambda self, gradients: calls.append(1) or original(self, gradients))
    outputs = []
    for arguments, expected in (
        (['--architectures', '4'], 8),
        (['--architectures', '4'], 8),
        (['--architectures', '6'], 12),
        (['--architectures', '6', '--benchmark', 'first'], 12),
        ([], 20),
    ):
        folder = tmp_path / ('first' if '--benchmark' in arguments else '')
        assert run(tables, folder, '--cost-architectures', '0', *arguments) == 0
        assert len(calls) == expected
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


class TestKilled:
    def test_goes_on(self, tables, tmp_path, monkeypatch, capsys, without_plots):
        """What is lost by an end at any moment is the architecture that was being scored."""
        calls = []
        original = MGM.__call__

        def ending(self, gradients):
            calls.append(1)
            if len(calls) == 14:  # the fourth architecture of the second
                raise KeyboardInterrupt
            return original(self, gradients)

        monkeypatch.setattr(MGM, '__call__', ending)
        assert run(tables, tmp_path) == 130
        assert not (tmp_path / 'all.csv').exists()
        assert run(tables, tmp_path) == 0 and len(calls) == 21


class TestMissing:
    def test_texts(self, tables, tmp_path, capsys, without_plots):
        (tables / 'words.csv').write_text((tables / 'first.csv').read_text())
        assert run(tables, tmp_path) == 0
        assert 'Left out: words is scored on texts: name them with --text text:FOLDER' in capsys.readouterr().out

    def test_images_that_nobody_asked_for(self, tables, tmp_path, capsys, monkeypatch, without_plots):
        load, asked = benchmark_setup.load_data, []

        def no_network(name, *, size):
            asked.append(name)
            if name == 'cifar10':
                raise ValueError('cifar10 cannot be downloaded')
            return load('digits', size=8)

        monkeypatch.setattr(benchmark_setup, 'load_data', no_network)
        (tables / 'words.csv').write_text((tables / 'first.csv').read_text())
        arguments = ['benchmark', '--benchmark', 'all', '--tables', str(tables), '--output', str(tmp_path)]
        assert main([*arguments, '--scores', 'mgm', '--text', 'text:RTE', '--batch-size', '4']) == 0
        text = capsys.readouterr().out
        assert text.count(' is scored on images, and cifar10 cannot be downloaded') == 2
        assert 'words: 10 of 10 architectures, one_test_acc, words.csv; 4 texts of RTE' in text and 'first: ' not in text
        assert asked.count('text:RTE') == 1

    def test_witness(self, tables, tmp_path, capsys, without_plots):
        table = pd.read_csv(tables / 'first.csv', index_col=0)
        table.drop(columns='two_test_acc').to_csv(tables / 'first.csv')
        assert run(tables, tmp_path) == 0
        assert "Left out: first: the table of small-nats has no metric 'two_test_acc'" in capsys.readouterr().out

    @pytest.mark.parametrize(
        'arguments, sentence',
        [
            (['--tables', 'EMPTY'], 'there is no benchmark to run: '),
            (['--tables', 'nowhere'], '--tables nowhere is no folder'),
            (['--table', 'first.csv'], '--table and --tables are both given'),
            (['--metric', 'one_test_acc'], '--metric is for one benchmark'),
            (['--image-size', '8'], '--image-size is for one benchmark'),
            (['--protocol', 'knas'], '--protocol knas is for one benchmark'),
            (['--data', 'folder:nowhere'], 'nowhere'),
            (['--data', 'text:RTE'], 'first is scored on images, and text:RTE are texts'),
            (['--benchmark', 'first,secnd'], "unknown benchmark 'secnd' (did you mean 'second'?)"),
            (['--benchmark', ','], "--benchmark is ','"),
            (['--benchmark', 'first,small_benchmarks:small_from_csv'], 'needs a table, and it is not known'),
            (['--architectures', '0'], '--architectures is 0'),
            (['--architectures', '1'], 'a correlation needs 2 or more'),
            (['--processes', '0'], '--processes is 0'),
            (['--seeds', '0'], '--seeds is 0'),
        ],
    )
    def test_mistakes(self, arguments, sentence, tables, tmp_path, capsys):
        (tmp_path / 'empty').mkdir()
        given = [str(tmp_path / 'empty') if word == 'EMPTY' else word for word in arguments]
        assert run(tables, tmp_path / 'output', *given) == 2
        captured = capsys.readouterr()
        [line] = captured.err.splitlines()
        assert sentence in line and 'Spearman' not in captured.out

    def test_no_folder(self, tables, capsys):
        for name in ('all', 'first,second'):
            assert main(['benchmark', '--benchmark', name]) == 2
            assert '--tables' in capsys.readouterr().err
