"""Hidden states of an encoder's frozen layers, computed once and kept on disk for all networks that can share them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from nni_knas.basics.files import atomic_write
from nni_knas.data import CACHE
from nni_knas.encoders import PretrainedEncoder
from nni_knas.gradients import seeded

__all__ = ['FrozenStates', 'keep_states']

_logger = logging.getLogger(__name__)

STORED = np.dtype(np.float16)
"""Of the formats of 16 bits the one with more digits (11 against 8 of bfloat16); its range, 65,504, suffices for what
encoders with normalised layers compute, and what is beyond it is noticed."""
SENTENCES = 4
"""A token and its sentence are told as one number: the token times this, plus the sentence. Padding is 0."""
BATCH = 64
SPARE = 2**30
"""Bytes that are left free on the disk."""
SHARE = 0.1
"""The share of what is free that may be taken for what is not needed yet: all other hidden states of the same pass."""
LOOKED_AT = 8
"""Texts by which it is seen whether an encoder's top layers give the same when they are fed with what is kept."""


@contextlib.contextmanager
def keep_states(model: Any, batches: Iterable[Iterable[Any]], device: Any, shown: bool = False) -> Iterator[None]:
    """Within, a network reads from disk what its encoder's frozen layers make of the texts of some batches.

    What is not there yet is computed before, in full precision. A network can do so that has an ``encoder``, a
    :class:`~nni_knas.encoders.PretrainedEncoder` of which not all is tuned, and tells what it feeds to it
    (``encoder_inputs``) and how much of it it reads (``top_states``); any other one is left alone.

    Parameters
    ----------
    model
        The network. What is tuned of it may change within, what is frozen may not.
    batches
        For each dataset, its batches: tokens and classes.
    device
        Where to compute.
    shown
        Whether a bar shows how far it is.
    """
    states = None
    if _can_be_kept(model):
        try:
            with seeded(0):  # a pass over a loader draws a number
                states = FrozenStates(model.encoder, model.top_states, device, shown)
                for each in batches:
                    states.add(model.encoder_inputs(tokens) for tokens, _ in each)
        except (OSError, OverflowError) as error:
            _logger.warning('Hidden states are computed anew in each step, since they cannot be kept: %s', error)
            states = None
    with contextlib.nullcontext() if states is None or not states.suffice() else model.encoder.given(states):
        yield


def _can_be_kept(model: Any) -> bool:
    encoder = getattr(model, 'encoder', None)
    return (
        isinstance(encoder, PretrainedEncoder)
        and encoder.tuned < encoder.layers
        and hasattr(model, 'encoder_inputs')
        and hasattr(model, 'top_states')
    )


