"""Hidden states of frozen layers, kept on disk: the same result as without them, whatever happens to the files."""

from __future__ import annotations

import copy
import logging
import threading

import numpy as np
import pytest
import torch
from made_up_texts import pairs
from nni.nas.space import SimplifiedModelSpace
from text_encoders import KINDS, Folders
from torch import nn

from nni_knas.encoders import PretrainedEncoder
from nni_knas.spaces import TextClassifierSpace
from nni_knas.text import TextClassification, states
from nni_knas.text.states import FrozenStates, keep_states

pytest.importorskip('transformers')


TRAIN, VALIDATION, TEST = pairs(40, 0), pairs(16, 1), pairs(12, 2)
TOKENS = TEST.collate_fn([TEST[i] for i in range(len(TEST))])[0]


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of each test's own."""
    monkeypatch.setattr(states, 'CACHE', tmp_path / 'cache')
    return tmp_path / 'cache' / 'states'


@pytest.fixture
def passes(monkeypatch):
    """Counts the passes through whole encoders."""
    made, compute = [], PretrainedEncoder._hidden_states

    def counted(self, ids, sentence):
        made.append(len(ids))
        return compute(self, ids, sentence)

    monkeypatch.setattr(PretrainedEncoder, '_hidden_states', counted)
    return made


def network(encoder, **choices):
    space = TextClassifierSpace(encoder, 2)
    torch.manual_seed(0)
    sample = {**space.plain(), 'pooling': 'mean', 'tuned': 0, **choices}
    return SimplifiedModelSpace.from_model(space).freeze(sample).executable_model()


def evaluator(**options):
    chosen = {'num_labels': 2, 'max_epochs': 2, 'learning_rate': 0.01, 'encoder_learning_rate': 1e-3, 'accelerator': 'cpu'}
    return TextClassification(TRAIN, VALIDATION, TEST, **{**chosen, **options})


def trained(model, **options):
    """Weights and results of a training."""
    result = evaluator(**options).fit(model, 3)
    return {name: value.clone() for name, value in model.state_dict().items()}, (result.validation, result.test)


CHOICES = [
    {},
    {'pair': 'apart', 'layers': '2', 'mix': 'weighted'},
    {'pair': 'align', 'edge_0_1': 'recurrent', 'edge_1_2': 'attention', 'edge_0_2': 'conv-3', 'pooling': 'max'},
    {'tuned': 1},
    {'tuned': 1, 'pair': 'compare', 'layers': '3', 'mix': 'attention'},
    {'tuned': 2, 'pair': 'apart'},
]


def of_effect(weights):
    """Without the biases that a softmax takes out: their gradients are rounding, of which Adam makes whole steps."""
    weights = {name: value for name, value in weights.items() if not name.endswith(('key.bias', 'query.bias'))}
    together = [name for name in weights if name.endswith('in_proj_bias')]  # of queries, keys and values
    return {**weights, **{name: weights[name].view(3, -1)[[0, 2]] for name in together}}


