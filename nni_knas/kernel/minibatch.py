"""Draw the minibatch that candidates are scored on, from whatever a PyTorch user has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset, default_collate

from nni_knas.gradients import Minibatch, seeded
from nni_knas.kernel.samples import check_finite, is_float, split_batch, take, take_of_pair

__all__ = ['check_data', 'check_samples', 'draw_minibatch']

WANTED = 'give a torch Dataset, a DataLoader, or a pair (inputs, targets) of tensors'
LOOKED_AT = 256
"""Samples of the data that are looked at beside the minibatch."""


def check_data(data: Any) -> None:
    """Raise ``ValueError`` or ``TypeError``, with a sentence that says what to give, where there is no data."""
    if data is None:
        raise ValueError(f'the kernel has no data: {WANTED}')
    if isinstance(data, (Dataset, DataLoader)):
        try:
            empty = _length_of(data) == 0
        except (TypeError, NotImplementedError):  # a stream has no length
            empty = False
    elif isinstance(data, (tuple, list)):
        if len(data) != 2:
            raise ValueError(f'the kernel was given {len(data)} things as data: {WANTED}')
        for part in data:
            _check_leaves(part)
        inputs, targets = (_sample_counts(part) for part in data)
        if not inputs or not targets:
            raise TypeError(f'inputs and targets have to be tensors, or tuples or dicts of tensors: {WANTED}')
        if len(inputs | targets) > 1:
            raise ValueError(
                f'inputs and targets have to be of the same number of samples, not {sorted(inputs)} and {sorted(targets)}'
            )
        empty = inputs == {0}
    else:
        raise TypeError(f'the kernel cannot draw data from {type(data).__name__}: {WANTED}')
    if empty:
        raise ValueError(f'the kernel has no data, the one given is empty: {WANTED}')


def draw_minibatch(data: Any, size: int, seed: int) -> Minibatch:
    """Draw ``size`` samples without replacement, or take all, in their order, where there are no more than that.

    The same data, size and seed give the same minibatch; random transforms of a dataset are seeded too. A dataset may have a
    ``collate_fn`` of its own, which a ``Subset`` of it uses too. A DataLoader's dataset and ``collate_fn`` are used; its own
    order only where it has a sampler other than torch's plain ones.

    Parameters
    ----------
    data
        A ``Dataset`` of ``(input, target)`` pairs, of tuples whose last is the target, or of dicts with a ``labels``
        entry; a ``DataLoader`` of such; or a pair ``(inputs, targets)`` of tensors, or tuples or dicts of them.
    size
        Largest number of samples.
    seed
        Seed of the draw.
    """
    with seeded(seed):
        if _is_pair(data):
            return take_of_pair(data, _choose_places(max(_sample_counts(data[0])), size, seed))
        dataset, collate = _source_of(data)
        if dataset is None:
            return _collect_samples(data if isinstance(data, DataLoader) else DataLoader(data, batch_size=size), size)
        return take(dataset, collate, _choose_places(_length_of(dataset), size, seed))


def check_samples(data: Any, minibatch: Minibatch, seed: int, *, targets: bool = True) -> None:
    """Raise ``ValueError``, which names the sample, where the minibatch or a sample of all other data is not finite.

    Parameters
    ----------
    data, minibatch, seed
        What :func:`draw_minibatch` was given, and what it gave.
    targets
        Whether targets are looked at, too. A loss of the user's own may well make something of those that are missing.
    """
    parts = ('inputs', 'targets') if targets else ('inputs',)
    if not any(is_float(leaf) for part in parts for leaf in tree_flatten(getattr(minibatch, part))[0]):
        return
    pair = _is_pair(data)
    dataset, collate = (data, default_collate) if pair else _source_of(data)
    if dataset is None:  # a stream, of which no more than the minibatch is there
        check_finite(minibatch, range(minibatch.size), parts, '')
        return
    count = max(_sample_counts(data[0])) if pair else _length_of(dataset)
    check_finite(minibatch, _choose_places(count, minibatch.size, seed), parts, '')
    spread = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int))
    looked = f' ({len(spread)} of {count} samples, spread over the data, were looked at)'
    with seeded(seed):
        for places in np.array_split(spread, -(-len(spread) // 16)):
            samples = take_of_pair(data, places) if pair else take(dataset, collate, places)
            check_finite(samples, places, parts, looked)


def _source_of(data: Any) -> tuple[Any, Callable[[list[Any]], Any]]:
    """The dataset whose samples can be had by their places, and what makes a batch of them; ``None`` for a stream."""
    if isinstance(data, DataLoader):
        plain = isinstance(data.sampler, (RandomSampler, SequentialSampler)) and data.batch_size is not None
        return (data.dataset if plain and not isinstance(data.dataset, IterableDataset) else None), data.collate_fn
    return (None if isinstance(data, IterableDataset) else data), _collate_of(data)


def _collate_of(dataset: Dataset[Any]) -> Callable[[list[Any]], Any]:
    """What makes a batch of a dataset's samples."""
    while isinstance(dataset, Subset) and not hasattr(dataset, 'collate_fn'):
        dataset = dataset.dataset
    own = getattr(dataset, 'collate_fn', None)
    return own if callable(own) else default_collate


def _choose_places(count: int, size: int, seed: int) -> NDArray[Any]:
    """Indices of the samples to take."""
    if count <= size:
        return np.arange(count)
    return np.random.default_rng(seed).choice(count, size, replace=False)


def _collect_samples(batches: Iterable[Any], size: int) -> Minibatch:
    """The first ``size`` samples of a stream of batches."""
    taken: list[Minibatch] = []
    count = 0
    for batch in batches:
        taken.append(split_batch(batch))
        count += taken[-1].size
        if count >= size:
            break
    if not taken:
        raise ValueError(f'the kernel has no data, the loader gave no batch: {WANTED}')
    joined = tree_map(
        lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0],
        tuple(taken[0]),
        *(tuple(each) for each in taken[1:]),
    )
    return Minibatch(*joined).part(0, size)


def _is_pair(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and not isinstance(data, Dataset)  # which may be a list, too


def _check_leaves(part: Any) -> None:
    for leaf in tree_flatten(part)[0]:
        if isinstance(leaf, np.ndarray) and not (leaf.dtype.isnative and leaf.dtype.kind in 'fiubc'):
            raise TypeError(f'an array of {leaf.dtype} holds no numbers that torch takes: give it as .astype("float32")')
        if isinstance(leaf, Tensor) and leaf.layout != torch.strided:
            raise TypeError('a sparse tensor cannot be drawn from: give it as .to_dense()')
        if isinstance(leaf, (Tensor, np.ndarray)) and not leaf.ndim:
            raise TypeError(f'inputs and targets hold {leaf.item()} where a tensor of all samples is wanted: {WANTED}')


def _sample_counts(tree: Any) -> set[int]:
    return {len(leaf) for leaf in tree_flatten(tree)[0] if isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim}


def _length_of(data: Any) -> int:
    """``len``, which torch's types do not promise for a Dataset."""
    return len(data)
