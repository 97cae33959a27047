"""Labelled texts from files and from Hugging Face, their tokens, and batches of them."""

from __future__ import annotations

import nni
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_encoders import save_tokenizer

from nni_knas import GradientKernelEvaluator
from nni_knas.data import corpus, load_data, loading, tokens
from nni_knas.data.corpus import read_corpus
from nni_knas.data.tokens import LengthBatches, TokenDataset, pad
from nni_knas.encoders.encoder import MINILM, encoder_path
from nni_knas.text import load_text, text_data

pytest.importorskip('transformers')
normalizers = pytest.importorskip('tokenizers').normalizers


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of each test's own."""
    for module in (loading, tokens):
        monkeypatch.setattr(module, 'CACHE', tmp_path / 'cache')
    return tmp_path / 'cache' / 'text'


@pytest.fixture(scope='session')
def encoder(tmp_path_factory):
    """A folder with a tokenizer of the words w0 to w39; no weights are needed."""
    folder = tmp_path_factory.mktemp('tokenizer')
    save_tokenizer(folder)
    (folder / 'config.json').write_text('{"model_type": "bert"}')
    return str(folder)


def lines(count, start=0):
    return [f'{i}\tw{i % 40} w1\tw2 w{i % 7} w3\t{"yes" if i % 4 else "no"}' for i in range(start, start + count)]


def write(folder, train, dev=None, header='index\tsentence1\tsentence2\tlabel'):
    folder.mkdir(exist_ok=True)
    (folder / 'train.tsv').write_text('\n'.join([header, *train]) + '\n')
    if dev is not None:
        (folder / 'dev.tsv').write_text('\n'.join([header, *dev]) + '\n')
    return str(folder)


@pytest.fixture
def task(tmp_path):
    return write(tmp_path / 'task', lines(40), lines(8, 100))


# Reading.


def test_the_columns_of_glue_are_known(tmp_path):
    headers = {
        'index\tsentence1\tsentence2\tlabel': ('1', 'a', 'b', 'yes'),
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String': ('1', '7', '8', '"a', 'b'),
        'sentence\tlabel': ('a', '0'),
        'index\tquestion\tsentence\tlabel': ('1', 'a', 'b', 'yes'),
        'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate': ('1', '2', '3', 'a', 'b', '0'),
        'index\tsentence1\tsentence2\tlabel1\tgold_label': ('1', 'a', 'b', 'x', 'neutral'),
    }
    for header, values in headers.items():
        folder = write(tmp_path / 'glue', ['\t'.join(values)], header=header)
        texts, labels = read_corpus(folder, 'train')
        assert [sentence.strip('"') for sentence in texts[0]] in (['a', 'b'], ['a'])
        assert labels[0] in ('yes', '0', '1', 'neutral')
    folder = write(tmp_path / 'cola', ['gj04\t0\t*\tb'], header='gj04\t1\t\ta')  # which has no header
    assert read_corpus(folder, 'train') == ([('a',), ('b',)], ['1', '0'])


def test_columns_by_name(tmp_path):
    folder = write(tmp_path / 'own', ['x y\tgood'], header='review\tverdict')
    assert read_corpus(folder, 'train', sentences=['review'], label='verdict') == ([('x y',)], ['good'])
    assert read_corpus(folder, 'train', sentences='review', label='verdict') == ([('x y',)], ['good'])


