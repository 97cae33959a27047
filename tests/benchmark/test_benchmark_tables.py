"""Architecture strings, indices and samples of NAS-Bench-201, and tables from each of the sources that users have."""

from __future__ import annotations

import sqlite3
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.hub.pytorch import NasBench201
from small_benchmarks import run_accuracy

from nni_knas.benchmark import tables
from nni_knas.benchmark.nats import EDGES, OPERATIONS, SIZE, index_of, string_of, to_sample, to_string
from nni_knas.benchmark.tables import WHERE, load_nats_table

FIRST = '|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|'
SECOND = '|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|'


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, 'CACHE', tmp_path / 'kept-tables')


class TestConversions:
    def test_by_hand(self):
        assert to_sample(FIRST) == {
            'cell/0_1': 'avg_pool_3x3',
            'cell/0_2': 'conv_1x1',
            'cell/1_2': 'skip_connect',
            'cell/0_3': 'conv_1x1',
            'cell/1_3': 'skip_connect',
            'cell/2_3': 'skip_connect',
        }
        assert string_of(0) == FIRST and string_of(1) == SECOND
        assert index_of(FIRST) == 0 and index_of(SECOND) == 1

    @given(st.integers(0, SIZE - 1))
    def test_round_trips(self, index):
        string = string_of(index)
        assert index_of(string) == index_of(to_string(to_sample(string))) == index
        assert string_of(np.int64(index)) == string

    def test_each_edge_has_its_own_place(self):
        """With one edge changed at a time, exactly the text of that edge changes."""
        plain = {f'cell/{edge}': 'none' for edge in EDGES}
        for edge in EDGES:
            source, node = map(int, edge.split('_'))
            nodes = to_string(plain | {f'cell/{edge}': 'conv_3x3'}).split('+')
            assert nodes[node - 1].strip('|').split('|')[source] == f'nor_conv_3x3~{source}'
            assert sum(part.count('conv') for part in nodes) == 1

    def test_all_are_different(self):
        assert len({string_of(index) for index in range(SIZE)}) == SIZE == len(OPERATIONS) ** 6

    def test_samples_are_of_nnis_space(self):
        space = NasBench201()
        assert set(to_sample(FIRST)) == set(space.simplify())
        assert all(space.contains(to_sample(string_of(index))) for index in range(0, SIZE, 997))

    @pytest.mark.parametrize(
        'wrong',
        [
            '',
            'none',
            FIRST[:-1],
            FIRST + ' ',
            FIRST.replace('+', ''),
            FIRST.replace('avg', 'max'),
            FIRST.replace('~2', '~1'),
            FIRST.replace('nor_conv_1x1', 'conv_1x1'),
            '+'.join(reversed(FIRST.split('+'))),
            None,
            3,
        ],
    )
    def test_malformed_strings(self, wrong):
        for function in (to_sample, index_of):
            with pytest.raises(ValueError, match=r'is no architecture of NAS-Bench-201: it should look like \|op~0\|\+'):
                function(wrong)

    @pytest.mark.parametrize('wrong', [-1, SIZE, 1.5, '1', None])
    def test_no_such_index(self, wrong):
        with pytest.raises(ValueError, match='is no index of NAS-Bench-201: indices are whole numbers from 0 to 15624'):
            string_of(wrong)

    def test_other_samples(self):
        with pytest.raises(ValueError, match="its cell/2_3 is 'max_pool_3x3'"):
            to_string(to_sample(FIRST) | {'cell/2_3': 'max_pool_3x3'})
        with pytest.raises(ValueError, match='its cell/0_1 is None'):
            to_string({})

    def test_every_index_of_the_real_table(self, data_dir):
        table = pd.read_csv(data_dir / 'nats-bench' / 'tss-dev.csv')
        assert len(table) > 7000
        assert [string_of(index) for index in table['index']] == list(table.arch_str)
        assert [index_of(string) for string in table.arch_str] == list(table['index'])


class TestCSV:
    @pytest.mark.parametrize('columns', [('index', 'arch_str'), ('index',), ('arch_str',)])
    def test_either_column_will_do(self, columns, tmp_path):
        rows = pd.DataFrame({'index': [1, 0], 'arch_str': [SECOND, FIRST], 'acc': [90, 80.5], 'note': ['a', 'b']})
        rows[[*columns, 'acc', 'note']].to_csv(tmp_path / 'a.csv')  # with pandas' own column of row numbers
        table = load_nats_table(tmp_path / 'a.csv')
        assert table.to_dict() == {'acc': {SECOND: 90.0, FIRST: 80.5}}

    @pytest.mark.parametrize(
        'text, sentence',
        [
            (
                'index,arch_str,acc\n0,' + FIRST + ',1\n0,' + SECOND + ',1\n',
                'line 3 of .*: index and arch_str disagree, index 0 is .* has index 1',
            ),
            ('arch_str,acc\n|none~0|,1\n', 'line 2 of .* is no architecture'),
            ('index,acc\n15625,1\n', 'line 2 of .* is no index'),
            ('index,acc\nx,1\n', 'line 2 of .* is no index'),
            ('index,acc\n,1\n', 'line 2 of .* is no index'),
            ('name,acc\nx,1\n', 'has neither a column index nor arch_str'),
            ('index,arch_str\n0,' + FIRST + '\n', 'has no accuracy column'),
            ('index,acc\n0,high\n', 'has no accuracy column'),
            ('', 'cannot be read as a table'),
        ],
    )
    def test_unfit(self, text, sentence, tmp_path):
        (tmp_path / 'a.csv').write_text(text)
        with pytest.raises(ValueError, match=sentence):
            load_nats_table(tmp_path / 'a.csv')


