"""What a trial and a resumed run see of data that changed."""

from __future__ import annotations

import random

import nni
import numpy as np
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from processes import run_code
from searches import search
from spaces import tiny_kernel, train, vector_dataset
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from nni_knas import KNAS
from nni_knas.data import check_same_data, digest_of, digests_of, load_data
from nni_knas.runs import RankedEvaluator

N = 500
X, Y = torch.randn(N, 5, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3
DATA = TensorDataset(X, Y)


def splitting():
    return tuple(random_split(DATA, [400, 100]))


def overlapping():
    return Subset(DATA, range(400)), Subset(DATA, range(390, 500))


class Augmented(Dataset):
    def __init__(self, noise):
        self.noise = noise

    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i] + self.noise(), int(Y[i])


class TestDigest:
    def test_of_equal_data(self):
        assert digest_of(DATA) == digest_of(TensorDataset(X.clone(), Y.clone())) == digest_of(DataLoader(DATA, batch_size=7))

    @pytest.mark.parametrize(
        'other',
        [
            TensorDataset(X.flip(0), Y),
            TensorDataset(X, Y.roll(1)),
            Subset(DATA, range(N - 1)),
            Subset(DATA, torch.randperm(N, generator=torch.Generator().manual_seed(1)).tolist()),
            TensorDataset(1.1 * X, Y),
        ],
    )
    def test_of_other_data(self, other):
        assert digest_of(other) != digest_of(DATA)

    @pytest.mark.parametrize('noise', [lambda: float(torch.rand(())), np.random.rand, random.random])
    def test_random_transforms_are_the_same(self, noise):
        first = digest_of(Augmented(noise))
        before = torch.get_rng_state()
        noise()
        assert digest_of(Augmented(noise)) == first is not None
        torch.set_rng_state(before)
        digest_of(Augmented(noise))
        assert torch.equal(torch.get_rng_state(), before)
        assert digest_of(Augmented(lambda: 2 * noise())) != first

    def test_of_noise_of_its_own_the_targets_count(self):
        generator = np.random.default_rng()
        assert digest_of(Augmented(generator.random)) == digest_of(Augmented(generator.random)) is not None

    def test_is_the_same_in_another_process(self, fork_server, tmp_path):
        code = 'from nni_knas.data import load_data, digest_of; print(digest_of(load_data("digits", size=8).train))'
        assert run_code(tmp_path, code).stdout.split()[-1] == digest_of(load_data('digits', size=8).train)


class TestOwn:
    def test_parts_come_from_one_call(self):
        data = load_data('test_digest:splitting')
        parts = [{tuple(x.tolist()) for x, _ in part} for part in (data.train, data.validation)]
        assert len(parts[0]) == 400 and not parts[0] & parts[1]

    def test_parts_that_overlap_are_told(self, caplog):
        load_data('test_digest:overlapping')
        assert '10 samples are both in the training and in the validation part' in caplog.text


def evaluator_on(data):
    return FunctionalEvaluator(train_on, data=data)


def train_on(network, data):
    train(network)


SENTENCE = r'the data of TensorDataset differ from those that the search began with \(data\).*manual_seed\(0\)'


def test_a_trial_with_other_data_refuses():
    digests = digests_of(evaluator_on(vector_dataset()))
    assert list(digests) == ['data']
    check_same_data(digests, evaluator_on(vector_dataset()))
    ranked = RankedEvaluator(evaluator_on(vector_dataset(30)), 1, 0.0, 1, data=digests)
    with pytest.raises(ValueError, match=SENTENCE):
        ranked._execute(None)


def test_what_was_dumped_refuses_too():
    ranked = nni.load(nni.dump(RankedEvaluator(FunctionalEvaluator(train), 1, 0.0, 1, data={'data': 'abc'})))
    assert ranked.data == {'data': 'abc'}


def test_a_resumed_run_with_other_data_refuses(tmp_path):
    record = tmp_path / 'record.sqlite'
    search(KNAS(tiny_kernel(), 3, 1, record=record), tmp_path / 'a', evaluator=evaluator_on(vector_dataset()))
    with pytest.raises(ValueError, match=SENTENCE):
        search(KNAS(tiny_kernel(), 5, 1, record=record), tmp_path / 'b', evaluator=evaluator_on(vector_dataset(30)))
    search(KNAS(tiny_kernel(), 5, 1, record=record), tmp_path / 'c', evaluator=evaluator_on(vector_dataset()))