@pytest.mark.parametrize(
    'train, options, message',
    [
        (['0\ta b\t\tyes'], {}, r"train.tsv, line 2: the sentence in column 'sentence2' is empty: give it a text, or leave"),
        (['0\ta\tb\tyes', '1\ta\tb\t '], {}, r"train.tsv, line 3: the label in column 'label' is empty"),
        (
            ['0\ta\tb'],
            {},
            r'train.tsv, line 2: 3 columns, where the first line has 4 \(index, sentence1, sentence2, label\)',
        ),
        (
            ['0\ta\tb\tyes'],
            {'label': 'verdict'},
            r"has no column 'verdict': it has index, sentence1, sentence2, label; name",
        ),
        (['0\ta\tb\tyes'], {'sentences': ('one', 'sentence2')}, r"has no column 'one'"),
        (['0\ta\tb\tyes'], {'sentences': ('a', 'b', 'c')}, 'the names of one or two columns'),
        ([], {}, 'train.tsv holds no texts'),
        (['', '0\ta\tb'], {}, 'train.tsv, line 3: 3 columns'),  # the number that an editor shows
    ],
)
def test_texts_that_are_not_right_get_one_sentence(tmp_path, train, options, message):
    with pytest.raises(ValueError, match=message):
        read_corpus(write(tmp_path / 'task', train), 'train', **options)


def test_files_that_are_not_there_get_one_sentence(tmp_path, encoder):
    with pytest.raises(ValueError, match=r'there is no folder .*: it should hold train\.tsv'):
        read_corpus(tmp_path / 'nowhere', 'train')
    folder = write(tmp_path / 'task', lines(4))
    with pytest.raises(ValueError, match=r'has no dev\.tsv'):
        read_corpus(folder, 'dev')
    assert load_text(folder, encoder).test is None
    (tmp_path / 'task' / 'train.tsv').write_bytes(b'sentence\tlabel\n\xff\xfe\t1\n')
    with pytest.raises(ValueError, match='is not in UTF-8'):
        read_corpus(folder, 'train')
    (tmp_path / 'task' / 'train.tsv').write_text('\n')
    with pytest.raises(ValueError, match=r'train\.tsv is empty: it should hold a line with the names'):
        read_corpus(folder, 'train')
    with pytest.raises(ValueError, match='texts cannot be read from int: give a folder with train'):
        read_corpus(3, 'train')
    with pytest.raises(ValueError, match='no columns that are known by their names'):
        read_corpus(write(tmp_path / 'other', ['a\tb'], header='x\ty'), 'train')


def test_ends_of_lines(tmp_path):
    (tmp_path / 'train.tsv').write_bytes('sentence\tlabel\r\na\rb \u2028c "d\t1\r\n\r\n'.encode())
    assert read_corpus(tmp_path, 'train') == ([('a\rb \u2028c "d',)], ['1'])


@pytest.fixture
def hub():
    datasets = pytest.importorskip('datasets')
    features = datasets.Features(
        {
            'premise': datasets.Value('string'),
            'hypothesis': datasets.Value('string'),
            'label': datasets.ClassLabel(names=['yes', 'no']),
        }
    )
    rows = {'premise': ['w1 w2', 'w3'] * 10, 'hypothesis': ['w4'] * 20, 'label': [0, 1] * 10}
    make = datasets.Dataset.from_dict
    return datasets.DatasetDict(train=make(rows, features), validation=make({k: v[:4] for k, v in rows.items()}, features))


def test_data_sets_of_hugging_face(hub, tmp_path, encoder):
    hub.save_to_disk(tmp_path / 'saved')
    for source in (hub, f'hf:{tmp_path / "saved"}'):
        assert read_corpus(source, 'train') == ([('w1 w2', 'w4'), ('w3', 'w4')] * 10, ['yes', 'no'] * 10)
        assert len(load_text(source, encoder).test) == 4
    with pytest.raises(ValueError, match='has no split validation or dev, or test with labels: it has train'):
        read_corpus({'train': hub['train']}, 'dev')
    with pytest.raises(ValueError, match='has no split train: it has validation'):
        read_corpus({'validation': hub['train']}, 'train')
    with pytest.raises(ValueError, match=r"row 0: the label in column 'label' is empty"):
        read_corpus({'train': hub['train'].map(lambda row: {'label': -1})}, 'train')
    with pytest.raises(ValueError, match='split train is a list, whose columns are not known'):
        read_corpus({'train': [{'text': 'a', 'label': 'b'}]}, 'train')


