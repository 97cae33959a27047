"""Minibatches from whatever holds the data."""

from __future__ import annotations

import math
import random
from collections import UserDict

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import Minibatch
from nni_knas.kernel.minibatch import check_data, check_samples, draw_minibatch

N = 20
X = torch.arange(N * 3, dtype=torch.float32).reshape(N, 3)
Y = torch.arange(N)


class Samples(Dataset):
    """A dataset of what a function makes of an index."""

    def __init__(self, function, n=N):
        self.function, self.n = function, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return self.function(i)


class Stream(IterableDataset):
    def __init__(self, n=N):
        self.n = n

    def __iter__(self):
        return ((X[i], Y[i]) for i in range(self.n))


def as_dict(i):
    return {'input_ids': X[i].long(), 'attention_mask': torch.ones(3), 'labels': i}


PAIRS = {
    'tensors': (X, Y),
    'list': [X, Y],
    'numpy': (X.numpy(), Y.numpy()),
    'TensorDataset': TensorDataset(X, Y),
    'Subset': Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), range(N)),
    'Dataset of numpy': Samples(lambda i: (X[i].numpy(), int(i))),
    'DataLoader': DataLoader(TensorDataset(X, Y), batch_size=3),
    'shuffled DataLoader': DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True),
}


def assert_matched(minibatch, size):
    """Inputs and targets belong together, each sample is there once."""
    assert minibatch.size == size == len(minibatch.targets)
    assert torch.equal(minibatch.inputs, X[minibatch.targets])
    assert len(set(minibatch.targets.tolist())) == size


@pytest.mark.parametrize('name', PAIRS)
def test_draw_is_without_replacement_and_by_the_seed(name):
    data = PAIRS[name]
    first = draw_minibatch(data, 8, seed=1)
    assert_matched(first, 8)
    assert isinstance(first, Minibatch)
    assert_matched(draw_minibatch(data, N - 1, seed=1), N - 1)
    assert torch.equal(draw_minibatch(data, 8, seed=1).targets, first.targets)
    assert not torch.equal(draw_minibatch(data, 8, seed=2).targets, first.targets)


@pytest.mark.parametrize('size', [N, N + 1, 10 * N])
@pytest.mark.parametrize('name', PAIRS)
def test_all_are_taken_in_their_order(name, size):
    minibatch = draw_minibatch(PAIRS[name], size, seed=1)
    assert torch.equal(minibatch.targets, Y)
    assert torch.equal(minibatch.inputs, X)


def test_same_draw_from_all_kinds_of_the_same_data():
    drawn = [draw_minibatch(data, 8, seed=3).targets.tolist() for data in PAIRS.values()]
    assert all(each == drawn[0] for each in drawn)


@pytest.mark.parametrize('name', PAIRS)
def test_global_random_state_is_untouched(name):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    draw_minibatch(PAIRS[name], 8, seed=1)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


@pytest.mark.parametrize(
    'noise', [lambda: float(torch.rand(())), np.random.rand, random.random], ids=['torch', 'numpy', 'python']
)
def test_random_transforms_are_seeded(noise):
    data = Samples(lambda i: (X[i] + noise(), int(i)))
    first = draw_minibatch(data, 8, seed=1)
    assert torch.equal(draw_minibatch(data, 8, seed=1).inputs, first.inputs)
    shift = first.inputs - X[first.targets]
    assert len(set(shift[:, 0].tolist())) > 1
    assert not torch.equal(draw_minibatch(data, N, seed=2).inputs, draw_minibatch(data, N, seed=1).inputs)


