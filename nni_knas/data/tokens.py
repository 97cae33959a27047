"""Texts as tokens: tokenised once, kept on disk, and padded batch by batch."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nni
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from nni_knas.basics.checks import check_seed
from nni_knas.basics.files import CACHE, atomic_write
from nni_knas.data.corpus import Corpus, has_split, read_corpus
from nni_knas.encoders import load_tokenizer

__all__ = ['LengthBatches', 'TextData', 'TokenDataset', 'load_text', 'pad', 'text_data']

_logger = logging.getLogger(__name__)

Part = Literal['train', 'validation', 'test']


def pad(samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch of texts, as long as the longest of them.

    Parameters
    ----------
    samples
        Tokens of shape ``2 x length`` and the class of each text.

    Returns
    -------
    tuple of Tensor
        Tokens, int64 of shape ``n x 2 x longest``, 0 where padded; and classes, int64 of shape ``n``.
    """
    tokens = torch.zeros(len(samples), 2, max(text.shape[1] for text, _ in samples), dtype=torch.long)
    for row, (text, _) in zip(tokens, samples):
        row[:, : text.shape[1]] = text
    return tokens, torch.tensor([target for _, target in samples])


class TokenDataset(Dataset[tuple[Tensor, int]]):
    """Texts as tokens, with their classes.

    A sample is a pair of an int64 tensor of shape ``2 x length`` (token ids, and the sentence, 1 or 2, that each token
    belongs to; special tokens count to the sentence that they follow) and the number of the class.

    Attributes
    ----------
    classes
        The labels of the classes.
    sentences
        How many sentences a text has.
    targets
        The class of each text.
    lengths
        Number of tokens of each text.
    collate_fn
        Makes a batch of samples: :func:`pad`.
    """

    collate_fn = staticmethod(pad)

    def __init__(
        self,
        ids: NDArray[Any],
        second: NDArray[Any],
        lengths: NDArray[Any],
        targets: NDArray[Any],
        classes: list[str],
        sentences: int,
    ) -> None:
        self._ids = ids  # of all texts, one behind the other
        self._second = second  # where the second sentence of each begins
        self._ends = np.cumsum(lengths)
        self.lengths, self.targets, self.classes, self.sentences = lengths, targets, classes, sentences

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        end, length = self._ends[index], self.lengths[index]
        ids = torch.from_numpy(self._ids[end - length : end].astype(np.int64))
        sentence = 1 + (torch.arange(int(length)) >= int(self._second[index])).long()
        return torch.stack([ids, sentence]), int(self.targets[index])

    def part(self, indices: NDArray[Any]) -> TokenDataset:
        """The texts at these places."""
        ids = [self._ids[self._ends[i] - self.lengths[i] : self._ends[i]] for i in indices]
        return TokenDataset(
            np.concatenate(ids),
            self._second[indices],
            self.lengths[indices],
            self.targets[indices],
            self.classes,
            self.sentences,
        )


class LengthBatches(Sampler[list[int]]):
    """Batches of texts of about the same length, so that little is padded.

    Each epoch is another one: texts are shuffled, sorted by length within pools of fifty batches, and the batches shuffled.

    Parameters
    ----------
    lengths
        Number of tokens of each text.
    batch_size
        Texts in a batch; the last one may have fewer.
    shuffle
        Otherwise the batches are those of all texts sorted by length, the longest first, which fails early if memory is
        short.
    seed
        The same seed gives the same batches, epoch by epoch.

    Raises
    ------
    ValueError
        If ``batch_size`` is less than 1.
    """

    pool = 50

    def __init__(self, lengths: Sequence[int] | NDArray[Any], batch_size: int, shuffle: bool = True, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f'batch_size is {batch_size!r}: it has to be a number of texts, 1 or more')
        check_seed(seed)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            order = np.argsort(-self.lengths, kind='stable')
            yield from (order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size))
            return
        order, batches = self._random.permutation(len(self.lengths)), []
        for i in range(0, len(order), self.pool * self.batch_size):
            pool = order[i : i + self.pool * self.batch_size]
            pool = pool[np.argsort(self.lengths[pool], kind='stable')]
            batches += [pool[j : j + self.batch_size].tolist() for j in range(0, len(pool), self.batch_size)]
        yield from (batches[i] for i in self._random.permutation(len(batches)))


