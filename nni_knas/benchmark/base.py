"""What a tabular benchmark is, and the registry that finds benchmarks by name.

A benchmark is a table of trained results and a function from an architecture to its network. One more is added so::

    from nni_knas.benchmark import register_benchmark, space_benchmark

    @register_benchmark('my-space')
    def my_space(table):                                    # what --table says
        return space_benchmark('my-space', MySpace(), pandas.read_csv(table))
"""

from __future__ import annotations

import difflib
import glob
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import SimplifiedModelSpace
from numpy.typing import NDArray
from torch import nn

from nni_knas.data import load_object
from nni_knas.networks import constructed, decode_sample

__all__ = [
    'Benchmark',
    'Declaration',
    'benchmark_names',
    'declaration_of',
    'find_table',
    'load_benchmark',
    'register_benchmark',
    'space_benchmark',
]

Takes = Literal['images', 'texts']

EARLY = '_epoch'  # columns that hold an early result, such as cifar10_valid_acc_epoch12, have this in their names


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Architectures with their trained results, and a way to their networks.

    Attributes
    ----------
    name
        Name in output and in the cache of scores.
    table
        Indexed by architecture (a string); a numeric column a metric, higher is better. A column whose name is that of
        another with ``valid`` in the place of ``test`` holds the validation results that belong to it.
    network
        ``network(architecture, seed)`` gives the freshly initialised network; the initial weights depend on the two alone.
    key
        What tells this benchmark's networks from others in the cache of scores: the name, and what else they depend on, such
        as a number of classes. The name by default.
    final
        The columns that hold final results, where their names do not say so by ``acc``. A table that has none of them is
        taken as if nothing were said.
    witness
        The metric that stands for the benchmark in a table of several; by default the first of :attr:`metrics`.
    within
        A numeric column of the table, such as a depth: correlations are reported within each of its values, too, since such
        a column may alone account for a high correlation. It is no metric.
    tasks
        The metrics that searches are measured on, each a task of its own; by default those with ``test`` in their names, or
        all of :attr:`metrics`.
    choices
        What an architecture has of each of its choices, in a fixed order, for searches that look at architectures; by
        default the words and numbers of its string.
    """

    name: str
    table: pd.DataFrame
    network: Callable[[str, int], nn.Module]
    key: str = ''
    final: tuple[str, ...] = ()
    witness: str = ''
    within: str = ''
    tasks: tuple[str, ...] = ()
    choices: Callable[[str], Sequence[str]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'key', self.key or self.name)
        if self.table.index.has_duplicates:
            twice = self.table.index[self.table.index.duplicated()][0]
            raise ValueError(f'the table of {self.name} has the architecture {twice} more than once')
        if not self.columns:
            raise ValueError(
                f'the table of {self.name} has no accuracy column: its columns are '
                f'{", ".join(map(str, self.table.columns)) or "none"}, and none of them is numeric'
            )
        if self.within:
            self.check_metric(self.within)

    @property
    def columns(self) -> list[str]:
        """The numeric columns: all that can be asked for as a metric."""
        return [str(name) for name in self.table.select_dtypes('number').columns]

    @property
    def metrics(self) -> list[str]:
        """The accuracy columns: those named as final, else those with ``acc`` in their names, or all numeric ones."""
        if named := [name for name in self.columns if name in self.final]:
            return named
        columns = [name for name in self.columns if name != self.within]
        return [name for name in columns if 'acc' in name.lower() and EARLY not in name] or columns

    @property
    def searched(self) -> list[str]:
        """The metrics that searches are measured on."""
        named = [name for name in self.columns if name in self.tasks]
        return named or [name for name in self.metrics if 'test' in name.replace('valtest', '')] or self.metrics

    def check_metric(self, metric: str) -> None:
        """Raise ``ValueError`` where the table has no such metric."""
        if metric not in self.columns:
            raise ValueError(f'the table of {self.name} has no metric {metric!r}: it has {", ".join(self.columns)}')

    def sample(self, count: int, seed: int, metrics: list[str]) -> list[str]:
        """Random architectures that have a result in each of the metrics.

        Parameters
        ----------
        count
            How many; all, where there are fewer.
        seed
            The same seed draws the same ones, whatever the order of the table; a larger sample begins with a smaller one.
        metrics
            Columns of the table.
        """
        reached: NDArray[Any] = self.table[metrics].to_numpy(np.float64)
        complete = sorted(self.table.index[np.isfinite(reached).all(axis=1)])
        order = np.random.default_rng(seed).permutation(len(complete))
        return [complete[i] for i in order[:count]]


def space_benchmark(name: str, space: ModelSpace, table: pd.DataFrame) -> Benchmark:
    """A benchmark over any NNI model space.

    Parameters
    ----------
    name
        Name of the benchmark.
    space
        The model space.
    table
        Trained results; its column ``architecture`` (or its index) holds NNI samples as JSON text, as
        :func:`nni_knas.networks.candidates.encode_sample` writes it.
    """
    candidates = SimplifiedModelSpace.from_model(space)
    return Benchmark(
        name,
        table.set_index('architecture') if 'architecture' in table else table,
        lambda architecture, seed: constructed(candidates.freeze(decode_sample(architecture)), seed),
    )


class Declaration(NamedTuple):
    """What was said of a benchmark when it was registered; the fields are :func:`register_benchmark`'s."""

    function: Callable[..., Benchmark]
    data: str = 'digits'
    image_size: int = 32
    takes: Takes | None = None
    files: tuple[str, ...] = ()
    witness: str = ''
    within: str = ''


