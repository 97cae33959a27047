"""Labelled texts, of one sentence or of two: from files in GLUE's format, and from data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nni_knas.gradients import first_line

__all__ = ['Corpus', 'Split', 'has_split', 'read_corpus']

Split = Literal['train', 'dev']

COLUMNS: tuple[tuple[tuple[str, ...], str], ...] = (  # sentences and label, in GLUE's files and in its copies on the hub
    (('sentence1', 'sentence2'), 'label'),
    (('sentence1', 'sentence2'), 'gold_label'),
    (('#1 String', '#2 String'), 'Quality'),
    (('question', 'sentence'), 'label'),
    (('question1', 'question2'), 'is_duplicate'),
    (('question1', 'question2'), 'label'),
    (('premise', 'hypothesis'), 'label'),
    (('text_a', 'text_b'), 'label'),
    (('sentence',), 'label'),
    (('text',), 'label'),
)
"""Columns that are recognised by their names, the first that are there."""

HUB_SPLITS = {'train': ('train',), 'dev': ('validation', 'dev', 'test')}


class Corpus(NamedTuple):
    """Labelled texts.

    Attributes
    ----------
    texts
        The sentences of each text, one or two.
    labels
        The label of each.
    """

    texts: list[tuple[str, ...]]
    labels: list[str]


def read_corpus(source: Any, split: Split, *, sentences: Sequence[str] | None = None, label: str | None = None) -> Corpus:
    """The labelled texts of a split.

    Parameters
    ----------
    source
        A folder with ``train.tsv`` and ``dev.tsv`` as GLUE has them: columns between tabs, named in the first line, no
        quoting. Or ``hf:NAME`` or ``hf:NAME:CONFIG`` of a data set on the Hugging Face hub, ``hf:FOLDER`` of one saved to
        disk, or a mapping of ``train`` and ``validation`` to such data sets, as ``datasets.load_dataset`` gives it.
    split
        ``train``, or ``dev`` (on the hub: ``validation``, else ``dev``, else ``test`` where it has labels).
    sentences, label
        Names of the columns; those of the GLUE tasks are recognised.

    Raises
    ------
    ValueError
        If there is no such split or column, or a line is not right; the message names the place.
    """
    if isinstance(sentences, str):
        sentences = (sentences,)
    if sentences is not None and len(sentences) not in (1, 2):
        raise ValueError(f'sentences is {sentences!r}: it has to be the names of one or two columns')
    if isinstance(source, (str, Path)) and not str(source).startswith('hf:'):
        where, header, rows = _read_file(Path(source).expanduser(), split)
    else:
        where, header, rows = _read_hub(source, split)
    sentences, label = _columns_to_read(where, header, sentences, label)
    corpus = Corpus([], [])
    for place, row in rows:
        text = tuple(str(row[name] if row[name] is not None else '').strip() for name in sentences)
        for name, sentence in zip(sentences, text):
            if not sentence:
                raise ValueError(f'{place}: the sentence in column {name!r} is empty: give it a text, or leave the line out')
        if row[label] is None or not str(row[label]).strip():
            raise ValueError(f'{place}: the label in column {label!r} is empty: give it a label, or leave the line out')
        if isinstance(row[label], float) and not row[label].is_integer():
            raise ValueError(
                f'{place}: the label in column {label!r} is {row[label]}, which names no class: texts are '
                'classified, values are not predicted'
            )
        corpus.texts.append(text)
        corpus.labels.append(str(row[label]).strip())
    if not corpus.texts:
        raise ValueError(f'{where} holds no texts')
    return corpus


def has_split(source: Any, split: Split) -> bool:
    """Whether there is such a split."""
    if isinstance(source, (str, Path)) and not str(source).startswith('hf:'):
        return (Path(source).expanduser() / f'{split}.tsv').is_file()
    return _hub_split_name(_hub_splits(source), split) is not None


Rows = Iterable[tuple[str, Mapping[str, Any]]]  # the place, for messages, and the values by column


def _read_file(folder: Path, split: Split) -> tuple[str, Sequence[str], Rows]:
    if not folder.is_dir():
        raise ValueError(f'there is no folder {folder}: it should hold train.tsv and dev.tsv')
    path = folder / f'{split}.tsv'
    if not path.is_file():
        raise ValueError(f'{folder} has no {split}.tsv: texts are read from train.tsv and dev.tsv, as GLUE has them')
    try:
        # read_text and splitlines also split at what may stand within a text
        lines = path.read_bytes().decode('utf-8-sig').split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not in UTF-8: {error}') from error
    lines = [line.rstrip('\r') for line in lines]
    if not any(lines):
        raise ValueError(f'{path} is empty: it should hold a line with the names of the columns, and a line for each text')
    header = lines[0].split('\t')
    first = 1
    if len(header) == 4 and header[1] in ('0', '1') and header[2] in ('', '*'):  # CoLA has no header
        header, first = ['source', 'label', 'mark', 'sentence'], 0
    return str(path), header, _rows_of(path, header, lines, first)


def _rows_of(path: Path, header: Sequence[str], lines: Sequence[str], first: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines[first:], first + 1):
        if not line:
            continue
        values = line.split('\t')
        if len(values) != len(header):
            raise ValueError(
                f'{path}, line {number}: {len(values)} columns, where the first line has {len(header)} ({", ".join(header)})'
            )
        yield f'{path}, line {number}', dict(zip(header, values))


def _hub_splits(source: Any) -> Mapping[str, Any]:
    """The splits of a data set of Hugging Face."""
    if isinstance(source, Mapping):
        return source
    if not str(source).startswith('hf:'):
        raise ValueError(
            f'texts cannot be read from {type(source).__name__}: give a folder with train.tsv, hf:NAME, or a DatasetDict'
        )
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f'{source} needs the package datasets: pip install datasets') from error
    name = str(source).removeprefix('hf:')
    try:
        folder = Path(name).expanduser()
        splits: Mapping[str, Any] = (
            datasets.load_from_disk(str(folder)) if folder.is_dir() else datasets.load_dataset(*name.split(':', 1))
        )
        return splits
    except Exception as error:
        raise ValueError(f'the data set {name} cannot be loaded: {first_line(error)}') from error


def _hub_split_name(splits: Mapping[str, Any], split: Split) -> str | None:
    """The name of a split. The test split of a contest has no labels, and is then none to read."""
    return next(
        (name for name in HUB_SPLITS[split] if name in splits and (name != 'test' or _is_labelled(splits[name]))), None
    )


def _is_labelled(dataset: Any) -> bool:
    features = getattr(dataset, 'features', None) or {}
    first: Mapping[str, Any] = next(iter(dataset), {})
    return all(first.get(column) not in (-1, None) for column, feature in features.items() if hasattr(feature, 'names'))


def _read_hub(source: Any, split: Split) -> tuple[str, Sequence[str], Rows]:
    splits = _hub_splits(source)
    name = _hub_split_name(splits, split)
    if name is None:
        wanted = 'train' if split == 'train' else 'validation or dev, or test with labels'
        raise ValueError(f'the data set has no split {wanted}: it has {", ".join(map(str, splits))}')
    dataset = splits[name]
    where = f'split {name}' if isinstance(source, Mapping) else f'{source}, split {name}'
    if not getattr(dataset, 'features', None):
        raise ValueError(
            f'{where} is a {type(dataset).__name__}, whose columns are not known: it has to be a Dataset of '
            'the package datasets'
        )
    names = {column: feature.names for column, feature in dataset.features.items() if hasattr(feature, 'names')}
    return where, dataset.column_names, _rows_of_hub(where, dataset, names)


def _rows_of_hub(where: str, dataset: Any, names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(dataset):
        for column, labels in names.items():
            value = row[column]
            if isinstance(value, int):
                row[column] = labels[value] if 0 <= value < len(labels) else None  # -1 stands for no label
        yield f'{where}, row {number}', row


def _columns_to_read(
    where: str, header: Sequence[str], sentences: Sequence[str] | None, label: str | None
) -> tuple[Sequence[str], str]:
    """The columns to read."""
    known = [pair for pair in COLUMNS if (sentences or set(pair[0]) <= set(header)) and (label or pair[1] in header)]
    if known:
        sentences, label = sentences or known[0][0], label or known[0][1]
    missing = [name for name in [*(sentences or ()), *([label] if label else [])] if name not in header]
    if missing or not sentences or not label:
        lacks = f'has no column {missing[0]!r}' if missing else 'has no columns that are known by their names'
        raise ValueError(
            f'{where} {lacks}: it has {", ".join(map(str, header))}; name those of one or two sentences and '
            'of the label with sentences=... and label=...'
        )
    return sentences, label