class TextData(NamedTuple):
    """The parts of a text classification task.

    Attributes
    ----------
    train, validation
        Parts of the training split: to train on, and to choose by.
    test
        The dev split, to report on; ``None`` where there is none.
    classes
        The labels of the classes.
    sentences
        How many sentences a text has.
    """

    train: TokenDataset
    validation: TokenDataset
    test: TokenDataset | None
    classes: list[str]
    sentences: int

    @property
    def num_labels(self) -> int:
        """Number of classes."""
        return len(self.classes)


def load_text(source: Any, encoder: str, **options: Any) -> TextData:
    """All parts of a text classification task, as tokens of an encoder.

    Parameters
    ----------
    source, encoder
        What :func:`text_data` takes under these names.
    **options
        The options of :func:`text_data`.
    """
    train, validation = (text_data(source, part, encoder, **options) for part in ('train', 'validation'))
    test = text_data(source, 'test', encoder, **options) if has_split(source, 'dev') else None
    return TextData(train, validation, test, train.classes, train.sentences)


def _text_data(
    source: Any,
    part: Part,
    encoder: str,
    *,
    sentences: Sequence[str] | None = None,
    label: str | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    held_out: float = 0.2,
    seed: int = 0,
) -> TokenDataset:
    """One part of a text classification task, as tokens of an encoder.

    What it returns is traced: in a trial it is loaded anew, by name. Texts are tokenised once and kept in the user's cache.

    Parameters
    ----------
    source
        A folder in GLUE's format, ``hf:NAME:CONFIG``, or a ``DatasetDict``; see :func:`nni_knas.data.corpus.read_corpus`.
    part
        ``train`` or ``validation``, which are parts of the training split with the same shares of each class; or ``test``,
        the dev split.
    encoder
        Whose tokens: folder or name of a Hugging Face encoder, or ``minilm``.
    sentences, label
        Names of the columns, where they are not those of a GLUE task.
    max_length
        Largest number of tokens; of what is longer, the longer sentence loses its end first. Default: 128, or what the
        encoder takes where that is less.
    limit
        Largest number of texts of the part, drawn by the seed.
    held_out
        Share of the training split that is kept for validation.
    seed
        The seed of the split.

    Raises
    ------
    ValueError
        If an argument cannot be, texts cannot be read, or the dev split has a label that the training split has not.
    """
    if part not in ('train', 'validation', 'test'):
        raise ValueError(f'unknown part {part!r}: it is "train", "validation" or "test"')
    if not isinstance(held_out, (int, float)) or not 0 < held_out < 1:
        raise ValueError(f'held_out is {held_out!r}: it has to be a share of the training split, above 0 and below 1')
    for name, value, unit, least in (('max_length', max_length, 'tokens', 8), ('limit', limit, 'texts', 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f'{name} is {value!r}: it has to be a number of {unit}, {least} or more')
    check_seed(seed)
    corpus = read_corpus(source, 'train', sentences=sentences, label=label)
    classes = _class_names(corpus.labels)
    if len(classes) < 2:
        raise ValueError(f'all texts of the training split have the label {classes[0]!r}: a classifier needs two or more')
    if part == 'test':
        corpus = read_corpus(source, 'dev', sentences=sentences, label=label)
        unknown = next((each for each in corpus.labels if each not in classes), None)
        if unknown is not None:
            raise ValueError(
                f'the dev split has the label {unknown!r}, which is not in the training split: that has {", ".join(classes)}'
            )
    dataset = _tokenised_dataset(corpus, classes, encoder, max_length)
    if part != 'test':
        chosen = _split_places(dataset.targets, held_out, seed)[part == 'validation']
        if not len(chosen):
            raise ValueError('the training split has a single text of each class: none can be kept for validation')
        dataset = dataset.part(chosen)
    if limit is not None and limit < len(dataset):
        dataset = dataset.part(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:limit]))
    return dataset


