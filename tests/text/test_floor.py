"""The floor: a logistic regression on the frozen encoder's sentences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_texts import pairs, singles
from sklearn.linear_model import LogisticRegression
from text_encoders import save_encoder

from nni_knas.encoders import PretrainedEncoder
from nni_knas.text import TextData, floor, states

pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp('bert'))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of each test's own."""
    monkeypatch.setattr(states, 'CACHE', tmp_path / 'cache')


def task(make, train=60, dev=20):
    parts = [make(count, seed) for seed, count in enumerate((train, 20, dev))]
    return TextData(*parts, parts[0].classes, parts[0].sentences)


def features(texts, encoder):
    """The same, sentence by sentence."""
    found = []
    for tokens, _ in (texts[i] for i in range(len(texts))):
        parts = [tokens[0][tokens[1] == number] for number in range(1, texts.sentences + 1)]
        parts = [part if part[0] == 4 else torch.tensor([4, *part]) for part in parts]
        with torch.no_grad():
            u, *v = (encoder(part[None], torch.ones_like(part[None]))[-1][0].mean(0).numpy() for part in parts)
        found.append(np.concatenate([u, v[0], abs(u - v[0]), u * v[0]]) if v else u)
    return np.array(found)


@pytest.mark.parametrize('make', [pairs, singles])
def test_against_taking_each_sentence_by_itself(bert, make):
    data = task(make)
    found = floor(data, bert)
    encoder = PretrainedEncoder(bert, 0).eval()
    train, test = features(data.train, encoder), features(data.test, encoder)
    mean, deviation = train.mean(0), train.std(0)
    expected = LogisticRegression(C=found.strength, max_iter=1000).fit((train - mean) / deviation, data.train.targets)
    predicted = expected.predict((test - mean) / deviation)
    assert np.mean(predicted == found.predicted) >= 0.95  # 16 bits may change a text that is on the border
    assert found.accuracy == np.mean(np.array(found.predicted) == data.test.targets)


def test_it_learns_what_the_sentences_say(bert):
    found = floor(task(singles, train=300, dev=60), bert)
    assert found.accuracy >= 0.8 and found.f1 >= 0.8  # of random weights, by chance a half


def test_what_cannot_be_told_gets_one_sentence(bert):
    data = task(pairs)
    with pytest.raises(ValueError, match='the floor is told on a dev split, which these data do not have'):
        floor(data._replace(test=None), bert)
    with pytest.raises(ValueError, match='a class has a single text to train on: the floor cannot be cross-validated'):
        floor(task(pairs, train=3), bert)
