"""What ``nni-knas benchmark`` works on: its options are checked, its tables and data loaded, before anything is scored."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nni_knas import __version__
from nni_knas.basics.checks import check_seed
from nni_knas.basics.names import TORCHVISION
from nni_knas.benchmark import (
    AGGREGATES,
    BASELINES,
    Benchmark,
    ScoreCache,
    benchmark_names,
    declaration_of,
    find_score,
    find_table,
    load_benchmark,
    statistics_of,
)
from nni_knas.data import Data, load_data
from nni_knas.kernel import GradientKernelEvaluator
from nni_knas.scores import Score, score_names

__all__ = [
    'Missing',
    'Setup',
    'check_options',
    'check_several',
    'folder_name',
    'is_several',
    'names_of',
    'opened_cache',
    'parse_names',
    'parse_numbers',
    'parse_scores',
    'parse_seeds',
    'prepare',
    'prepare_several',
]

ALL = 'all'
IMAGES = 'cifar10'  # what several benchmarks are scored on where the user does not say: the same for all of them


class Missing(ValueError):
    """What a benchmark needs is not there: among several it is left out."""


class Setup(NamedTuple):
    """One benchmark, and what it is scored by and on."""

    benchmark: Benchmark
    metrics: list[str]
    scores: list[Score]
    kernels: list[GradientKernelEvaluator]
    folder: Path
    settings: dict[str, Any]
    notes: list[str]


# Options.


def is_several(text: str) -> bool:
    """Whether ``--benchmark`` names several, whose results come together in one table."""
    return ',' in text or text == ALL


def names_of(text: str) -> list[str]:
    """The benchmarks that ``--benchmark`` names; ``all`` stands for those whose table lies in a folder of tables."""
    names = parse_names(text)
    if not names:
        raise ValueError(f'--benchmark is {text!r}: it has to be names of benchmarks with commas between, or {ALL}')
    every = [name for name in benchmark_names() if declaration_of(name).files]
    return list(dict.fromkeys(each for name in names for each in (every if name == ALL else [name])))


def check_options(options: argparse.Namespace) -> None:
    """Raise ``ValueError`` where an option cannot be what it is."""
    for name in ('architectures', 'candidates', 'repeats', 'resamples', 'image_size', 'processes', 'concurrency'):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f'--{name.replace("_", "-")} is {value}: it has to be 1 or more')
    for name in ('sample_seed', 'cost_architectures'):
        if getattr(options, name) < 0:
            raise ValueError(f'--{name.replace("_", "-")} is {getattr(options, name)}: it has to be 0 or more')
    parse_numbers(options.top_k, '--top-k')
    if options.protocol != 'search':
        for name, default in (('searches', None), ('concurrency', 1)):
            if getattr(options, name) != default:
                raise ValueError(f'--{name} is for --protocol search')
    parse_seeds(options.seeds)
    if options.tables is not None and options.table is not None:
        raise ValueError('--table and --tables are both given: it is one table, or the folder where it lies')
    if options.tables is not None and not options.tables.is_dir():
        raise ValueError(f'--tables {options.tables} is no folder: it has to be the folder where the tables lie')


ALL, THE_PANEL = 'all', 'panel'
"""Among the names of scores, all scores and aggregates, and all statistics of the panel."""


def parse_scores(names: str, batch_size: int) -> tuple[list[Score], list[str]]:
    """Scores and baselines, and a note for each score that cannot be had with so few samples."""
    asked = parse_names(names)
    if not asked:
        raise ValueError(f'--scores is {names!r}: it has to be names of scores with commas between, or all')
    scores: dict[str, Score] = {score.name: score for score in BASELINES}
    notes = []
    for name in [*asked, *(score_names() if ALL in asked else ()), *(AGGREGATES if ALL in asked else ())]:
        if name == THE_PANEL:
            scores |= {score.name: score for score in statistics_of(batch_size).values()}
        if name in (ALL, THE_PANEL) or name in scores:
            continue
        score = find_score(name)
        try:
            score.check(batch_size)
        except ValueError as error:
            if name in asked:
                raise
            notes.append(f'Left out: {error}')
            continue
        scores[name] = score
    return list(scores.values()), notes


def parse_seeds(text: str) -> list[int]:
    """The seeds: so many, or these."""
    numbers = parse_numbers(text, '--seeds', 0)
    if len(numbers) > 1 or ',' in text:
        for number in numbers:
            check_seed(number, 'one of --seeds')
        return numbers
    if not numbers[0]:
        raise ValueError('--seeds is 0: it is how many seeds, 1 or more, or which, with commas')
    return list(range(numbers[0]))


def parse_numbers(text: str, option: str, least: int = 1) -> list[int]:
    """Whole numbers with commas between."""
    try:
        numbers = list(dict.fromkeys(int(part) for part in parse_names(text)))
        if numbers and min(numbers) >= least:
            return numbers
    except ValueError:
        pass
    raise ValueError(f'{option} is {text!r}: it has to be whole numbers, {least} or more, with commas between')


def parse_names(text: str) -> list[str]:
    """Words with commas between."""
    return [part.strip() for part in text.split(',') if part.strip()]


# A benchmark.


def prepare(options: argparse.Namespace, name: str, scores: list[Score], folder: Path, among: bool = False) -> Setup:
    """One benchmark, ready to be scored.

    Parameters
    ----------
    options
        The command line's.
    name
        The benchmark's name.
    scores
        Scores and baselines.
    folder
        Where its results go.
    among
        Whether it is one among several, which are all scored on the same images, or on the same texts.

    Raises
    ------
    Missing
        If its table or its data are not to be had.
    """
    table = _table_of(options, name, among)
    load_benchmark(name, table=table)  # its mistakes come before the data are loaded
    data_name = _data_of(options, name, among)
    size = options.image_size or declaration_of(name).image_size
    try:
        data = load_data(data_name, size=size)
    except ValueError as error:
        if not among or data_name in (options.data, options.text):
            raise
        raise Missing(f'{name} is scored on images, and {error}') from error  # nobody asked for these
    benchmark = load_benchmark(name, table=table, classes=data.classes)
    metrics = parse_names(options.metric) if options.metric else benchmark.metrics
    for metric in metrics:
        benchmark.check_metric(metric)
    kernels = _kernels(options, data)
    settings = {
        'benchmark': benchmark.name,
        'table': table,
        'data': data_name,
        'image_size': size,
        'classes': data.classes,
        **_scoring_settings(options, kernels[0]),
    }
    return Setup(benchmark, metrics, scores, kernels, folder, settings, [])


def prepare_several(options: argparse.Namespace, one: Callable[[str], Setup], notes: list[str]) -> dict[str, Setup]:
    """The benchmarks that can be run, as ``one`` prepares each by its name; a note for each that is left out."""
    setups: dict[str, Setup] = {}
    missing = []
    for name in names_of(options.benchmark):
        try:
            setups[name] = one(name)
        except Missing as error:
            missing.append(str(error))
    if not setups:
        raise ValueError(f'there is no benchmark to run: {"; ".join(missing)}')
    notes += [f'Left out: {sentence}' for sentence in missing]
    return setups


def check_several(options: argparse.Namespace) -> None:
    """Raise ``ValueError`` where an option is for one benchmark only, and several are named."""
    for name, instead in (
        ('table', 'name the folder of all tables with --tables'),
        ('metric', 'in the table of several each has its own'),
        ('image_size', 'of several each has its own'),
    ):
        if getattr(options, name) is not None:
            raise ValueError(f'--{name.replace("_", "-")} is for one benchmark: {instead}')
    if ALL in options.benchmark.split(',') and options.tables is None:
        raise ValueError(f'--benchmark {ALL} needs --tables FOLDER, where the tables lie')


@contextlib.contextmanager
def opened_cache(folder: Path) -> Iterator[ScoreCache]:
    """The cache of scores in a folder, which is made where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'the folder {folder} cannot be made: {error.strerror}') from error
    with contextlib.closing(ScoreCache(folder / 'scores.sqlite')) as cache:
        yield cache


