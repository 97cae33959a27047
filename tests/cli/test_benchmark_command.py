"""The command that measures scores on a benchmark."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nni_knas.benchmark.protocol import OPTIMUM, RANDOM
from nni_knas.cli import main
from nni_knas.cli.benchmark_setup import parse_seeds
from nni_knas.scores import MGM

SMALL = [
    '--benchmark',
    'small_benchmarks:small_nats',
    '--image-size',
    '8',
    '--batch-size',
    '4',
    '--scores',
    'mgm,mgm-sampled',
]


def run(*arguments):
    return main(['benchmark', *arguments])


class TestCommand:
    def test_correlation(self, tmp_path, capsys):
        pytest.importorskip('matplotlib')
        assert (
            run(*SMALL, '--seeds', '2', '--architectures', '8', '--cost-architectures', '2', '--output', str(tmp_path)) == 0
        )
        text = capsys.readouterr().out
        assert '8 of 10 architectures of small-nats, 4 images of digits' in text and 'seeds 0, 1' in text
        lines = text.splitlines()
        for metric in ('one_test_acc', 'two_test_acc', 'one_valid_acc'):
            start = next(i for i, line in enumerate(lines) if line.startswith(metric))
            assert {line.split()[0] for line in lines[start + 2 : start + 7]} == {
                'parameters',
                'flops',
                'layers',
                'mgm',
                'mgm-sampled',
            }
            widths = {len(line) for line in lines[start + 2 : start + 7]}
            assert len(widths) == 1
        results = pd.read_csv(tmp_path / 'results.csv')
        assert len(results) == 15 and (results.seconds > 0).all()
        read = json.loads((tmp_path / 'results.json').read_text())
        assert read['settings']['seeds'] == [0, 1] and len(read['results']) == 15
        assert read['results'][0]['spearman'] == pytest.approx(results.spearman[0])
        scores = pd.read_csv(tmp_path / 'scores.csv')
        assert len(scores) == 8
        mgm = results[(results.metric == 'one_test_acc') & (results.score == 'mgm')].spearman.iloc[0]
        by_hand = [stats.spearmanr(scores[f'mgm@{seed}'], scores.one_test_acc).statistic for seed in (0, 1)]
        assert mgm == pytest.approx(np.mean(by_hand))
        for kind in ('score', 'rank'):
            assert (tmp_path / f'{kind}-one_test_acc.png').read_bytes()[:4] == b'\x89PNG'

    def test_again_scores_nothing(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, 'matplotlib', None)  # drawing plots takes longer than all else
        arguments = [*SMALL, '--output', str(tmp_path), '--cost-architectures', '0', '--metric', 'one_test_acc']
        calls = []
        original = MGM.__call__
        monkeypatch.setattr(MGM, '__call__', lambda self, gradients: calls.append(1) or original(self, gradients))
        outputs = []
        for count, expected in (('3', 3), ('3', 3), ('6', 6), ('20', 10)):
            assert run(*arguments, '--architectures', count) == 0
            assert len(calls) == expected
            outputs.append(capsys.readouterr().out)
        assert outputs[0] == outputs[1] != outputs[2]
        assert 'The table has 10 architectures' in outputs[3] and 'all are used' in outputs[3]

    def test_all_scores_and_failures(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, 'matplotlib', None)  # as where it is not installed
        assert (
            run(
                '--benchmark',
                'small_benchmarks:faulty',
                '--data',
                'small_benchmarks:vectors_data',
                '--scores',
                'all',
                '--batch-size',
                '2',
                '--output',
                str(tmp_path),
            )
            == 0
        )
        text = capsys.readouterr().out
        assert 'Left out: the score half-covariance' in text or 'Left out: half-covariance' in text
        assert 'mgm has no value for 6 architectures, for example: ' in text
        assert 'There are no plots, since matplotlib is not installed' in text
        assert not list(tmp_path.glob('*.png')) and (tmp_path / 'results.csv').is_file()

    @pytest.mark.parametrize(
        'metric, sentence',
        [('two_test_acc', 'are an upper bound'), ('one_test_acc', 'the fine stage chooses by one_valid_acc.')],
    )
    def test_knas(self, metric, sentence, tmp_path, capsys):
        assert (
            run(
                *SMALL,
                '--protocol',
                'knas',
                '--metric',
                metric,
                '--candidates',
                '6',
                '--repeats',
                '3',
                '--top-k',
                '1,2',
                '--output',
                str(tmp_path),
            )
            == 0
        )
        text = capsys.readouterr().out
        assert sentence in text and f'{metric}, k = 2' in text
        assert ('upper bound' in text) == (metric == 'two_test_acc')
        results = pd.read_csv(tmp_path / 'knas.csv')
        assert set(results.k) == {1, 2} and set(results.repeats) == {3}
        assert {'mgm', 'mgm-sampled', 'parameters', 'flops', 'layers', RANDOM, OPTIMUM} == set(results.score)
        best = results.pivot(index='score', columns='k', values='mean')
        assert (best.max(axis=1) <= best.loc[OPTIMUM].max()).all()
        assert sentence.rstrip('.') in ' '.join(json.loads((tmp_path / 'knas.json').read_text())['notes'])

    @pytest.mark.parametrize(
        'arguments, sentence',
        [
            (['--benchmark', 'nats'], 'unknown benchmark'),
            (['--benchmark', 'nats-tss'], 'linked at https://github.com/D-X-Y/NATS-Bench'),
            (['--benchmark', 'nats-tss', '--table', 'nowhere.csv'], 'there is no table nowhere.csv'),
            ([*SMALL, '--metric', 'acc'], "has no metric 'acc'"),
            ([*SMALL, '--scores', 'mgn'], "unknown score 'mgn'"),
            ([*SMALL, '--scores', 'half-covariance', '--batch-size', '2'], 'needs two halves'),
            ([*SMALL, '--architectures', '0'], '--architectures is 0'),
            ([*SMALL, '--architectures', '1'], 'a correlation needs 2 or more'),
            ([*SMALL, '--seeds', 'x'], '--seeds is '),
            ([*SMALL, '--seeds', '0'], '--seeds is 0'),
            ([*SMALL, '--seeds', '0,4294967296'], 'one of --seeds is 4294967296'),
            ([*SMALL, '--sample-seed', '-1'], '--sample-seed is -1'),
            ([*SMALL, '--top-k', '0', '--protocol', 'knas'], '--top-k is '),
            ([*SMALL, '--protocol', 'knas', '--candidates', '5'], 'top_k=40 is more than candidates=5'),
            ([*SMALL, '--data', 'digit'], 'unknown data'),
        ],
    )
    def test_mistakes(self, arguments, sentence, tmp_path, capsys):
        assert run(*arguments, '--output', str(tmp_path)) == 2
        captured = capsys.readouterr()
        [line] = captured.err.splitlines()
        assert sentence in line and captured.out == ''

    @pytest.mark.parametrize('text, seeds', [('3', [0, 1, 2]), ('5,', [5]), ('4,2', [4, 2])])
    def test_seeds(self, text, seeds):
        assert parse_seeds(text) == seeds

    def test_help(self, capsys):
        with pytest.raises(SystemExit):
            run('--help')
        text = capsys.readouterr().out
        assert 'examples:' in text and 'nats-tss' in text and '--protocol' in text
