"""Benchmarks of public tables: their results, the same networks for the same seed, and what is said of unfit tables."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
import torch
from public_tables import DARTS, NAMES, PATHS, TABLES, bench101, write_table

from nni_knas.benchmark import Benchmark, load_benchmark
from nni_knas.benchmark.spaces.common import results_of
from nni_knas.cli import main

NAMES_OF_TABLES = sorted(TABLES)
RESULTS = {'nasbench101': 4, 'transnas-micro': 3, 'darts': 5, 'flexibert': 3, 'autoformer': 1}
"""How many columns come after those that say what the architecture is."""


@pytest.fixture(params=NAMES_OF_TABLES)
def benchmark(request, tmp_path):
    return load_benchmark(request.param, table=write_table(request.param, tmp_path))


def inputs_of(benchmark):
    if benchmark.name == 'flexibert':
        sentences = torch.tensor([[1, 1, 2, 2, 2], [1, 2, 0, 0, 0]])
        return torch.stack([torch.arange(10).reshape(2, 5) * sentences.sign(), sentences], dim=1)
    size = 224 if benchmark.name == 'autoformer' else 32
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


class TestNetworks:
    def test_the_seed_alone_decides(self, benchmark):
        for architecture in benchmark.table.index:
            weights = []
            for surroundings, seed in ((1, 0), (2, 0), (3, 1)):
                torch.manual_seed(surroundings)
                weights.append(torch.cat([p.detach().flatten() for p in benchmark.network(architecture, seed).parameters()]))
            assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])

    def test_all_weights_are_of_use(self, benchmark):
        """What an architecture does not have is not in its network."""
        for architecture in benchmark.table.index:
            network = benchmark.network(architecture, 0)
            outputs = network(inputs_of(benchmark))
            assert outputs.shape == (2, 10)
            outputs.square().sum().backward()
            assert [name for name, p in network.named_parameters() if p.grad is None] == []


class TestResults:
    def test_repeated_rows_are_averaged(self):
        table = pd.DataFrame({'acc': [1.0, 5.0, 3.0], 'note': list('xyz'), 'Unnamed: 0': [0, 1, 2]})
        results = results_of(table, pd.Series(['b', 'a', 'b']))
        assert results.index.name == 'architecture' and results.to_dict() == {'acc': {'b': 2.0, 'a': 5.0}}
        assert list(results.index) == ['b', 'a']

    def test_missing_results_are_no_part_of_a_mean(self):
        results = results_of(pd.DataFrame({'acc': [1.0, None]}), pd.Series(['a', 'a']))
        assert results.acc['a'] == 1

    @pytest.mark.parametrize(
        'name, metrics, witness',
        [
            ('nasbench101', ['valid_acc', 'test_acc'], 'test_acc'),
            ('transnas-micro', ['class_object', 'class_scene', 'room_layout'], 'class_scene'),
            ('darts', ['val50', 'test50'], 'test50'),
            ('flexibert', ['cola', 'glue'], 'glue'),
            ('autoformer', ['c100_kd_acc'], 'c100_kd_acc'),
        ],
    )
    def test_metrics(self, name, metrics, witness, tmp_path):
        benchmark = load_benchmark(name, table=write_table(name, tmp_path))
        assert benchmark.metrics == metrics and benchmark.witness == witness

    def test_seeds_of_nasbench101(self, tmp_path):
        table = load_benchmark('nasbench101', table=write_table('nasbench101', tmp_path)).table
        assert table.loc[bench101(PATHS), ['valid_acc', 'test_acc']].tolist() == [81, 72.5]

    def test_nasbench101_by_its_means_alone(self, tmp_path):
        (tmp_path / 'a.csv').write_text(f'arch,test_acc\n"{bench101(PATHS)}",90\n')
        benchmark = load_benchmark('nasbench101', table=str(tmp_path / 'a.csv'))
        assert benchmark.columns == ['test_acc'] and benchmark.table.test_acc.tolist() == [90]

    def test_flexibert(self, tmp_path):
        benchmark = load_benchmark('flexibert', table=write_table('flexibert', tmp_path))
        assert benchmark.within == 'depth' and benchmark.table.depth.tolist() == [2, 3]
        assert benchmark.table.glue.tolist() == [62, 61] and 'id' not in benchmark.columns

    def test_numbered_rows(self, tmp_path):
        """As pandas writes them."""
        pd.read_csv(write_table('transnas-micro', tmp_path)).to_csv(tmp_path / 'a.csv')
        benchmark = load_benchmark('transnas-micro', table=str(tmp_path / 'a.csv'))
        assert benchmark.metrics == ['class_object', 'class_scene', 'room_layout']

    def test_final(self):
        table = pd.DataFrame({'early': [1.0], 'late': [2.0], 'acc': [3.0]}, index=['a'])
        assert Benchmark('x', table, lambda *_: None, final=('late', 'later')).metrics == ['late']
        assert Benchmark('x', table, lambda *_: None, final=('later',)).metrics == ['acc']


class TestUnfitTables:
    @pytest.mark.parametrize('name', NAMES_OF_TABLES)
    @pytest.mark.parametrize(
        'content, sentence',
        [
            ('', 'cannot be read as a table'),
            (b'\xff\xfe\x00PK', 'cannot be read as a table'),
            ('"a', 'cannot be read as a table'),
            ('name,acc\nx,1\n', 'has no column'),
        ],
    )
    def test_no_table(self, name, content, sentence, tmp_path):
        file = tmp_path / 'a.csv'
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        said(sentence, name, file)

    @pytest.mark.parametrize('name', NAMES_OF_TABLES)
    def test_not_there(self, name, tmp_path):
        said('there is no table', name, tmp_path / 'nowhere.csv')
        said('cannot be read as a table', name, tmp_path)
        said('the benchmark needs a table', name, None)

    @pytest.mark.parametrize('name', NAMES_OF_TABLES)
    def test_without_rows(self, name, tmp_path):
        (tmp_path / 'a.csv').write_text(TABLES[name][0] + '\n')
        said('a.csv has no rows', name, tmp_path / 'a.csv')

    @pytest.mark.parametrize('name', NAMES_OF_TABLES)
    def test_without_results(self, name, tmp_path):
        named = pd.read_csv(write_table(name, tmp_path), dtype=str)
        columns = {'flexibert': ['hidden', 'layers'], 'autoformer': list(named.columns[:4])}
        named[columns.get(name, ['arch'])].assign(note='good').to_csv(tmp_path / 'a.csv', index=False)
        with pytest.raises(ValueError, match=r'the table of .* has no accuracy column|has no metric'):
            benchmark = load_benchmark(name, table=str(tmp_path / 'a.csv'))
            benchmark.check_metric(benchmark.witness)

    @pytest.mark.parametrize('name', NAMES_OF_TABLES)
    def test_an_empty_cell(self, name, tmp_path):
        lines = pd.read_csv(write_table(name, tmp_path), dtype=str)
        column = {'flexibert': 'layers', 'autoformer': 'num_heads'}.get(name, 'arch')
        lines.loc[1, column] = None
        lines.to_csv(tmp_path / 'a.csv', index=False)
        said(r'line 3 of .*a\.csv: .* is no architecture of ', name, tmp_path / 'a.csv')

    @pytest.mark.parametrize(
        'name, row',
        [
            ('nasbench101', '"0101 input,output"'),
            ('nasbench101', f'"{bench101(PATHS)[1:]}"'),
            ('nasbench101', f'"{bench101(PATHS).replace("0", "2", 1)}"'),
            ('nasbench101', f'"{bench101(PATHS, [*NAMES, "maxpool3x3"])}"'),
            ('nasbench101', f'"{bench101(PATHS, ["conv5x5-bn-relu", *NAMES[1:]])}"'),
            ('nasbench101', f'"{bench101(PATHS).replace("output", "input")}"'),
            ('nasbench101', f'"{bench101([(0, 1)])}"'),
            ('nasbench101', f'"{bench101([*PATHS, (3, 2)])}"'),
            ('nasbench101', f'"{bench101([(i, j) for i in range(7) for j in range(i + 1, 7)])}"'),
            *(
                ('transnas-micro', row)
                for row in (
                    *('64-41414-1_23_01', '64-41414-1_23_014', '64-51414-1_23_012', '64--1_23_012'),
                    *('41414-1_23_012', '0-4-1_23_012', '64-4-1_23_012 '),
                )
            ),
            ('darts', DARTS[0].replace('normal', 'norm')),
            ('darts', DARTS[0].replace('|reduce', 'reduce')),
            ('darts', DARTS[0].replace('none', 'conv')),
            ('darts', DARTS[0].replace('none~1', 'none~7', 1)),
            ('darts', DARTS[0].replace('none~1', 'none~2', 1)),
            ('darts', DARTS[0].replace('none~1;', '', 1)),
            ('darts', DARTS[0] + ';none~1'),
            *(
                ('flexibert', f'1,{row}')
                for row in (
                    *('16,SA:SDP:h2:f8', '16,SA:SDP:h2:f8x0', '16,SA:SDP:h0:f8x1', '16,SA:DFT:h2:f8x1', '16,SA:SDP:h2:8x1'),
                    *('wide,SA:SDP:h2:f8x1', '0,SA:SDP:h2:f8x1', '16,SA:SDP:h2:f8x1;', '15,SA:SDP:h2:f8x1'),
                    *('16,DSC:4:h2:f8x1', '16,DSC:x:h2:f8x1', '16,DSC:3:h1:f8x1', '16,LT:FFT:h2:f8x1'),
                )
            ),
            *(
                ('autoformer', row)
                for row in (
                    *('192,2,3;4,3.5', '192,2,3,3.5;4.0', '192,1,3;4,3.5;4.0', '192,0,,', '192.5,1,3,4', 'x,1,3,4'),
                    *('0,1,3,4', '192,1,0,4', '192,1,3,-1', '192,1,3,nan', '192,1,3,inf', '192,1,three,4'),
                )
            ),
        ],
    )
    def test_other_architectures(self, name, row, tmp_path):
        header, first = TABLES[name][:2]
        (tmp_path / 'a.csv').write_text(f'{header}\n{first}\n{row}{",1" * RESULTS[name]}\n')
        said(r'line 3 of .*a\.csv: .*is no architecture of ', name, tmp_path / 'a.csv')


def said(sentence, name, file):
    with pytest.raises(ValueError, match=sentence) as error:
        load_benchmark(name, table=None if file is None else str(file))
    assert '\n' not in str(error.value)


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # drawing takes longer than all else
    arguments = ['--table', write_table('transnas-micro', tmp_path), '--data', 'digits', '--image-size', '16']
    given = ['benchmark', '--benchmark', 'transnas-micro', *arguments, '--batch-size', '4', '--cost-architectures', '0']
    assert main([*given, '--scores', 'mgm,naswot', '--output', str(tmp_path / 'output')]) == 0
    text = capsys.readouterr().out
    assert '4 of 4 architectures of transnas-micro, 4 images of digits' in text
    results = pd.read_csv(tmp_path / 'output' / 'results.csv')
    assert set(results.metric) == {'class_object', 'class_scene', 'room_layout'}
    assert {'mgm', 'naswot', 'parameters'} <= set(results.score) and results.spearman.notna().all()
    (tmp_path / 'output' / 'a.csv').write_text('arch,class_scene\n64-4,1\n')
    assert main([*given, '--table', str(tmp_path / 'output' / 'a.csv')]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "a.csv: '64-4' is no architecture of TransNAS-Bench-101 micro" in line