text_data: Callable[..., TokenDataset] = nni.trace(_text_data)
text_data.__doc__ = _text_data.__doc__


def _class_names(labels: Sequence[str]) -> list[str]:
    """The different labels; numbers in their order."""
    names = sorted(set(labels))  # sorted first: 1 and 1.0 are in the same order in each process, too
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return names
    return sorted(names, key=float) if np.isfinite(numbers).all() else names  # nan has no order


def _split_places(targets: NDArray[Any], held_out: float, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places of the texts to train on and of those to validate on, the same share of each class.

    Each class has a text to train on, and one to validate on where it has two or more.
    """
    random = np.random.default_rng(seed)
    validation = []
    for target in np.unique(targets):
        places = random.permutation(np.flatnonzero(targets == target))
        validation.append(places[: min(max(1, round(held_out * len(places))), len(places) - 1)])
    kept = np.sort(np.concatenate(validation))
    return np.setdiff1d(np.arange(len(targets)), kept), kept


def _tokenised_dataset(corpus: Corpus, classes: list[str], encoder: str, max_length: int | None) -> TokenDataset:
    """The tokens of a corpus, from the cache where they are there."""
    tokenizer = load_tokenizer(encoder)
    if not tokenizer.is_fast:
        raise ValueError(
            f'the encoder {encoder} has no fast tokenizer, which says where each token comes from: save one '
            'with AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained'
        )
    max_length = max_length or min(128, tokenizer.model_max_length)
    if max_length > tokenizer.model_max_length:
        raise ValueError(
            f'max_length is {max_length}: the encoder {encoder} takes at most {tokenizer.model_max_length} tokens'
        )
    backend = tokenizer.backend_tokenizer
    backend.no_padding()  # which its file may ask for
    backend.no_truncation()  # which it keeps from the texts before
    content = json.dumps([corpus.texts, max_length, backend.to_str()])
    path = CACHE / 'text' / f'{hashlib.sha256(content.encode()).hexdigest()[:32]}.npz'
    kept = _read_cached(path, len(corpus.texts))
    if kept is None:
        kept = _tokenise(corpus, tokenizer, max_length)
        _write_cached(path, kept)
    numbers = {name: number for number, name in enumerate(classes)}
    targets = np.array([numbers[label] for label in corpus.labels])
    return TokenDataset(kept['ids'], kept['second'], kept['lengths'], targets, classes, len(corpus.texts[0]))


def _tokenise(corpus: Corpus, tokenizer: Any, max_length: int) -> dict[str, NDArray[Any]]:
    columns = [list(column) for column in zip(*corpus.texts)]
    encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    lengths = np.array([len(ids) for ids in encoded['input_ids']])
    second = lengths.copy()
    if len(columns) == 2:
        for i in range(len(lengths)):
            of = encoded.sequence_ids(i)
            # Of a second sentence that has no tokens (of unprintable characters, say) its end token is left.
            second[i] = of.index(1) if 1 in of else lengths[i] - 1
    return {'ids': np.concatenate(encoded['input_ids']).astype(np.int32), 'second': second, 'lengths': lengths}


def _read_cached(path: Path, texts: int) -> dict[str, NDArray[Any]] | None:
    try:
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in ('ids', 'second', 'lengths')}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever a damaged file may raise
        _logger.warning('%s is damaged (%s): the texts are tokenised anew.', path, error)
        return None
    return arrays if len(arrays['lengths']) == texts and arrays['lengths'].sum() == len(arrays['ids']) else None


def _write_cached(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished, unfinished.open('wb') as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        _logger.warning('The tokens cannot be kept in %s: %s', path.parent, error)