@pytest.mark.parametrize(
    'source, sentence',
    [
        (None, 'the benchmark needs a table'),
        ('nowhere.csv', 'there is no table nowhere.csv'),
        ('nowhere.pickle.pbz2', 'there is no table nowhere.pickle.pbz2'),
        ('nni', 'there is no table .*nasbench201-b2b60732.db'),
        ('.', 'holds no meta.pickle.pbz2'),
    ],
)
def test_missing_tables_are_said_in_one_sentence_with_where_to_get_them(source, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('NASBENCHMARK_DIR', str(tmp_path))
    with pytest.raises(ValueError, match=sentence) as error:
        load_nats_table(source)
    assert str(error.value).endswith(WHERE) and '\n' not in str(error.value)
    assert all(
        part in WHERE
        for part in (
            'NATS-tss-v1_0-3ffb9.pickle.pbz2',
            'NATS-tss-v1_0-3ffb9-simple',
            'github.com',
            'nni.nas.benchmark.download',
        )
    )


SEEDS = (777, 888)
INDICES = (0, 1, 4242)


def mean(*place):
    return pytest.approx(np.mean([run_accuracy(*place, seed) for seed in SEEDS]))


def results_of(index):
    """State of one architecture as the package keeps it: the short and the long run on each dataset, two seeds each."""
    from nats_bench.api_utils import ArchResults, ResultsCount

    def run(dataset, seed, epochs):
        result = ResultsCount(
            dataset,
            None,
            dict.fromkeys(range(epochs), 1.0),
            dict.fromkeys(range(epochs), 1.0),
            1.0,
            1.0,
            {'arch_str': string_of(index)},
            seed,
            epochs,
            [0.1],
        )
        every = {epoch: run_accuracy(index, dataset, epoch + 1, seed) for epoch in range(epochs)}
        last = {epochs - 1: every[epochs - 1]}
        if dataset == 'cifar10-valid':
            sets = {'x-valid': every, 'ori-test': {epochs - 1: -1.0}}
        elif dataset == 'cifar10':
            sets = {'ori-test': every}
        else:  # while training, these are evaluated on validation and test images together
            sets = {
                'ori-test': {epoch: value - 50 for epoch, value in every.items()},
                'x-valid': last,
                'x-test': {epochs - 1: every[epochs - 1] + 100},
            }
        for name, accuracies in sets.items():
            result.update_OLD_eval(name, accuracies, dict.fromkeys(accuracies, 1.0))
        return result

    runs = {}
    for epochs in (12, 200):
        runs[str(epochs)] = ArchResults(index, string_of(index))
        for dataset in ('cifar10-valid', 'cifar10', 'cifar100', 'ImageNet16-120'):
            for seed in SEEDS:
                runs[str(epochs)].update(dataset, seed, run(dataset, seed, epochs))
    return {epochs: results.state_dict() for epochs, results in runs.items()}


@pytest.fixture(scope='module', params=['file', 'folder'])
def nats_files(request, tmp_path_factory):
    nats_bench = pytest.importorskip('nats_bench')
    folder = tmp_path_factory.mktemp('nats')
    meta = {
        'meta_archs': [string_of(index) for index in range(SIZE)],
        'evaluated_indexes': set(INDICES),
        'arch2infos': {index: results_of(index) for index in INDICES},
    }
    if request.param == 'file':
        nats_bench.pickle_save(meta, folder / 'NATS-tss-v1_0-3ffb9.pickle')
        return folder / 'NATS-tss-v1_0-3ffb9.pickle.pbz2'
    infos = meta.pop('arch2infos')
    for name, state in [('meta', meta), *((f'{index:06d}', state) for index, state in infos.items())]:
        nats_bench.pickle_save(state, folder / f'{name}.pickle')
    return folder


class TestNatsBench:
    def test_results(self, nats_files):
        table = load_nats_table(nats_files)
        assert list(table.index) == [string_of(index) for index in INDICES]
        assert sorted(table.columns) == sorted(
            [
                'cifar10_valid_acc_epoch20',
                'cifar100_valtest_acc_epoch20',
                'imagenet16_valtest_acc_epoch20',
                *(
                    f'{name}_{part}'
                    for name in ('cifar10', 'cifar100', 'imagenet16')
                    for part in ('valid_acc', 'test_acc', 'valid_acc_epoch12')
                ),
            ]
        )
        for index in INDICES:
            row = table.loc[string_of(index)]
            assert row.cifar10_valid_acc == mean(index, 'cifar10-valid', 200)
            assert row.cifar10_test_acc == mean(index, 'cifar10', 200)
            assert row.cifar10_valid_acc_epoch12 == mean(index, 'cifar10-valid', 12)
            assert row.cifar10_valid_acc_epoch20 == mean(index, 'cifar10-valid', 20)
            for name, dataset in (('cifar100', 'cifar100'), ('imagenet16', 'ImageNet16-120')):
                assert row[f'{name}_valid_acc'] == mean(index, dataset, 200)
                assert row[f'{name}_test_acc'] - 100 == mean(index, dataset, 200)
                assert row[f'{name}_valid_acc_epoch12'] == mean(index, dataset, 12)
                assert row[f'{name}_valtest_acc_epoch20'] + 50 == mean(index, dataset, 20)

    def test_is_read_once(self, nats_files, monkeypatch):
        first = load_nats_table(nats_files)
        monkeypatch.setattr(tables, '_read_nats_bench', None)
        pd.testing.assert_frame_equal(load_nats_table(nats_files), first)

    def test_without_the_package(self, nats_files, monkeypatch):
        monkeypatch.setitem(sys.modules, 'nats_bench', None)
        with pytest.raises(ValueError, match=r'needs the package nats_bench: pip install .*"nats_bench>=1.8"'):
            load_nats_table(nats_files)

    def test_damaged(self, tmp_path):
        pytest.importorskip('nats_bench')
        (tmp_path / 'NATS-tss-v1_0-3ffb9.pickle.pbz2').write_bytes(b'not a pickle')
        with pytest.raises(ValueError, match='cannot be read by nats_bench'):
            load_nats_table(tmp_path / 'NATS-tss-v1_0-3ffb9.pickle.pbz2')


@pytest.fixture
def nni_database(tmp_path):
    """A database made by NNI's own models, as its conversion of the benchmark fills them."""
    try:
        from nni.nas.benchmark import nasbench201 as nb201
        from playhouse.sqlite_ext import SqliteExtDatabase
    except ImportError as error:
        pytest.skip(f"NNI's benchmark models need peewee below 4: {error}")
    models = [nb201.Nb201TrialConfig, nb201.Nb201TrialStats, nb201.Nb201IntermediateStats]
    path = tmp_path / 'nasbench201-b2b60732.db'
    database = SqliteExtDatabase(str(path))
    rest = dict.fromkeys(
        [
            'train_acc',
            'parameters',
            'latency',
            'flops',
            'training_time',
            'valid_evaluation_time',
            'test_evaluation_time',
            'ori_test_evaluation_time',
        ],
        1.0,
    )
    with database.bind_ctx(models), database:
        database.create_tables(models)
        for index in INDICES:
            arch = {label.removeprefix('cell/'): operation for label, operation in to_sample(string_of(index)).items()}
            for dataset in ('cifar10-valid', 'cifar10', 'cifar100', 'ImageNet16-120'):
                for epochs in (12, 200):
                    config = models[0].create(
                        arch=arch, num_epochs=epochs, dataset=dataset.lower(), num_channels=16, num_cells=5
                    )
                    for seed in SEEDS:
                        accuracy = run_accuracy(index, dataset, epochs, seed)
                        stats = models[1].create(
                            config=config,
                            seed=seed,
                            valid_acc=accuracy,
                            test_acc=accuracy + 100,
                            ori_test_acc=accuracy - 50,
                            **rest,
                        )
                        for epoch in (19, 20, 21):
                            early = run_accuracy(index, dataset, epoch, seed)
                            models[2].create(
                                trial=stats,
                                current_epoch=epoch,
                                ori_test_acc=early - 50,
                                valid_acc=early if dataset == 'cifar10-valid' else None,
                            )
    database.close()
    return path


class TestNNIDatabase:
    def test_results(self, nni_database, monkeypatch):
        table = load_nats_table(nni_database)
        assert set(table.index) == {string_of(index) for index in INDICES}
        for index in INDICES:
            row = table.loc[string_of(index)]
            assert row.cifar10_valid_acc == mean(index, 'cifar10-valid', 200)
            assert row.cifar10_test_acc + 50 == mean(index, 'cifar10', 200)
            assert row.cifar10_valid_acc_epoch12 == mean(index, 'cifar10-valid', 12)
            assert row.cifar10_valid_acc_epoch20 == mean(index, 'cifar10-valid', 20)
            assert row.imagenet16_valid_acc == mean(index, 'ImageNet16-120', 200)
            assert row.cifar100_test_acc - 100 == mean(index, 'cifar100', 200)
            assert row.cifar100_valtest_acc_epoch20 + 50 == mean(index, 'cifar100', 20)
        assert 'cifar10_valtest_acc_epoch20' not in table and 'cifar100_valid_acc_epoch20' not in table

        monkeypatch.setenv('NASBENCHMARK_DIR', str(nni_database.parent))
        pd.testing.assert_frame_equal(load_nats_table('nni'), table)

    def test_of_something_else(self, tmp_path):
        connection = sqlite3.connect(tmp_path / 'other.db')
        connection.execute('CREATE TABLE other (x)')
        connection.close()
        with pytest.raises(ValueError, match='is no database of NAS-Bench-201'):
            load_nats_table(tmp_path / 'other.db')