_REGISTRY: dict[str, Declaration] = {}
F = TypeVar('F', bound=Callable[..., Benchmark])


def register_benchmark(
    name: str,
    *,
    data: str = 'digits',
    image_size: int = 32,
    takes: Takes = 'images',
    file: str | tuple[str, ...] = (),
    witness: str = '',
    within: str = '',
) -> Callable[[F], F]:
    """Decorator: make a benchmark known under a name.

    The function returns a :class:`Benchmark`. It takes any of ``table`` (the path that the user gave, or ``None``) and
    ``classes`` (the number of classes of the data that is scored on), or nothing.

    Parameters
    ----------
    name
        The benchmark's name.
    data, image_size
        What ``nni-knas benchmark`` scores on where the user does not say.
    takes
        What the networks read. Texts have no default: the user names them.
    file
        The usual name of the table in a folder of tables, for ``nni-knas benchmark --benchmark all --tables FOLDER``: a
        pattern as of :mod:`glob`, or several in the order in which they are looked for.
    witness, within
        What :class:`Benchmark` says of them.
    """

    def decorate(function: F) -> F:
        files = (file,) if isinstance(file, str) else file
        _REGISTRY[name] = Declaration(function, data, image_size, takes, files, witness, within)
        return function

    return decorate


def benchmark_names() -> list[str]:
    """The names that :func:`load_benchmark` knows."""
    return sorted(_REGISTRY)


def declaration_of(name: str) -> Declaration:
    """What is declared of a benchmark: one of :func:`benchmark_names`, or the user's own as ``module:function``.

    Raises
    ------
    ValueError
        If there is no such benchmark.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    if ':' not in name:
        near = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        raise ValueError(
            f'unknown benchmark {name!r}{hint}: it is one of {", ".join(benchmark_names())}, or yours as module:function'
        )
    function = load_object(name)
    if not callable(function):
        raise ValueError(f'{name} should be a function that returns a Benchmark, and is {function!r}')
    declared = [each for each in _REGISTRY.values() if each.function is function]
    return declared[0] if declared else Declaration(function)


def find_table(name: str, folder: Path) -> Path | None:
    """The table of a benchmark in a folder of tables, by its usual names; ``None`` where there is none."""
    for pattern in declaration_of(name).files:
        for found in sorted(glob.glob(pattern, root_dir=folder)):
            return folder / found
    return None


def load_benchmark(name: str, *, table: str | None = None, classes: int = 10) -> Benchmark:
    """A benchmark by its name, or the user's own as ``module:function``.

    Parameters
    ----------
    name
        One of :func:`benchmark_names`, or ``module:function`` of a function as :func:`register_benchmark` takes it.
    table
        Path of the table, where the benchmark needs one.
    classes
        Number of classes of the data, for benchmarks whose networks have that many outputs.

    Raises
    ------
    ValueError
        If there is no such benchmark, or its table is missing or unfit; the message says where the table is to be had.
    """
    declared = declaration_of(name)
    given: dict[str, Any] = {'table': table, 'classes': classes}
    taken = [key for key in inspect.signature(declared.function).parameters if key in given]
    if table is not None and 'table' not in taken:
        raise ValueError(f'the benchmark {name} brings its own table: leave --table out')
    benchmark = declared.function(**{key: given[key] for key in taken})
    if not isinstance(benchmark, Benchmark):
        raise ValueError(f'{name} should return a Benchmark, and returned {type(benchmark).__name__}')
    return replace(benchmark, witness=benchmark.witness or declared.witness, within=benchmark.within or declared.within)
