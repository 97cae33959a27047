"""Texts as tokens of the tiny encoders: pairs and single sentences, of which each class is easy to tell."""

from __future__ import annotations

import numpy as np

from nni_knas.text import TokenDataset


def pairs(count: int, seed: int) -> TokenDataset:
    """Pairs [CLS] a [SEP] b [SEP], of the class that b begins with a word of a."""
    random = np.random.default_rng(seed)
    ids, second, targets = [], [], []
    for i in range(count):
        one, other = (random.integers(6, 46, random.integers(2, 7)) for _ in range(2))
        other[0] = one[0] if i % 2 else other[0]
        ids.append(np.array([4, *one, 5, *other, 5], np.int32))
        second.append(len(one) + 2)
        targets.append(i % 2)
    lengths = np.array([len(each) for each in ids])
    return TokenDataset(np.concatenate(ids), np.array(second), lengths, np.array(targets), ['no', 'yes'], 2)


def singles(count: int, seed: int) -> TokenDataset:
    """Sentences [CLS] a [SEP], of the class that their words are among the later ones."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    ids = [np.array([4, *random.integers(6, 26, random.integers(2, 7)) + 20 * of, 5], np.int32) for of in targets]
    lengths = np.array([len(each) for each in ids])
    return TokenDataset(np.concatenate(ids), lengths.copy(), lengths, targets, ['no', 'yes'], 1)
