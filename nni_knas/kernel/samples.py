"""Samples of a user's data by their places, and what is wrong with one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from nni_knas.basics.failures import failure, is_said_by_us
from nni_knas.gradients import Minibatch

__all__ = ['check_finite', 'is_float', 'split_batch', 'take', 'take_of_pair']

TARGET_KEYS = ('labels', 'label', 'targets', 'target', 'y')


def take_of_pair(pair: Sequence[Any], places: NDArray[Any]) -> Minibatch:
    """Samples of inputs and targets."""

    def of(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            return torch.from_numpy(leaf[places])
        return leaf[torch.as_tensor(places)] if isinstance(leaf, Tensor) else leaf

    return Minibatch(*(tree_map(of, part) for part in pair))


def take(dataset: Any, collate: Callable[[list[Any]], Any], places: NDArray[Any]) -> Minibatch:
    """Samples of a dataset, as a batch."""
    samples = [_sample(dataset, int(place)) for place in places]
    try:
        return split_batch(collate(samples))
    except Exception as error:
        if is_said_by_us(error):
            raise
        place = next((p for p, each in zip(places, samples) if not _join(collate, [samples[0], each])), places[0])
        raise ValueError(
            f'sample {place} of the data cannot be put into a batch with others ({failure(error)}): samples should be '
            'tensors, arrays or numbers, of the same size in each, or the Dataset have a collate_fn'
        ) from error


def _sample(dataset: Any, place: int) -> Any:
    try:
        return dataset[place]
    except Exception as error:
        if is_said_by_us(error):
            raise
        raise ValueError(f'sample {place} of the data cannot be read: {failure(error)}') from error


def _join(collate: Callable[[list[Any]], Any], samples: list[Any]) -> bool:
    try:
        collate(samples)
    except Exception:
        return False
    return True


def split_batch(batch: Any) -> Minibatch:
    """A collated batch as inputs and targets."""
    minibatch = _split(batch)
    for what, part in zip(('inputs', 'targets'), minibatch):
        leaves = tree_flatten(part)[0]
        if not any(isinstance(leaf, Tensor) for leaf in leaves):
            shown = f'{leaves[0]!r:.40}' if leaves else 'nothing'
            wanted = 'numbers, such as 0, 1, ... for classes' if what == 'targets' else 'tensors or arrays of numbers'
            raise ValueError(f'the {what} of the samples are such as {shown}: they should be {wanted}')
    return minibatch


def _split(batch: Any) -> Minibatch:
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


def is_float(leaf: Any) -> bool:
    """Whether it is a tensor of numbers that need not be finite."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def check_finite(samples: Minibatch, places: Sequence[int] | NDArray[Any], parts: Sequence[str], looked: str) -> None:
    """Raise ``ValueError``, which names the first that is not finite of samples that stand in these places of the data."""
    for part in parts:
        for leaf in tree_flatten(getattr(samples, part))[0]:
            if not is_float(leaf) or leaf.dim() == 0 or len(leaf) != len(places) or bool(torch.isfinite(leaf).all()):
                continue
            rows = leaf.reshape(len(leaf), -1)
            first = int((~torch.isfinite(rows)).any(1).nonzero()[0])
            value = rows[first][~torch.isfinite(rows[first])][0].item()
            raise ValueError(
                f'sample {places[first]} of the data has {value} in its {part}{looked}: put numbers in the place of what is '
                'not finite, or leave such samples out'
            )