def test_a_test_split_is_read_where_it_has_labels(hub, encoder):
    assert len(load_text({'train': hub['train'], 'test': hub['validation']}, encoder).test) == 4
    unlabelled = hub['validation'].map(lambda row: {'label': -1})  # as in GLUE
    assert load_text({'train': hub['train'], 'test': unlabelled}, encoder).test is None
    with pytest.raises(ValueError, match='has no split validation or dev, or test with labels: it has train, test'):
        read_corpus({'train': hub['train'], 'test': unlabelled}, 'dev')


def test_values_to_predict_are_refused():
    datasets = pytest.importorskip('datasets')
    scored = datasets.Dataset.from_dict({'sentence': ['a', 'b'], 'label': [1.0, 3.8]})  # as GLUE's STS-B
    with pytest.raises(ValueError, match=r"row 1: the label in column 'label' is 3\.8, which names no class"):
        read_corpus({'train': scored}, 'train')


def test_a_data_set_that_cannot_be_loaded_gets_one_sentence(monkeypatch):
    datasets = pytest.importorskip('datasets')

    def refuse(*names):
        assert names == ('glue', 'rte')
        raise ConnectionError('no network\nand more')

    monkeypatch.setattr(datasets, 'load_dataset', refuse)
    with pytest.raises(ValueError, match=r'the data set glue:rte cannot be loaded: no network$'):
        read_corpus('hf:glue:rte', 'train')
    monkeypatch.setitem(__import__('sys').modules, 'datasets', None)
    with pytest.raises(ValueError, match='needs the package datasets: pip install datasets'):
        read_corpus('hf:glue:rte', 'train')


# Tokens.


def test_tokens_and_the_sentences_they_belong_to(tmp_path, encoder):
    folder = write(tmp_path / 'task', [f'{i}\tw0 w1\tw2\t{i % 2}' for i in range(4)])
    ids, sentence = text_data(folder, 'train', encoder)[0][0]
    assert ids.tolist() == [4, 6, 7, 5, 8, 5]  # [CLS] w0 w1 [SEP] w2 [SEP]
    assert sentence.tolist() == [1, 1, 1, 1, 2, 2]
    single = text_data(folder, 'train', encoder, sentences=['sentence1'], label='label')
    assert single.sentences == 1 and single[0][0].tolist() == [[4, 6, 7, 5], [1, 1, 1, 1]]


def test_a_sentence_without_tokens_has_its_end_token(tmp_path, encoder):
    folder = write(tmp_path / 'task', [f'{i}\tw0 w1\t\u200b\t{i % 2}' for i in range(4)])
    tokens.load_tokenizer(encoder).backend_tokenizer.normalizer = normalizers.Replace('\u200b', '')
    try:
        ids, sentence = text_data(folder, 'train', encoder)[0][0]
    finally:
        tokens.load_tokenizer(encoder).backend_tokenizer.normalizer = None
    assert ids.tolist() == [4, 6, 7, 5, 5] and sentence.tolist() == [1, 1, 1, 1, 2]


def test_long_texts_lose_the_end_of_their_longer_sentence(tmp_path, encoder):
    folder = write(tmp_path / 'task', [f'{i}\t{"w1 " * 30}\tw2 w3\t{i % 2}' for i in range(4)])
    ids, sentence = text_data(folder, 'train', encoder, max_length=12)[0][0]
    assert len(ids) == 12 and ids[-3:].tolist() == [8, 9, 5] and (sentence == 2).sum() == 3
    with pytest.raises(ValueError, match=r'max_length is 65: the encoder .* takes at most 64 tokens'):
        text_data(folder, 'train', encoder, max_length=65)


