"""The space of text classifiers: its networks, over several kinds of encoders, and what they share."""

from __future__ import annotations

import json
import math

import nni
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.space import SimplifiedModelSpace
from reference import gradients_of_samples
from text_encoders import KINDS, Folders
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import TARGETS
from nni_knas.encoders import encoder as encoders
from nni_knas.encoders.encoder import PretrainedEncoder, load_encoder, load_tokenizer
from nni_knas.encoders.pairs import separated
from nni_knas.gradients import Minibatch, ScoringError, seeded
from nni_knas.networks.builder import NetworkBuilder
from nni_knas.networks.candidates import random_models
from nni_knas.networks.construction import build_network
from nni_knas.networks.costs import measure
from nni_knas.networks.exporting import export
from nni_knas.networks.identity import Identity
from nni_knas.scores import score_names
from nni_knas.spaces import TextClassifierSpace, light_text_classifiers
from nni_knas.spaces.text_layers import OPERATIONS, POOLINGS, Recurrent
from nni_knas.spaces.text_pairs import PAIRS

transformers = pytest.importorskip('transformers')


@pytest.fixture(scope='session')
def folders(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp)


@pytest.fixture(scope='session')
def bert(folders):
    return folders['bert']


@pytest.fixture(scope='session')
def space(bert):
    return SimplifiedModelSpace.from_model(TextClassifierSpace(bert, 3))