def folder_name(name: str) -> str:
    """The folder of a benchmark's results."""
    return re.sub(r'\W', '-', name)


def _kernels(options: argparse.Namespace, data: Data) -> list[GradientKernelEvaluator]:
    """A kernel a seed."""
    normalization = {'normalization': options.normalization} if options.normalization else {}
    return [
        GradientKernelEvaluator(data.train, None, options.batch_size, seed, device=options.device, **normalization)
        for seed in parse_seeds(options.seeds)
    ]


def _scoring_settings(options: argparse.Namespace, kernel: GradientKernelEvaluator) -> dict[str, Any]:
    return {
        'batch_size': options.batch_size,
        'normalization': kernel.normalization,
        'seeds': parse_seeds(options.seeds),
        'sample_seed': options.sample_seed,
        'device': str(kernel.device),
        'nni_knas': __version__,
        'torch': torch.__version__,
    }


def _table_of(options: argparse.Namespace, name: str, among: bool) -> str | None:
    declared = declaration_of(name)
    usual = ' or '.join(declared.files[:3])
    if options.tables is not None:
        found = find_table(name, options.tables)
        if found is not None:
            return str(found)
        if declared.files:
            raise Missing(f'{options.tables} has no table of {name}, which is called {usual}')
    elif among and declared.files:
        raise ValueError(f'--tables is missing: it is the folder where the table of {name} lies, {usual}')
    needed = inspect.signature(declared.function).parameters.get('table')
    if among and needed is not None and needed.default is inspect.Parameter.empty:
        raise ValueError(
            f'{name} needs a table, and it is not known what that is called in --tables: name it where the benchmark is '
            'registered, with file='
        )
    table: str | None = options.table
    return table


def _data_of(options: argparse.Namespace, name: str, among: bool) -> str:
    declared = declaration_of(name)
    if not among and options.data and options.text:
        raise ValueError(f'--data and --text are both given: {name} is scored on one of them')
    if declared.takes == 'texts':
        data = options.text or ('' if among else options.data)
        if not data:
            raise Missing(f'{name} is scored on texts: name them with --text text:FOLDER')
        if data in ('digits', *TORCHVISION) or data.startswith('folder:'):
            raise ValueError(f'{name} is scored on texts, and {data} are images: name a text:FOLDER')
        return data
    data = options.data or ('' if among else options.text) or (IMAGES if among else declared.data)
    if declared.takes == 'images' and data.startswith('text:'):
        raise ValueError(f'{name} is scored on images, and {data} are texts: name images with --data, and texts with --text')
    return data