def test_parts_are_of_the_right_split_and_share_nothing(task, encoder):
    loaded = load_text(task, encoder)
    train, validation, test = loaded.train, loaded.validation, loaded.test
    assert (len(train), len(validation), len(test)) == (32, 8, 8)
    assert loaded.classes == ['no', 'yes'] and loaded.num_labels == 2 and loaded.sentences == 2
    assert [(part.targets == 0).mean() for part in (train, validation)] == [0.25, 0.25]
    contents = [{tuple(part[i][0].flatten().tolist()) for i in range(len(part))} for part in (train, validation)]
    assert not contents[0] & contents[1] and len(contents[0] | contents[1]) == 40
    again = load_text(task, encoder)
    assert all(torch.equal(train[i][0], again.train[i][0]) for i in range(32))
    other = load_text(task, encoder, seed=1)
    assert not all(torch.equal(train[i][0], other.train[i][0]) for i in range(32))
    assert len(load_text(task, encoder, limit=5).train) == 5


def test_numeric_labels_are_in_the_order_of_their_numbers(tmp_path, encoder):
    folder = write(tmp_path / 'task', [f'{i}\tw1\tw2\t{i % 11}' for i in range(33)])
    assert load_text(folder, encoder).classes == [str(i) for i in range(11)]


@given(st.permutations(['1.0', '10', '01', '1', '2']))
def test_classes_are_in_one_order_in_each_process(labels):
    """The order within a set of strings differs from process to process."""
    assert tokens._class_names(labels) == ['01', '1', '1.0', '2', '10']
    assert tokens._class_names([*labels, 'nan']) == ['01', '1', '1.0', '10', '2', 'nan']


@pytest.mark.parametrize('held_out', [0.001, 0.5, 0.999])
def test_each_class_is_in_both_parts(tmp_path, encoder, held_out):
    folder = write(tmp_path / 'task', [f'{i}\tw{i}\tw2\t{"rare" if i < 2 else "often"}' for i in range(12)])
    loaded = load_text(folder, encoder, held_out=held_out)
    assert set(loaded.train.targets) == set(loaded.validation.targets) == {0, 1}
    assert len(loaded.train) + len(loaded.validation) == 12


def test_nothing_can_be_held_out_of_single_texts(tmp_path, encoder):
    folder = write(tmp_path / 'task', [f'{i}\tw{i}\tw2\t{i}' for i in range(3)])
    with pytest.raises(ValueError, match='a single text of each class: none can be kept for validation'):
        load_text(folder, encoder)


def test_wrong_arguments_get_one_sentence(task, tmp_path, encoder):
    for options, message in [
        ({'max_length': 3}, 'max_length is 3'),
        ({'held_out': 1.0}, 'held_out is 1.0'),
        ({'held_out': '0.2'}, "held_out is '0.2'"),
        ({'limit': 0}, 'limit is 0'),
    ]:
        with pytest.raises(ValueError, match=message):
            load_text(task, encoder, **options)
    with pytest.raises(ValueError, match="unknown part 'dev'"):
        text_data(task, 'dev', encoder)
    unseen = write(tmp_path / 'unseen', lines(8), ['0\tw1\tw2\tmaybe'])
    with pytest.raises(
        ValueError,
        match=r'the dev split has the label .maybe., which is not in the training '
        'split: that has no, yes',
    ):
        load_text(unseen, encoder)
    one = write(tmp_path / 'one', ['0\tw1\tw2\tyes'] * 4)
    with pytest.raises(ValueError, match="all texts of the training split have the label 'yes'"):
        load_text(one, encoder)


@pytest.fixture
def warnings(monkeypatch):
    """What the log warns of."""
    said = []
    monkeypatch.setattr(tokens._logger, 'warning', lambda message, *values: said.append(message % values))
    return said


def test_texts_are_tokenised_once(task, encoder, cache, monkeypatch, warnings):
    first = text_data(task, 'train', encoder)
    assert len(list(cache.iterdir())) == 1
    real = tokens._tokenise
    monkeypatch.setattr(tokens, '_tokenise', lambda *arguments: pytest.fail('tokenised again'))
    second = text_data(task, 'train', encoder)
    assert all(torch.equal(first[i][0], second[i][0]) for i in range(len(first)))
    monkeypatch.setattr(tokens, '_tokenise', real)
    text_data(task, 'train', encoder, max_length=9)
    assert len(list(cache.iterdir())) == 2
    for file in cache.iterdir():
        file.write_bytes(b'damaged')
    third = text_data(task, 'train', encoder)
    assert len(warnings) == 1 and 'is damaged' in warnings[0] and torch.equal(first[0][0], third[0][0])
    text_data(task, 'train', encoder)
    assert len(warnings) == 1  # it has been mended


