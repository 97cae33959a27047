"""Draw the minibatch that candidates are scored on, from whatever a PyTorch user has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset, default_collate

from nni_knas.gradients import Minibatch, seeded

__all__ = ['check_data', 'draw_minibatch']

WANTED = 'give a torch Dataset, a DataLoader, or a pair (inputs, targets) of tensors'
TARGET_KEYS = ('labels', 'label', 'targets', 'target', 'y')


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
        if isinstance(data, (tuple, list)):
            inputs, targets = (tree_map(_as_tensor, part) for part in data)
            chosen = torch.as_tensor(_choose_places(Minibatch(inputs, targets).size, size, seed))
            return Minibatch(
                *(tree_map(lambda t: t[chosen] if isinstance(t, Tensor) else t, part) for part in (inputs, targets))
            )
        if isinstance(data, DataLoader):
            plain = isinstance(data.sampler, (RandomSampler, SequentialSampler)) and data.batch_size is not None
            if not plain or isinstance(data.dataset, IterableDataset):
                return _collect_samples(data, size)
            dataset, collate = data.dataset, data.collate_fn
        else:
            dataset, collate = data, _collate_of(data)
        if isinstance(dataset, IterableDataset):
            return _collect_samples(DataLoader(dataset, batch_size=size), size)
        return _split_batch(collate([dataset[int(i)] for i in _choose_places(_length_of(dataset), size, seed)]))


def _collate_of(dataset: Dataset) -> Callable[[list[Any]], Any]:
    """What makes a batch of a dataset's samples."""
    while isinstance(dataset, Subset) and not hasattr(dataset, 'collate_fn'):
        dataset = dataset.dataset
    own = getattr(dataset, 'collate_fn', None)
    return own if callable(own) else default_collate


def _choose_places(count: int, size: int, seed: int) -> np.ndarray:
    """Indices of the samples to take."""
    if count <= size:
        return np.arange(count)
    return np.random.default_rng(seed).choice(count, size, replace=False)


def _collect_samples(batches: Iterable[Any], size: int) -> Minibatch:
    """The first ``size`` samples of a stream of batches."""
    taken: list[Minibatch] = []
    count = 0
    for batch in batches:
        taken.append(_split_batch(batch))
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


def _split_batch(batch: Any) -> Minibatch:
    """A collated batch as inputs and targets."""
    if isinstance(batch, Mapping):
        for key in TARGET_KEYS:
            if key in batch:
                return Minibatch({k: v for k, v in batch.items() if k != key}, batch[key])
        raise ValueError(f'samples are dicts without targets: name them one of {", ".join(TARGET_KEYS)}')
    if isinstance(batch, Sequence) and len(batch) >= 2:
        inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
        return Minibatch(inputs, batch[-1])
    raise ValueError(
        'samples have to be pairs (input, target), or dicts with targets under the name "labels"; a sample '
        f'here is a {type(batch).__name__}'
    )


def _as_tensor(leaf: Any) -> Any:
    return torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf


def _sample_counts(tree: Any) -> set[int]:
    return {len(leaf) for leaf in tree_flatten(tree)[0] if isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim}


def _length_of(data: Any) -> int:
    """``len``, which torch's types do not promise for a Dataset."""
    return len(data)