@pytest.mark.parametrize('choices', CHOICES, ids=str)
def test_trainings_take_the_same_way(folders, cache, monkeypatch, choices):
    monkeypatch.setattr(states, 'STORED', np.dtype(np.float32))
    usual, results = trained(network(folders['bert'], **choices), cache=False)
    assert not cache.exists()
    kept, results_kept = trained(network(folders['bert'], **choices))
    assert list(cache.glob('*/*.npy')) and results_kept == results
    torch.testing.assert_close(of_effect(kept), of_effect(usual), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('choices', CHOICES[:4], ids=str)
def test_in_16_bits_the_result_is_the_same_to_rounding(folders, choices):
    networks = [network(folders['bert'], **choices) for _ in range(2)]
    for each, kept in zip(networks, (True, False)):
        trained(each, cache=kept)
    with torch.no_grad():
        kept, usual = (each.eval()(TOKENS) for each in networks)
    torch.testing.assert_close(kept, usual, rtol=0.03, atol=0.03)


@pytest.mark.parametrize('kind', KINDS)
def test_any_kind_of_encoder_goes_on_from_what_is_kept_or_does_without(folders, kind, monkeypatch):
    monkeypatch.setattr(states, 'STORED', np.dtype(np.float32))
    for tuned in (0, 1) if kind != 'albert' else (0,):
        model = network(folders[kind], tuned=tuned, layers='2').eval()
        expected = model(TOKENS)
        with keep_states(model, [[(TOKENS, None)]], 'cpu'):
            assert (model.encoder._below is not None) == (kind != 't5' or not tuned)
            torch.testing.assert_close(model(TOKENS), expected, rtol=1e-4, atol=1e-4)


def test_frozen_layers_compute_once(folders, cache, passes):
    model = network(folders['bert'])
    evaluator(seeds=2).evaluate(model)
    assert sum(passes) == sum(map(len, (TRAIN, VALIDATION, TEST)))
    passes.clear()
    evaluator().evaluate(network(folders['bert'], pair='compare', norm='layer'))
    assert passes == []
    files = sorted(cache.glob('*/3-*.npy'))
    assert len(files) == 3
    assert sum(np.load(file).shape[0] for file in files) == sum(sum(each.lengths) for each in (TRAIN, VALIDATION, TEST))


@pytest.mark.parametrize('room', [True, False])
def test_networks_share_what_they_can(folders, cache, monkeypatch, room):
    monkeypatch.setattr(states, 'SHARE', 0.9 if room else 0)

    def names():
        return sorted({file.name.split('-')[0] for file in cache.glob('*/*.npy')})

    for choices, expected in (({}, ['3']), ({'tuned': 1}, ['2', '3']), ({'layers': '2'}, ['2', '3'])):
        before = {file: file.stat().st_mtime_ns for file in cache.glob('*/*.npy')}
        evaluator(max_epochs=1).fit(network(folders['bert'], **choices))
        assert names() == (['0', '1', '2', '3'] if room else expected)
        assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert len(list(cache.iterdir())) == 3  # training, validation and test
    evaluator(max_epochs=1).fit(network(folders['bert'], pair='apart'))
    assert len(list(cache.iterdir())) == 6


def test_the_network_is_left_as_it_would_be(folders):
    model = network(folders['bert'], tuned=1)
    names = list(model.state_dict())
    evaluator(max_epochs=1).fit(model)
    assert list(model.state_dict()) == names and model.encoder._below is None
    again = network(folders['bert'], tuned=1)
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    others = TOKENS[:, :, :9].clone()
    torch.testing.assert_close(again.eval()(others), model.eval()(others))
    assert len(model.encoder(*TOKENS.unbind(1))) == 4


def test_other_weights_are_other_states(folders, cache):
    evaluator(max_epochs=1).fit(network(folders['bert']))
    changed = network(folders['bert'])
    with torch.no_grad():
        next(changed.encoder.parameters()).add_(1)
    evaluator(max_epochs=1).fit(changed)
    assert len(list(cache.glob('*/3-*.npy'))) == 6


def test_texts_that_were_not_seen_before_are_encoded(folders):
    model = network(folders['bert']).eval()
    expected = model(TOKENS)
    with keep_states(model, [[(TOKENS[:6], None)]], 'cpu'):
        assert torch.equal(model(TOKENS), expected)


class Stranger(nn.Module):
    """Does not tell what it feeds to its encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = PretrainedEncoder(encoder, 0)
        self.classifier = nn.Linear(self.encoder.width, 2)

    def forward(self, tokens):
        return self.classifier(self.encoder(*tokens.unbind(1))[-1][:, 0])


def test_networks_that_cannot_share_are_trained_without(folders, cache):
    for model in (network(folders['bert'], tuned=3), Stranger(folders['bert'])):
        evaluator(max_epochs=1).fit(model)
    assert not cache.exists()


# What happens to files.


def test_damaged_and_unfinished_files_are_replaced(folders, cache, caplog):
    model = network(folders['bert'])
    evaluator(max_epochs=1).fit(model)
    files = sorted(cache.glob('*/3-*.npy'))
    whole = [file.read_bytes() for file in files]
    files[0].write_bytes(whole[0][:200])
    files[1].write_bytes(b'')
    left = files[0].with_name(f'{files[0].name}.12345')
    left.write_bytes(b'half')
    with caplog.at_level(logging.WARNING):
        evaluator(max_epochs=1).fit(model)
    assert [file.read_bytes() for file in files] == whole and not left.exists()
    assert sum('is damaged' in each.message for each in caplog.records) == 2


@pytest.mark.parametrize('harm', ['file', 'room', 'range'])
def test_a_cache_that_cannot_be_written_is_done_without(folders, cache, monkeypatch, caplog, harm):
    usual, _ = trained(network(folders['bert']), cache=False)
    if harm == 'file':
        cache.parent.write_text('')
    if harm == 'room':
        monkeypatch.setattr(states, 'SPARE', 2**62)
    model = network(folders['bert'])
    if harm == 'range':
        compute = PretrainedEncoder._hidden_states
        monkeypatch.setattr(
            PretrainedEncoder, '_hidden_states', lambda *given: tuple(1e6 * each for each in compute(*given))
        )
    with caplog.at_level(logging.WARNING):
        weights, _ = trained(model)
    assert len([each for each in caplog.records if 'cannot be kept' in each.message]) == 1
    assert harm == 'range' or all(torch.equal(weights[name], usual[name]) for name in usual)
    assert not list(cache.glob('*/*.npy*')) if cache.exists() else True


def test_a_killed_computation_leaves_nothing_that_is_taken_for_whole(folders, cache, monkeypatch):
    model = network(folders['bert'])
    monkeypatch.setattr(states, '_write', lambda *given: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        evaluator(max_epochs=1).fit(model)
    assert not list(cache.glob('*/*.npy'))


def test_of_several_at_a_time_one_computes(folders, passes):
    encoders = [PretrainedEncoder(folders['bert'], 0).eval() for _ in range(3)]
    kept = [FrozenStates(encoder, 1) for encoder in encoders]
    threads = [threading.Thread(target=each.add, args=([TOKENS.unbind(1)],)) for each in kept]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passes == [12]
    found = [each(*TOKENS.unbind(1))[0] for each in kept]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_option_is_checked():
    with pytest.raises(TypeError, match=r"cache is 'yes': it has to be True or False"):
        evaluator(cache='yes')