def test_a_cache_that_cannot_be_written_is_done_without(task, encoder, tmp_path, monkeypatch, warnings):
    (tmp_path / 'file').write_text('')
    for module in (loading, tokens):
        monkeypatch.setattr(module, 'CACHE', tmp_path / 'file')
    assert len(text_data(task, 'train', encoder)) == 32
    assert len(warnings) == 1 and 'cannot be kept' in warnings[0]


def test_parts_travel_by_name(task, encoder):
    part = text_data(task, 'validation', encoder)
    dumped = nni.dump(part)
    assert len(dumped) < 1000
    again = nni.load(dumped)
    assert len(again) == len(part) and torch.equal(again[3][0], part[3][0])


def test_the_kernel_and_the_command_line_take_texts(task, encoder):
    loaded = load_data(f'text:{task}@{encoder}')
    assert loaded.classes == 2 and isinstance(loaded.train, TokenDataset)
    minibatch = GradientKernelEvaluator(loaded.train, batch_size=5).minibatch
    assert minibatch.inputs.shape[:2] == (5, 2) and minibatch.size == 5
    assert len(load_data(f'text:{task}@{encoder}', limit=3).train) == 3


# Batches.


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_pad(lengths):
    samples = [(torch.full((2, length), i + 1), i) for i, length in enumerate(lengths)]
    padded, targets = pad(samples)
    assert padded.dtype == targets.dtype == torch.int64 and padded.shape == (len(lengths), 2, max(lengths))
    assert targets.tolist() == list(range(len(lengths)))
    for i, length in enumerate(lengths):
        assert (padded[i, :, :length] == i + 1).all() and (padded[i, :, length:] == 0).all()


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=80),
    batch_size=st.integers(1, 9),
    shuffle=st.booleans(),
    seed=st.integers(0, 5),
)
def test_batches_hold_every_text_once(lengths, batch_size, shuffle, seed):
    batches = LengthBatches(lengths, batch_size, shuffle, seed)
    first, second = list(batches), list(batches)
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(len(lengths)))
        assert len(epoch) == len(batches) and max(map(len, epoch)) <= batch_size
    again = LengthBatches(lengths, batch_size, shuffle, seed)
    assert [list(again), list(again)] == [first, second]
    assert shuffle or first == second


def test_batches_of_nothing_are_refused():
    with pytest.raises(ValueError, match='batch_size is 0: it has to be a number of texts, 1 or more'):
        LengthBatches([3, 4], 0)


def test_batches_of_like_length_save_padding():
    lengths = np.random.default_rng(0).integers(5, 100, 500)
    padded = sum(len(batch) * max(lengths[batch]) for batch in LengthBatches(lengths, 10))
    assert padded < 1.1 * lengths.sum()
    batches = LengthBatches(lengths, 10)
    assert list(batches) != list(batches)


# Real texts.


@pytest.mark.parametrize('name, train, dev', [('RTE', 2490, 277), ('MRPC', 3667, 408)])
def test_real_tasks(data_dir, name, train, dev):
    assert len(read_corpus(data_dir / 'glue' / name, 'train').labels) == train
    try:
        encoder_path(MINILM)
    except ValueError as error:
        pytest.skip(str(error))
    loaded = load_text(str(data_dir / 'glue' / name), MINILM)
    assert (len(loaded.train) + len(loaded.validation), len(loaded.test)) == (train, dev)
    assert loaded.num_labels == 2 and loaded.sentences == 2
    assert loaded.train.lengths.max() <= 128 and corpus.has_split(data_dir / 'glue' / name, 'dev')
