"""What frozen encoders make of a minibatch is computed once for all candidates that are scored, and is the same."""

from __future__ import annotations

import pytest
import torch
from nni.nas.space import SimplifiedModelSpace
from text_encoders import Folders

from nni_knas import GradientKernelEvaluator
from nni_knas.encoders import PretrainedEncoder, encoder, remembered
from nni_knas.networks import build_network, measure
from nni_knas.spaces import TextClassifierSpace

pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp)['bert']


@pytest.fixture
def passes(monkeypatch):
    """How many texts went through a whole encoder, pass by pass."""
    seen = []
    original = encoder._hidden_states

    def count(model, takes_types, ids, sentence):
        if encoder.layers_of(model, model.config.num_hidden_layers):  # not the top ones alone
            seen.append(len(ids))
        return original(model, takes_types, ids, sentence)

    monkeypatch.setattr(encoder, '_hidden_states', count)
    monkeypatch.setattr(encoder, '_FED', {})
    monkeypatch.setattr(remembered, '_STATES', type(remembered._STATES)())
    return seen


def tokens(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, 46, (n, 9), generator=generator)
    return torch.stack([ids, torch.tensor([1] * 4 + [2] * 5).expand(n, -1)], 1)


DATA = tokens(6), torch.arange(6) % 2


def networks(bert, **choices):
    space = TextClassifierSpace(bert, 2)
    model = SimplifiedModelSpace.from_model(space)
    base = {**space.plain(), 'edge_0_1': 'feed-forward', 'edge_1_2': 'identity', 'tuned': 0, **choices}
    return [build_network(model.freeze({**base, 'pooling': pooling}), 0) for pooling in ('first', 'mean', 'max')]


def scores_without(kernel, candidates, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(PretrainedEncoder, '_shares_states', lambda *arguments: False)
        return [kernel.judge(network) for network in candidates]


@pytest.mark.parametrize('pair', ['joint', 'apart'])
def test_once_for_all_candidates(bert, passes, pair, monkeypatch):
    candidates, kernel = networks(bert, pair=pair, match='all'), GradientKernelEvaluator(DATA)
    judgements = [kernel.judge(network) for network in candidates]
    assert passes == [6 if pair == 'joint' else 12]
    assert [kernel.judge(network) for network in candidates] == judgements and len(passes) == 1
    assert judgements == scores_without(kernel, candidates, monkeypatch) and len(passes) == 4


def test_other_texts_and_other_encoders_are_others(bert, passes, tmp_path_factory):
    candidate, kernel = networks(bert)[0], GradientKernelEvaluator(DATA)
    kernel.score(candidate)
    GradientKernelEvaluator((tokens(6, seed=1), DATA[1])).score(candidate)
    other = Folders(tmp_path_factory.mktemp)['bert']
    kernel.score(networks(other)[0])
    assert passes == [6, 6, 6]


@pytest.mark.parametrize('pair', ['joint', 'apart'])
@pytest.mark.parametrize('score', ['two-way-rank', 'gradient-norm', 'gram-entropy'])
def test_below_what_is_tuned_once_for_all(bert, passes, pair, score, monkeypatch):
    """The top layers are fed with what frozen ones are known to make; the verdict is the same to the last bit."""
    kernel = GradientKernelEvaluator(DATA, score)
    candidates = [each for tuned in (1, 2) for each in networks(bert, tuned=tuned, pair=pair)]
    before = kernel.score(networks(bert, pair=pair)[0])
    count = len(passes)
    judgements = [kernel.judge(network) for network in candidates]
    assert score == 'gram-entropy' or len(passes) == count  # which is mapped over the texts one by one
    assert kernel.score(networks(bert, pair=pair)[0]) == before
    expected = scores_without(kernel, candidates, monkeypatch)
    assert [each.panel for each in judgements] == [each.panel for each in expected]
    assert [each.score for each in judgements] == pytest.approx([each.score for each in expected], rel=1e-5)


def test_an_encoder_that_was_scored_gives_all_its_states(passes, tmp_path_factory):
    """Also where the first pass of all was one of its top layers."""
    network = networks(Folders(tmp_path_factory.mktemp)['bert'], tuned=1)[0]
    GradientKernelEvaluator(DATA).score(network)
    assert len(network.encoder(*network.encoder_inputs(DATA[0]))) == network.encoder.layers + 1


def test_all_that_is_tuned_is_computed_anew(bert, passes):
    kernel = GradientKernelEvaluator(DATA)
    for candidate in networks(bert, tuned=3):
        kernel.score(candidate)
    assert passes == [6, 6, 6]


@pytest.mark.parametrize('kind', ['t5', 'roberta', 'distilbert', 'deberta-v2'])
def test_every_kind_of_encoder(kind, passes, tmp_path_factory, monkeypatch):
    """Also those whose top layers need more than the state below them."""
    folder = Folders(tmp_path_factory.mktemp)[kind]
    space = SimplifiedModelSpace.from_model(TextClassifierSpace(folder, 2, nodes=1))
    network = build_network(space.freeze({**TextClassifierSpace(folder, 2, nodes=1).plain(), 'tuned': 1}), 0)
    kernel = GradientKernelEvaluator(DATA)
    assert kernel.judge(network) == scores_without(kernel, [network], monkeypatch)[0]
    assert list(encoder._FED.values()) == [kind != 't5']


def test_only_while_networks_are_scored(bert, passes):
    candidate, kernel = networks(bert)[0], GradientKernelEvaluator(DATA)
    before = measure(candidate, DATA[0], ('flops',))
    kernel.score(candidate)
    assert measure(candidate, DATA[0], ('flops',)) == before
    candidate(DATA[0])
    assert len(passes) >= 4


def test_networks_in_double_precision_have_their_own(bert, passes):
    candidate, kernel = networks(bert)[0], GradientKernelEvaluator(DATA)
    kernel.score(candidate)
    kernel.score(candidate.double())
    assert passes == [6, 6]


def test_gradients_of_samples_are_those_without(bert, passes, monkeypatch):
    candidates, kernel = networks(bert), GradientKernelEvaluator(DATA, 'gram-entropy')
    judgements = [kernel.score(network) for network in candidates]
    expected = [judgement.score for judgement in scores_without(kernel, candidates, monkeypatch)]
    assert judgements == pytest.approx(expected, rel=1e-5)


def test_room_is_limited(passes, monkeypatch):
    states = (torch.zeros(4, 5),)
    monkeypatch.setattr(remembered, 'ROOM', 2 * 80)
    computed = []

    def compute(ids, sentence):
        computed.append(int(ids[0, 0]))
        return states

    for number in (1, 2, 1, 3, 1, 2):
        remembered.remembered('', torch.full((2, 3), number), torch.ones(2, 3), compute)
    assert computed == [1, 2, 3, 2]


def test_frozen_layers_leave_no_trace(bert):
    kernel = GradientKernelEvaluator(DATA)
    layers = [kernel.statistics(networks(bert, tuned=tuned)[0])['layers'] for tuned in (0, 1, 2)]
    assert layers[0] == 4  # two of the feed-forward operation, merge and classifier
    assert layers[1] - layers[0] == layers[2] - layers[1] == 6