def texts(lengths, longest=None, seed=0):
    """Tokens of pairs of sentences of the given lengths, without special tokens: [CLS] a [SEP] b [SEP]."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(len(lengths), 2, longest or 3 + max(map(sum, lengths)), dtype=torch.long)
    for row, (a, b) in zip(tokens, lengths):
        n = 3 + a + b
        row[0, :n] = torch.randint(6, 46, (n,), generator=generator)
        row[0, [0, 1 + a, n - 1]] = torch.tensor([4, 5, 5])
        row[1, : 2 + a], row[1, 2 + a : n] = 1, 2
    return tokens


LENGTHS = [(3, 4), (7, 2), (1, 1), (5, 5)]
TOKENS = texts(LENGTHS)
DATA = (TOKENS, torch.tensor([0, 1, 2, 0]))


def trained_names(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


# Encoders.


@pytest.mark.parametrize('kind', KINDS)
def test_any_kind_of_encoder(folders, kind):
    space = SimplifiedModelSpace.from_model(TextClassifierSpace(folders[kind], 2))
    for pair in PAIRS:
        sample = {**TextClassifierSpace(folders[kind], 2).plain(), 'pair': pair, 'match': 'all'}
        network = build_network(space.freeze(sample), 0).eval()
        logits = network(TOKENS)
        assert logits.shape == (4, 2) and torch.isfinite(logits).all()
        wider = network(texts(LENGTHS, TOKENS.shape[2] + 5))
        torch.testing.assert_close(wider, logits, rtol=1e-4, atol=1e-5)
        logits.sum().backward()
        assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize('kind', KINDS)
def test_hidden_states_are_those_of_transformers(folders, kind):
    encoder = PretrainedEncoder(folders[kind], 0).eval()
    states = encoder(*TOKENS.unbind(1))
    assert len(states) == 1 + encoder.layers == 4 and states[-1].shape == (*TOKENS[:, 0].shape, encoder.width)
    theirs = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    theirs = theirs.get_encoder() if kind == 't5' else theirs
    for i, (ids, sentence) in enumerate(TOKENS):
        n = int((sentence > 0).sum())
        types = {'token_type_ids': sentence[None, :n] - 1} if kind in ('bert', 'electra', 'albert') else {}
        with torch.no_grad():
            expected = theirs(input_ids=ids[None, :n], **types).last_hidden_state[0]
        torch.testing.assert_close(states[-1][i, :n], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('kind, start', [('bert', '[CLS]'), ('roberta', '<s>'), ('t5', None)])
def test_sentences_apart_are_encoded_as_if_each_were_alone(folders, kind, start):
    tokenizer = load_tokenizer(folders[kind])
    encoder = PretrainedEncoder(folders[kind], 0).eval()
    assert encoder.start == (None if start is None else tokenizer.convert_tokens_to_ids(start))
    pair = tokenizer('w1 w2 w3', 'w4 w5')
    second = pair.sequence_ids().index(1)
    sentence = 1 + (torch.arange(len(pair['input_ids'])) >= second).long()
    ids, mask = separated(torch.tensor([pair['input_ids']]), sentence[None], encoder.start)
    alone = tokenizer('w4 w5')['input_ids']
    assert ids[1, : len(alone)].tolist() == alone and mask[1].sum() == len(alone)
    torch.testing.assert_close(
        encoder(ids, mask)[-1][1, : len(alone)],
        encoder(torch.tensor([alone]), torch.ones(1, len(alone)).long())[-1][0],
        rtol=1e-4,
        atol=2e-5,
    )


def test_an_encoder_whose_layers_are_one_is_tuned_as_a_whole_or_not_at_all(folders):
    space = TextClassifierSpace(folders['albert'], 2)
    assert space.simplify()['tuned'].values == [0, 3]
    with pytest.raises(ValueError, match='cannot be told apart: tune none or all'):
        PretrainedEncoder(folders['albert'], 1)


@pytest.mark.parametrize('kind', ['bert', 'roberta'])
def test_the_plain_encoder_is_that_of_transformers(folders, kind):
    space = TextClassifierSpace(folders[kind], 3)
    network = build_network(SimplifiedModelSpace.from_model(space).freeze(space.plain()), 0).eval()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folders[kind], num_labels=3).eval()
    head = (network.pair.merge, network.classifier)
    dense, out = (
        (theirs.bert.pooler.dense, theirs.classifier)
        if kind == 'bert'
        else (theirs.classifier.dense, theirs.classifier.out_proj)
    )
    if kind == 'bert':  # it starts from the pooler
        assert torch.equal(head[0].weight, dense.weight) and torch.equal(head[0].bias, dense.bias)
    dense.load_state_dict(head[0].state_dict())
    out.load_state_dict(head[1].state_dict())
    mask = (TOKENS[:, 1] > 0).long()
    types = {'token_type_ids': (TOKENS[:, 1] == 2).long()} if kind == 'bert' else {}
    expected = theirs(input_ids=TOKENS[:, 0], attention_mask=mask, **types).logits
    torch.testing.assert_close(network(TOKENS), expected, rtol=1e-4, atol=1e-5)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert all('pooler' in name for name in frozen)


@pytest.mark.parametrize('tuned', [0, 1, 2, 3])
def test_the_top_layers_are_tuned(bert, tuned):
    encoder = PretrainedEncoder(bert, tuned).train()
    names = trained_names(encoder)
    layers = {name.split('layer.')[1].split('.')[0] for name in names if 'encoder.layer' in name}
    assert layers == {str(i) for i in range(3 - tuned, 3)}
    assert any('embeddings' in name for name in names) == (tuned == 3)
    for i, layer in enumerate(encoder.model.encoder.layer):
        assert all(module.training == (i >= 3 - tuned) for module in layer.modules())
    assert encoder.model.embeddings.dropout.training == (tuned == 3)
    model = load_encoder(bert)
    each, embeddings = sum(p.numel() for p in model.encoder.layer[0].parameters()), model.embeddings.parameters()
    count = tuned * each + (sum(p.numel() for p in embeddings) if tuned == 3 else 0)
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == count
    passes = [encoder(*TOKENS.unbind(1))[-1] for _ in range(2)]
    assert torch.equal(*passes) == (tuned == 0)  # dropout


# Sharing.


def pointers(model):
    return {p.data_ptr() for name, p in model.named_parameters() if 'pooler' not in name}


def test_scored_networks_share_the_weights_and_trained_ones_have_their_own(bert, space):
    shared = pointers(load_encoder(bert))
    models = random_models(space, 3, 0)
    for model in models:
        assert pointers(build_network(model, 0).encoder.model) == shared
        assert not pointers(model.executable_model().encoder.model) & shared
    before = [p.clone() for p in load_encoder(bert).parameters()]
    network = models[0].executable_model().train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    nn.functional.cross_entropy(network(TOKENS), DATA[1]).backward()
    optimizer.step()
    build_network(models[1], 0).double()
    assert all(torch.equal(p, q) for p, q in zip(before, load_encoder(bert).parameters()))


def test_the_encoder_is_loaded_once(folders, monkeypatch):
    folder, loaded = folders['electra'], []
    load_encoder.cache_clear()
    real = transformers.AutoModel.from_pretrained
    monkeypatch.setattr(transformers.AutoModel, 'from_pretrained', lambda *a, **k: loaded.append(a) or real(*a, **k))
    space = SimplifiedModelSpace.from_model(TextClassifierSpace(folder, 2))
    kernel = GradientKernelEvaluator(DATA, batch_size=2)
    for model in random_models(space, 4, 0):
        build_network(model, 0)
    assert kernel.minibatch.size == 2 and len(loaded) == 1


def test_gradients_are_those_of_what_would_be_trained(bert):
    space = TextClassifierSpace(bert, 3)
    model = SimplifiedModelSpace.from_model(space).freeze({**space.plain(), 'tuned': 1})
    network = build_network(model, 0)
    with GradientKernelEvaluator(DATA).gradients(network) as gradients:
        assert set(gradients.parameters) == trained_names(network)
        names = set(gradients.mean())
    assert any('encoder.layer.2' in name for name in names)
    assert not any('encoder.layer.1' in name or 'embeddings' in name for name in names)


def test_reset_parameters_begins_anew(bert):
    space = TextClassifierSpace(bert, 3)
    model = SimplifiedModelSpace.from_model(space).freeze({**space.plain(), 'edge_0_2': 'attention', 'skip': 'add'})
    network = model.executable_model()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    states = []
    for seed in (0, 1, 0):
        with seeded(seed):
            network.reset_parameters()
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    pretrained = load_encoder(bert).state_dict()
    for name, value in pretrained.items():
        if 'pooler' not in name:
            assert torch.equal(states[0][f'encoder.model.{name}'], value)
    same = {name for name in states[0] if torch.equal(states[0][name], states[1][name])}
    assert all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert 'classifier.weight' not in same and not any('in_proj_weight' in name for name in same)


# Layers.


def sampled(space, seed):
    return random_models(space, 1, seed)[0]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_padding_and_other_texts_do_not_matter(space, seed):
    network = build_network(sampled(space, seed), seed).eval()
    together = network(TOKENS)
    assert together.shape == (4, 3) and torch.isfinite(together).all()
    for i, row in enumerate(TOKENS):
        alone = row[None, :, : int((row[1] > 0).sum())]
        torch.testing.assert_close(network(alone)[0], together[i], rtol=2e-3, atol=1e-4)


def test_every_option_of_every_choice(bert):
    space = TextClassifierSpace(bert, 3)
    model = SimplifiedModelSpace.from_model(space)
    base = {**space.plain(), 'edge_0_1': 'identity', 'edge_1_2': 'identity', 'skip': 'add'}
    for label, choice in model.simplify().items():
        for option in choice.values:
            network = build_network(model.freeze({**base, label: option}), 0).train()
            loss = nn.functional.cross_entropy(network(TOKENS), DATA[1])
            loss.backward()
            assert torch.isfinite(loss)
            assert network.classifier.weight.grad.abs().sum() > 0, (label, option)


@pytest.mark.parametrize('name', [name for name in OPERATIONS])
def test_operations_on_padded_texts_are_those_on_each_alone(name):
    torch.manual_seed(0)
    operation = OPERATIONS[name](8).eval()
    tokens, mask = torch.randn(3, 7, 8), torch.arange(7) < torch.tensor([[7], [4], [1]])
    together = operation(tokens, mask)
    for i, n in enumerate((7, 4, 1)):
        alone = operation(tokens[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool))
        torch.testing.assert_close(together[i, :n], alone[0], rtol=1e-4, atol=1e-5)


def test_the_recurrent_layer_reads_in_both_directions():
    torch.manual_seed(0)
    layer, tokens = Recurrent(6).double(), torch.randn(1, 5, 6, dtype=torch.float64)
    outputs = layer(tokens, torch.ones(1, 5, dtype=torch.bool))
    normed = layer.norm(tokens)
    against = layer.against(normed.flip(1))[0].flip(1)
    torch.testing.assert_close(outputs, torch.cat([layer.along(normed)[0], against], 2))


@pytest.mark.parametrize('name', list(POOLINGS))
def test_poolings_see_the_tokens_of_the_mask_alone(name):
    torch.manual_seed(0)
    pool, tokens = POOLINGS[name](8), torch.randn(2, 6, 8)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    full = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(pool(tokens, mask)[0], pool(tokens[:1, 2:5], full)[0])
    expected = {'first': tokens[1, 0], 'mean': tokens[1, :2].mean(0), 'max': tokens[1, :2].amax(0)}
    if name in expected:
        torch.testing.assert_close(pool(tokens, mask)[1], expected[name])


@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5),
    start=st.sampled_from([4, None]),
)
def test_separated_against_taking_each_text_apart(lengths, start):
    tokens = texts(lengths)
    ids, sentence = separated(*tokens.unbind(1), start)
    assert len(ids) == 2 * len(lengths) and set(sentence.unique().tolist()) <= {0, 1}
    for row, (one, other) in zip(tokens, zip(ids.chunk(2)[0], ids.chunk(2)[1])):
        first, second = row[0][row[1] == 1].tolist(), row[0][row[1] == 2].tolist()
        second = second if start is None else [start, *second]
        for got, expected in ((one, first), (other, second)):
            assert got.tolist() == expected + [0] * (len(got) - len(expected))
    longest = int((sentence > 0).sum(1).max())
    assert ids.shape[1] == longest


# What the search does with the networks.


def test_the_builder_gives_the_same_networks(space):
    builder = NetworkBuilder(space, 3)
    for model in random_models(space, 20, 1):
        one, other = builder.network(model.sample), build_network(model, 3)
        assert trained_names(one) == trained_names(other)
        assert [module.training for module in one.modules()] == [module.training for module in other.modules()]
        assert all(torch.equal(p, q) for p, q in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
        assert pointers(one.encoder.model) == pointers(other.encoder.model)
    assert builder._misses <= builder.patience  # it did not fall back on constructing each of them


def test_identical_networks_are_recognised_without_spoiling_the_weights(bert, space):
    before = [p.clone() for p in load_encoder(bert).parameters()]
    identity = Identity(space, Minibatch(*DATA))
    base = TextClassifierSpace(bert, 3).plain()
    same = {**base, 'mix': 'mean', 'edge_0_1': 'conv-3'}  # a node that leads nowhere
    other = {**base, 'pooling': 'mean'}
    prints = [identity.fingerprint(sample) for sample in (base, same, other)]
    assert prints[0] is not None and prints[0] == prints[1] != prints[2]
    assert all(torch.equal(p, q) for p, q in zip(before, load_encoder(bert).parameters()))


def test_all_scores_are_numbers_or_say_why_not(space):
    data = (TOKENS.repeat(2, 1, 1), DATA[1].repeat(2))
    for model in random_models(space, 2, 4):
        network = build_network(space.freeze({**model.sample, 'mix': 'weighted', 'layers': '3'}), 0)  # a scalar parameter
        for name in {*score_names()} - {*TARGETS}:  # they need more samples
            try:
                assert math.isfinite(GradientKernelEvaluator(data, name, 8).score(network)), name
            except ScoringError as error:
                assert str(error)


@pytest.mark.parametrize('kind, pair', [('bert', 'joint'), ('bert', 'apart'), ('deberta-v2', 'align'), ('t5', 'compare')])
def test_gradients_of_samples_are_those_of_a_loop(folders, kind, pair):
    space = TextClassifierSpace(folders[kind], 3)
    sample = {**space.plain(), 'pair': pair, 'match': 'all', 'edge_0_1': 'recurrent', 'skip': 'add', 'tuned': 1}
    sample |= {'edge_1_2': 'attention', 'hidden': 32}
    network = build_network(SimplifiedModelSpace.from_model(space).freeze(sample), 0).double()
    with GradientKernelEvaluator(DATA).gradients(network) as gradients:
        mean, each = gradients.mean(), gradients.per_sample()
    network.eval()  # without dropout
    expected = gradients_of_samples(network, *DATA)
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    assert set(names) == set(each) == set(mean)
    for place, name in enumerate(names):
        g = torch.stack([sample[place] for sample in expected])
        torch.testing.assert_close(each[name], g, rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(mean[name], g.mean(0), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize('pair', ['joint', 'apart', 'align'])
def test_candidates_are_exported(bert, tmp_path, pair):
    space = TextClassifierSpace(bert, 3)
    sample = {**space.plain(), 'pair': pair, 'match': 'all', 'edge_0_1': 'recurrent', 'edge_1_2': 'identity'}
    network = SimplifiedModelSpace.from_model(space).freeze(sample).executable_model().eval()
    export(network, TOKENS, tmp_path / 'winner', formats=('program',))
    assert json.loads((tmp_path / 'winner' / 'winner.json').read_text())['batch'] == 'any'
    program = torch.export.load(tmp_path / 'winner' / 'winner.pt2').module()
    for tokens in (TOKENS, TOKENS[:1], TOKENS[[3, 0, 1, 2, 1]]):
        torch.testing.assert_close(program(tokens), network(tokens), rtol=1e-4, atol=1e-5)


def test_costs_can_be_measured(space):
    network = build_network(sampled(space, 2), 0)
    costs = measure(network, TOKENS, ('parameters', 'flops', 'memory'))
    assert all(value > 0 for value in costs.values())


def test_a_model_travels(space):
    model = sampled(space, 3)
    again = nni.load(nni.dump(model))
    assert again.sample == model.sample
    assert torch.equal(build_network(again, 0).eval()(TOKENS), build_network(model, 0).eval()(TOKENS))


# The space.


def size(space):
    return math.prod(len(choice.values) for choice in space.simplify().values())


def test_sizes_of_spaces(bert):
    assert size(TextClassifierSpace(bert, 2)) > 10**7
    one = TextClassifierSpace(
        bert,
        2,
        nodes=1,
        operations=['identity'],
        tuned=[3],
        layers=[1],
        mixes=['mean'],
        poolings=['first'],
        pairs=['joint'],
        matches=['none'],
        hidden=[load_encoder(bert).config.hidden_size],
        norms=['none'],
        activations=['tanh'],
        dropouts=[0.1],
    )
    assert size(one) == 2 and one.contains(one.plain())  # with and without skip
    narrow = TextClassifierSpace(
        bert,
        2,
        nodes=1,
        tuned=[0, 3],
        layers=[1, 3],
        mixes=['mean'],
        norms=['none', 'layer'],
        activations=['tanh'],
        dropouts=[0.1],
    )
    assert 10000 < size(narrow) < 100000
    assert narrow.contains(narrow.plain())
    single = TextClassifierSpace(bert, 2, sentences=1)
    assert not {'pair', 'match'} & {*single.simplify(), *single.plain()}
    alone = texts(LENGTHS)
    alone[:, 1].clamp_(max=1)
    assert build_network(sampled(SimplifiedModelSpace.from_model(single), 0), 0)(alone).shape == (4, 2)


def test_light_classifiers(folders):
    space = light_text_classifiers(folders['bert'], 2)
    choices = space.simplify()
    assert choices['tuned'].values == [0, 1] and all(len(choices[name].values) == 1 for name in ('edge_0_1', 'skip'))
    assert space.contains({**light_text_classifiers(folders['bert'], 2, tuned=[3]).plain(), 'tuned': 1})
    assert light_text_classifiers(folders['albert'], 2).simplify()['tuned'].values == [0]
    assert 'pair' not in light_text_classifiers(folders['bert'], 2, sentences=1, tuned=[2]).simplify()


def test_the_plain_encoder_may_have_been_left_out(bert):
    with pytest.raises(ValueError, match="lacks tuned 3, pooling 'first'"):
        TextClassifierSpace(bert, 2, tuned=[0, 1], poolings=['mean']).plain()


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'num_labels': 1}, 'num_labels is 1: it has to be a whole number, 2 or more'),
        ({'sentences': 3}, 'a text has one sentence or two'),
        ({'nodes': 0}, 'nodes is 0'),
        ({'tuned': [7]}, r'tuned is \[7\]: it has to be different numbers of layers from 0 to 3'),
        ({'layers': [0]}, 'layers is'),
        ({'operations': ['conv-4']}, "edge_0_1 may be none, identity, conv-3.*not 'conv-4'"),
        ({'operations': []}, r'the options of edge_0_1 are \[\]'),
        ({'poolings': 'first'}, "the options of pooling are 'first': they have to be different ones of first, mean"),
        ({'mixes': ['mean', 'mean']}, 'they have to be different ones of'),
        ({'tuned': 3}, 'tuned is 3: it has to be different numbers'),
        ({'tuned': [1.0]}, r'tuned is \[1\.0\]'),
        ({'layers': [1, 1]}, r'layers is \[1, 1\]'),
        ({'hidden': [0]}, r'hidden is \[0\]: it has to be different whole numbers, 1 or more'),
        ({'matches': ['some']}, "match may be none, all, not 'some'"),
        ({'dropouts': [1.0]}, 'dropouts is'),
        ({'dropouts': [0.125]}, 'in whole percents'),
        ({'dropouts': 0.1}, 'dropouts is 0.1: it has to be different shares'),
    ],
)
def test_wrong_arguments_get_one_sentence(bert, arguments, message):
    with pytest.raises(ValueError, match=message):
        TextClassifierSpace(bert, **{'num_labels': 2, **arguments})


def test_the_table_of_trained_classifiers_comes_along():
    try:
        encoders.encoder_path('minilm')
    except ValueError as error:
        pytest.skip(str(error))
    from nni_knas.benchmark.base import load_benchmark

    for name, least, most in (('text-rte', 45, 70), ('text-mrpc', 60, 85)):
        benchmark = load_benchmark(name)
        assert len(benchmark.table) >= 60 and benchmark.table.valtest_acc.between(least, most).all()
        network = benchmark.network(benchmark.table.index[0], 0)
        assert network(TOKENS).shape == (4, 2)