def test_failing_dataset_leaves_the_random_state():
    def fail(i):
        torch.rand(3)
        raise OSError('no such image')

    before = torch.get_rng_state()
    with pytest.raises(
        ValueError, match=r'^sample 14 of the data cannot be read: OSError: no such image in test_minibatch.py, line'
    ):
        draw_minibatch(Samples(fail), 4, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


# Structures.


def test_tuples_and_dicts_of_tensors():
    minibatch = draw_minibatch(({'a': X, 'b': (X * 2, Y.numpy())}, {'class': Y, 'value': X[:, 0]}), 8, seed=1)
    chosen = minibatch.targets['class']
    assert minibatch.size == 8 and len(set(chosen.tolist())) == 8
    assert torch.equal(minibatch.inputs['a'], X[chosen])
    assert torch.equal(minibatch.inputs['b'][0], X[chosen] * 2)
    assert torch.equal(minibatch.inputs['b'][1], chosen)
    assert torch.equal(minibatch.targets['value'], X[chosen, 0])


def test_samples_of_three_elements():
    minibatch = draw_minibatch(TensorDataset(X, X * 2, Y), 8, seed=1)
    assert isinstance(minibatch.inputs, tuple)
    first, second = minibatch.inputs
    assert torch.equal(first, X[minibatch.targets]) and torch.equal(second, X[minibatch.targets] * 2)


@pytest.mark.parametrize('wrap', [dict, UserDict])
def test_samples_that_are_dicts(wrap):
    """As the text datasets and collators of Hugging Face give them."""
    loader = DataLoader(
        Samples(as_dict),
        batch_size=4,
        collate_fn=lambda samples: wrap(
            {key: torch.stack([torch.as_tensor(each[key]) for each in samples]) for key in samples[0]}
        ),
    )
    for data in (Samples(as_dict), loader):
        minibatch = draw_minibatch(data, 8, seed=1)
        assert set(minibatch.inputs) == {'input_ids', 'attention_mask'}
        assert torch.equal(minibatch.inputs['input_ids'], X[minibatch.targets].long())
        assert minibatch.size == 8


@pytest.mark.parametrize('key', ['labels', 'label', 'targets', 'target', 'y'])
def test_names_of_targets_in_dicts(key):
    minibatch = draw_minibatch(Samples(lambda i: {'x': X[i], key: int(i)}), 8, seed=1)
    assert torch.equal(minibatch.inputs['x'], X[minibatch.targets])


def test_inputs_that_are_dicts_with_a_target_beside():
    minibatch = draw_minibatch(Samples(lambda i: ({'x': X[i], 'scale': 2 * i}, int(i))), 8, seed=1)
    assert torch.equal(minibatch.inputs['x'], X[minibatch.targets])
    assert torch.equal(minibatch.inputs['scale'], 2 * minibatch.targets)


@pytest.mark.parametrize(
    ('sample', 'sentence'),
    [
        (lambda i: {'x': X[i]}, 'dicts without targets: name them one of labels, label'),
        (lambda i: X[i], r'samples have to be pairs \(input, target\)'),
        (lambda i: (X[i],), r'samples have to be pairs \(input, target\)'),
    ],
    ids=['dict', 'tensor', 'single'],
)
def test_samples_without_targets(sample, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw_minibatch(Samples(sample), 8, seed=1)


# Loaders.


def padded(samples):
    width = max(len(x) for x, _ in samples)
    return (
        torch.stack([torch.cat([x, x.new_full((width - len(x),), -1)]) for x, _ in samples]),
        torch.tensor([y for _, y in samples]),
    )


def of_lengths():
    return Samples(lambda i: (torch.ones(1 + i % 4), int(i)))


class Padded(Samples):
    """A dataset that brings its own collate function."""

    collate_fn = staticmethod(padded)

    def __init__(self):
        super().__init__(of_lengths().function)


@pytest.mark.parametrize(
    'data',
    [DataLoader(of_lengths(), batch_size=2, collate_fn=padded), Padded(), Subset(Subset(Padded(), range(N)), range(N))],
    ids=['loader', 'dataset', 'part'],
)
def test_collate_function_is_used(data):
    minibatch = draw_minibatch(data, N, seed=1)
    assert minibatch.inputs.shape == (N, 4)
    assert (minibatch.inputs > 0).sum(1).tolist() == [1 + i % 4 for i in range(N)]


def test_collate_function_that_is_none():
    data = Samples(lambda i: (X[i], int(i)))
    data.collate_fn = None
    assert_matched(draw_minibatch(data, 8, seed=1), 8)


ORDERED = [7, 3, 11, 5, 2, 19]


@pytest.mark.parametrize(
    'loader',
    [
        DataLoader(TensorDataset(X, Y), batch_size=4, sampler=ORDERED),
        DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(ORDERED, 4, False)),
        DataLoader(TensorDataset(X, Y), batch_sampler=[ORDERED[:1], ORDERED[1:4], ORDERED[4:]]),
    ],
    ids=['sampler', 'batch sampler', 'uneven batches'],
)
@pytest.mark.parametrize('size', [3, 5, 6, 50])
def test_order_of_an_own_sampler_is_kept(loader, size):
    minibatch = draw_minibatch(loader, size, seed=1)
    assert minibatch.targets.tolist() == ORDERED[:size]
    assert torch.equal(minibatch.inputs, X[ORDERED[:size]])


@pytest.mark.parametrize(
    'sampler',
    [SubsetRandomSampler(range(10)), WeightedRandomSampler([1.0] * 10 + [0.0] * 10, N)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_random_sampler_of_the_user_is_seeded(sampler):
    loader = DataLoader(TensorDataset(X, Y), batch_size=3, sampler=sampler)
    first = draw_minibatch(loader, 8, seed=1).targets
    assert first.max() < 10 and len(first) == 8
    torch.rand(5)
    assert torch.equal(draw_minibatch(loader, 8, seed=1).targets, first)
    assert not torch.equal(draw_minibatch(loader, 8, seed=2).targets, first)


@pytest.mark.parametrize(
    'data',
    [Stream(), DataLoader(Stream(), batch_size=3), DataLoader(Stream(), batch_size=50)],
    ids=['dataset', 'small batches', 'one batch'],
)
@pytest.mark.parametrize('size', [1, 7, N, N + 5])
def test_streams_give_their_first_samples(data, size):
    minibatch = draw_minibatch(data, size, seed=1)
    assert torch.equal(minibatch.targets, Y[:size])
    assert torch.equal(minibatch.inputs, X[:size])


def test_stream_is_read_no_further_than_needed():
    class Endless(IterableDataset):
        def __iter__(self):
            return ((torch.ones(2), i) for i in iter(int, 1))

    assert draw_minibatch(DataLoader(Endless(), batch_size=4), 10, seed=0).size == 10


def test_streams_of_dicts_are_joined():
    class Dicts(IterableDataset):
        def __iter__(self):
            return (as_dict(i) for i in range(N))

    minibatch = draw_minibatch(DataLoader(Dicts(), batch_size=3), 8, seed=0)
    assert torch.equal(minibatch.inputs['input_ids'], X[:8].long())
    assert minibatch.targets.tolist() == list(range(8))


def test_empty_stream():
    with pytest.raises(ValueError, match='the loader gave no batch: give a torch Dataset'):
        draw_minibatch(Stream(0), 4, seed=0)


def test_loader_with_a_plain_sampler_draws_from_all_of_its_data():
    loader = DataLoader(TensorDataset(X, Y), batch_size=3, sampler=SequentialSampler(X))
    assert_matched(draw_minibatch(loader, 8, seed=1), 8)
    assert int(draw_minibatch(loader, 8, seed=1).targets.max()) >= 8


# A minibatch.


def test_part_and_size():
    minibatch = Minibatch({'x': X, 'scale': torch.tensor(2.0), 'name': 'a'}, (Y, X))
    part = minibatch.part(2, 5)
    assert (minibatch.size, part.size) == (N, 3)
    assert torch.equal(part.inputs['x'], X[2:5]) and torch.equal(part.targets[1], X[2:5])
    assert part.inputs['scale'] == 2 and part.inputs['name'] == 'a'


def test_only_floating_point_changes_its_type():
    moved = Minibatch((X, 'text'), Y).to(torch.device('cpu'), torch.float64)
    assert moved.inputs[0].dtype == torch.float64 and moved.inputs[1] == 'text' and moved.targets.dtype == torch.int64
    assert Minibatch(X, Y).to(torch.device('cpu')).inputs.dtype == torch.float32


# Whether there are data at all.


@pytest.mark.parametrize('data', [*PAIRS.values(), Stream(), ({'a': X}, (Y, Y)), DataLoader(Stream())])
def test_data_is_accepted(data):
    check_data(data)


@pytest.mark.parametrize(
    ('data', 'error', 'sentence'),
    [
        (None, ValueError, 'the kernel has no data: give a torch Dataset, a DataLoader, or a pair'),
        ((X[:0], Y[:0]), ValueError, 'the one given is empty: give a torch Dataset'),
        ((np.zeros((0, 2)), np.zeros(0)), ValueError, 'the one given is empty'),
        (TensorDataset(X[:0], Y[:0]), ValueError, 'the one given is empty'),
        (Samples(as_dict, 0), ValueError, 'the one given is empty'),
        (DataLoader(TensorDataset(X[:0], Y[:0])), ValueError, 'the one given is empty'),
        ((X, Y[:5]), ValueError, r'the same number of samples, not \[20\] and \[5\]'),
        (({'a': X, 'b': X[:3]}, Y), ValueError, r'the same number of samples, not \[3, 20\] and \[20\]'),
        ((X, Y, Y), ValueError, 'the kernel was given 3 things as data'),
        ((X,), ValueError, 'the kernel was given 1 things as data'),
        ((), ValueError, 'the kernel was given 0 things as data'),
        ((X, None), TypeError, 'inputs and targets have to be tensors'),
        (([1, 2], [3, 4]), TypeError, 'inputs and targets have to be tensors'),
        (X, TypeError, 'cannot draw data from Tensor: give'),
        ('cifar10', TypeError, 'cannot draw data from str: give'),
        (3, TypeError, 'cannot draw data from int: give'),
    ],
)
def test_data_is_refused(data, error, sentence):
    with pytest.raises(error, match=sentence):
        check_data(data)


# What is not finite.


def test_what_is_not_finite_is_named_by_its_place_in_the_data():
    inputs = torch.zeros(1000, 6).index_fill_(0, torch.tensor([999]), math.inf)
    for data in ((inputs, torch.zeros(1000).long()), TensorDataset(inputs, torch.zeros(1000).long())):
        with pytest.raises(ValueError, match=r'^sample 999 of the data has inf in its inputs \(256 of 1000 samples, spread'):
            check_samples(data, draw_minibatch(data, 4, seed=0), seed=0)


def test_missing_targets_are_left_to_a_loss_of_the_users_own():
    data = torch.zeros(9, 6), torch.full((9,), math.nan)
    with pytest.raises(ValueError, match=r'^sample 0 of the data has nan in its targets: put numbers'):
        _ = GradientKernelEvaluator(data).minibatch
    own = GradientKernelEvaluator(data, loss=lambda outputs, targets: outputs.sum())
    assert own.minibatch.size == 9


def test_looking_at_samples_leaves_the_random_state():
    before, data = torch.get_rng_state(), Samples(lambda i: (torch.rand(3), 0))
    check_samples(data, draw_minibatch(data, 4, seed=1), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
