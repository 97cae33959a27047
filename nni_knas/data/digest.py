"""Digests of data, by which a trial and a resumed run see that they have what the search began with."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from nni_knas.gradients import seeded

__all__ = ['check_same_data', 'digest_of', 'digests_of', 'warn_of_overlap']

_logger = logging.getLogger(__name__)

SAMPLES = 64
"""How many samples, spread over the data, are looked at."""


def digest_of(data: Any) -> str | None:
    """A digest of a dataset, of its length and of samples spread over it; the same in every process.

    Random transforms are seeded; where samples still change from one look to the next, the targets alone count. Inputs count
    to three digits, since machines round differently.

    Returns
    -------
    str or None
        ``None`` where the data are a stream, or cannot be looked at sample by sample.
    """
    dataset = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Dataset):
        return None
    try:
        first, second = _looked_at(dataset), _looked_at(dataset)
    except Exception:  # a dataset of keys, say; one that is broken says so where it is used
        return None
    if first != second:
        first, second = ([each[-1:] for each in look] for look in (first, second))
    if first != second:
        return None
    return hashlib.sha256(repr((len(dataset), first)).encode()).hexdigest()[:32]  # type: ignore[arg-type]


def digests_of(holder: Any) -> dict[str, str]:
    """The digests of all data that an evaluator holds, by the names of its attributes and arguments."""
    found = {}
    for name, data in _data_in(holder):
        digest = digest_of(data)
        if digest is not None:
            found[name] = digest
    return found


def check_same_data(expected: Mapping[str, str], holder: Any) -> None:
    """Raise ``ValueError`` where an evaluator holds other data than those that the search began with."""
    present = digests_of(holder) if expected else {}
    names = [name for name in expected if present.get(name, expected[name]) != expected[name]]
    if names:
        named = {name: _source_of(data) for name, data in _data_in(holder)}
        raise ValueError(
            f'the data of {named[names[0]]} differ from those that the search began with ({", ".join(names)}): what makes '
            'them has to give the same each time it is called, for example '
            'random_split(..., generator=torch.Generator().manual_seed(0))'
        )


def warn_of_overlap(training: Any, validation: Any) -> None:
    """Say that samples to train on are also validated on, as far as is seen: of parts of one dataset, wholly."""
    if isinstance(training, Subset) and isinstance(validation, Subset) and training.dataset is validation.dataset:
        shared = len(set(map(int, training.indices)) & set(map(int, validation.indices)))
    elif training is validation:
        shared = len(training)
    else:
        shared = 0
    if shared:
        _logger.warning('%d samples are both in the training and in the validation part of the data.', shared)


def _data_in(holder: Any) -> Iterator[tuple[str, Any]]:
    arguments = getattr(holder, 'arguments', None)
    for name, value in {**getattr(holder, '__dict__', {}), **(arguments if isinstance(arguments, dict) else {})}.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        for i, each in enumerate(several):
            if isinstance(each, (Dataset, DataLoader)):
                yield name if each is value else f'{name}[{i}]', each


def _source_of(data: Any) -> str:
    dataset = data.dataset if isinstance(data, DataLoader) else data
    return getattr(dataset, 'trace_kwargs', {}).get('name') or type(dataset).__name__


def _looked_at(dataset: Any) -> list[list[str]]:
    places = np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).astype(int)).tolist()
    with seeded(0):
        return [[_told(leaf) for leaf in tree_flatten(dataset[place])[0]] for place in places]


def _told(leaf: Any) -> str:
    if not isinstance(leaf, (torch.Tensor, np.ndarray)):
        return repr(leaf) if isinstance(leaf, (int, float, str, bytes, np.generic)) else type(leaf).__name__
    array = np.asarray(leaf.detach().cpu() if isinstance(leaf, torch.Tensor) else leaf)
    if array.dtype.kind != 'f':
        return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()
    weights = np.random.default_rng(0).random(array.size)
    return f'{array.shape} {np.abs(array.ravel().astype(np.float64)) @ weights:.2e}'