class FrozenStates:
    """The hidden states below an encoder's tuned layers, by text: on disk, and found by what the encoder is given.

    A folder of the user's cache is for the texts of one dataset, as they are given to the encoder; in it is a file for each
    hidden state, named by the weights that it comes from: all tokens, one text behind the other, in 16 bits.

    Parameters
    ----------
    encoder
        The encoder.
    top
        How many hidden states, counted from the last one, are needed; of these, those of the frozen layers are kept.
    device
        Where to compute.
    shown
        Whether a bar shows how far it is.
    """

    def __init__(self, encoder: PretrainedEncoder, top: int, device: Any = 'cpu', shown: bool = False) -> None:
        self.encoder, self.device, self.shown = encoder, device, shown
        frozen = encoder.layers - encoder.tuned
        self.wanted = range(min(frozen, encoder.layers + 1 - top), frozen + 1)
        self.names = [f'{i}-{weights}.npy' for i, weights in enumerate(encoder.names_of_states())]
        self.places: dict[bytes, tuple[list[NDArray[Any]], int, int]] = {}

    def add(self, inputs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Compute the states of texts, batch by batch as the encoder is given them, where they are not there.

        Raises
        ------
        OSError
            If they cannot be written.
        OverflowError
            If there is a number in them that 16 bits do not hold.
        """
        texts = sorted({text for ids, sentence in inputs for text in _texts_of(ids, sentence)})  # however they are batched
        folder = CACHE / 'states' / hashlib.blake2b(repr(texts).encode(), digest_size=16).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        ends = np.cumsum([_length(text) for text in texts]).tolist()
        with FileLock(folder / 'lock'):  # others wait for what is being computed, and find it there
            files = self._files_in(folder, texts, ends)
        for text, start, end in zip(texts, [0, *ends], ends):
            self.places[text] = files, start, end

    def __call__(self, ids: Tensor, sentence: Tensor) -> list[Tensor] | None:
        """The states of a batch, 0 where padded; ``None`` if there is a text that was not added."""
        places = [self.places.get(text) for text in _texts_of(ids, sentence)]
        found = [place for place in places if place is not None]
        if len(found) < len(places):
            return None
        lengths = torch.tensor([end - start for _, start, end in found])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(ids.device)
        dtype = next(self.encoder.parameters()).dtype
        states = []
        for i in range(len(self.wanted)):
            flat = torch.from_numpy(np.concatenate([files[i][start:end] for files, start, end in found]))
            state = torch.zeros(*ids.shape, self.encoder.width, dtype=dtype, device=ids.device)
            state[mask] = flat.to(ids.device, dtype)
            states.append(state)
        return states

    def suffice(self) -> bool:
        """Whether the tuned layers make of the states what the whole encoder makes of the texts.

        It is not so where they need more of the layers below than a hidden state, as T5's need its table of positions.
        """
        if not self.encoder.tuned:
            return True
        ids, sentence = _inputs_of(list(self.places)[:LOOKED_AT], self.device)
        with _looked_at(self.encoder, self.device):
            whole = self.encoder(ids, sentence)
            with self.encoder.given(self):
                parts = self.encoder(ids, sentence)
        there = sentence > 0
        return all(
            float((one[there] - other[there]).norm()) <= 0.01 * float(one[there].norm())
            for one, other in zip(reversed(whole), reversed(parts))
        )

    def _files_in(self, folder: Path, texts: Sequence[bytes], ends: Sequence[int]) -> list[NDArray[Any]]:
        shape = ends[-1], self.encoder.width
        paths = [folder / name for name in self.names]
        if not all([_is_whole(paths[i], shape) for i in self.wanted]):  # a list: all that are damaged are taken away
            for left in folder.glob('*.npy.*'):  # by a process that was killed
                left.unlink(missing_ok=True)
            start, computed = time.monotonic(), self._to_compute(paths, shape)
            self._compute(texts, ends, {i: paths[i] for i in computed})
            seconds = time.monotonic() - start
            _logger.info('%d hidden states of %d texts in %s: %.0f s', len(computed), len(texts), folder, seconds)
        return [np.load(paths[i], mmap_mode='r') for i in self.wanted]

    def _to_compute(self, paths: Sequence[Path], shape: tuple[int, int]) -> list[int]:
        """Which hidden states a pass computes: also those that others may need, where there is room in plenty."""
        missing = [i for i, path in enumerate(paths) if not path.exists()]
        size, free = shape[0] * shape[1] * STORED.itemsize, shutil.disk_usage(paths[0].parent).free
        if len(missing) * size > SHARE * free:
            missing = [i for i in missing if i in self.wanted]
        if len(missing) * size + SPARE > free:
            raise OSError(f'{paths[0].parent} has no room for {len(missing) * size / 2**20:,.0f} MB')
        return missing

    def _compute(self, texts: Sequence[bytes], ends: Sequence[int], paths: dict[int, Path]) -> None:
        order = sorted(range(len(texts)), key=lambda i: -_length(texts[i]))
        with contextlib.ExitStack() as stack:
            stack.enter_context(_looked_at(self.encoder, self.device))
            files = {
                i: np.lib.format.open_memmap(
                    stack.enter_context(atomic_write(path)), 'w+', STORED, (ends[-1], self.encoder.width)
                )
                for i, path in paths.items()
            }
            for first in tqdm(range(0, len(order), BATCH), 'Hidden states', unit='batch', disable=not self.shown):
                batch = order[first : first + BATCH]
                hidden = self.encoder(*_inputs_of([texts[i] for i in batch], self.device))
                for layer, file in files.items():
                    _write(hidden[layer], [(ends[i] - _length(texts[i]), ends[i]) for i in batch], file)
            for file in files.values():
                file.flush()


def _texts_of(ids: Tensor, sentence: Tensor) -> list[bytes]:
    """The texts of a batch without the padding behind them, each a string of bytes to find it by."""
    told = torch.where(sentence > 0, ids * SENTENCES + sentence, 0).int().cpu().numpy()
    return [np.trim_zeros(row, 'b').tobytes() for row in told]


def _inputs_of(texts: Sequence[bytes], device: Any) -> tuple[Tensor, Tensor]:
    """The batch that texts come from."""
    rows = [torch.from_numpy(np.frombuffer(text, np.int32).astype(np.int64)) for text in texts]
    told = pad_sequence(rows, batch_first=True).to(device)
    return told // SENTENCES, told % SENTENCES


def _length(text: bytes) -> int:
    return len(text) // np.dtype(np.int32).itemsize


@contextlib.contextmanager
def _looked_at(encoder: PretrainedEncoder, device: Any) -> Iterator[None]:
    """Within, an encoder computes without dropout and gradients."""
    training = encoder.training
    encoder.to(device).eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.train(training)


def _write(state: Tensor, places: Sequence[tuple[int, int]], file: NDArray[Any]) -> None:
    for row, (start, end) in zip(state.float().cpu().numpy(), places):
        with np.errstate(over='ignore'):
            file[start:end] = row[: end - start]
        if not np.isfinite(file[start:end]).all():
            raise OverflowError(f'a number of a hidden state is beyond the range of {STORED.name}')


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether a file is there and holds what it should; one that is damaged is taken away."""
    try:
        kept = np.load(path, mmap_mode='r')
        if kept.shape == shape and kept.dtype == STORED:
            return True
        why = f'it has {kept.shape} of {kept.dtype}'
    except FileNotFoundError:
        return False
    except Exception as error:  # whatever a damaged file may raise
        why = str(error)
    _logger.warning('%s is damaged (%s): the hidden states are computed anew.', path, why)
    path.unlink(missing_ok=True)
    return False
