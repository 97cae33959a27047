"""Short texts go through an encoder by themselves, which spares padding and changes nothing of theirs."""

from __future__ import annotations

import pytest
import torch
from text_encoders import SIZES, save_encoder

from nni_knas.encoders import PretrainedEncoder, layers_of
from nni_knas.encoders.lengths import by_length

pytest.importorskip('transformers')

LENGTHS = [9, 2, 3, 8, 2, 10]


def texts(lengths, seed=0):
    ids = torch.randint(5, 30, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    sentence = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * sentence, sentence


def shapes_of(lengths):
    seen = []

    def compute(ids, sentence, more):
        seen.append(tuple(ids.shape))
        assert sentence.shape == ids.shape == more.shape[:2]
        return [(ids * sentence)[..., None] + more, more]

    ids, sentence = texts(lengths)
    more = torch.randn(*ids.shape, 3)
    one, other = by_length(compute, ids, sentence, more)
    there = sentence > 0
    assert torch.equal(one[there], (ids[..., None] + more)[there]) and torch.equal(other[there], more[there])
    return seen


@pytest.mark.parametrize(
    ('lengths', 'shapes'),
    [
        (LENGTHS, [(3, 3), (3, 10)]),
        ([10, 2, 10, 2], [(2, 2), (2, 10)]),
        ([10, 9, 8, 9], [(4, 10)]),
        ([7], [(1, 7)]),
        ([4, 4, 4], [(3, 4)]),
    ],
)
def test_short_texts_have_a_batch_of_their_own_where_it_is_worth_it(lengths, shapes):
    assert shapes_of(lengths) == shapes


@pytest.mark.parametrize('kind', SIZES)
def test_every_kind_of_encoder_makes_the_same_of_texts_and_learns_the_same(kind, tmp_path):
    encoder = PretrainedEncoder(save_encoder(tmp_path, kind), 3).double()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids, sentence = texts(LENGTHS)

    def seen(training):
        encoder.train(training)
        for layer in layers_of(encoder.model, 3):  # attention has a dropout of its own
            layer.eval()
        encoder.zero_grad()
        states = [state[sentence > 0] for state in encoder(ids, sentence)]
        sum((state**3).sum() for state in states).backward()
        return states, [p.grad for p in encoder.parameters() if p.grad is not None]

    whole, parted = seen(False), seen(True)
    for one, other in zip(whole, parted):
        assert len(one) == len(other) > 0
        for a, b in zip(one, other):
            torch.testing.assert_close(a, b)
