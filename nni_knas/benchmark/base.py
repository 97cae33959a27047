"""What a tabular benchmark is, and the registry that finds benchmarks by name.

A benchmark is a table of trained results and a function from an architecture to its network. One more is added so::

    from nni_knas.benchmark import register_benchmark, space_benchmark

    @register_benchmark('my-space')
    def my_space(table):                                    # what --table says
        return space_benchmark('my-space', MySpace(), pandas.read_csv(table))
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import SimplifiedModelSpace
from torch import nn

from nni_knas.data import load_object
from nni_knas.networks import build_network, decode_sample

__all__ = ['Benchmark', 'benchmark_names', 'default_data', 'load_benchmark', 'register_benchmark', 'space_benchmark']

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
        The columns that hold final results, where their names do not say so by ``acc``.
    """

    name: str
    table: pd.DataFrame
    network: Callable[[str, int], nn.Module]
    key: str = ''
    final: tuple[str, ...] = ()

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

    @property
    def columns(self) -> list[str]:
        """The numeric columns: all that can be asked for as a metric."""
        return [str(name) for name in self.table.select_dtypes('number').columns]

    @property
    def metrics(self) -> list[str]:
        """The accuracy columns: those named as final, else those with ``acc`` in their names, or all numeric ones."""
        if self.final:
            return [name for name in self.columns if name in self.final]
        accuracies = [name for name in self.columns if 'acc' in name.lower() and EARLY not in name]
        return accuracies or self.columns

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
        """
        complete = sorted(self.table.index[np.isfinite(self.table[metrics].astype('float64')).all(axis=1)])
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
        lambda architecture, seed: build_network(candidates.freeze(decode_sample(architecture)), seed),
    )


class _Entry(NamedTuple):
    function: Callable[..., Benchmark]
    data: str
    image_size: int


_REGISTRY: dict[str, _Entry] = {}
F = TypeVar('F', bound=Callable[..., Benchmark])


def register_benchmark(name: str, *, data: str = 'digits', image_size: int = 32) -> Callable[[F], F]:
    """Decorator: make a benchmark known under a name.

    The function returns a :class:`Benchmark`. It takes any of ``table`` (the path that the user gave, or ``None``) and
    ``classes`` (the number of classes of the data that is scored on), or nothing.

    Parameters
    ----------
    name
        The benchmark's name.
    data, image_size
        What ``nni-knas benchmark`` scores on where the user does not say.
    """

    def decorate(function: F) -> F:
        _REGISTRY[name] = _Entry(function, data, image_size)
        return function

    return decorate


def benchmark_names() -> list[str]:
    """The names that :func:`load_benchmark` knows."""
    return sorted(_REGISTRY)


def default_data(name: str) -> tuple[str, int]:
    """The name of the data, and the size of the images, that a benchmark is scored on by default."""
    entry = _REGISTRY.get(name)
    return (entry.data, entry.image_size) if entry else ('digits', 32)


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
    if name in _REGISTRY:
        function = _REGISTRY[name].function
    elif ':' in name:
        function = load_object(name)
    else:
        near = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        raise ValueError(
            f'unknown benchmark {name!r}{hint}: it is one of {", ".join(benchmark_names())}, or yours as module:function'
        )
    if not callable(function):
        raise ValueError(f'{name} should be a function that returns a Benchmark, and is {function!r}')
    given: dict[str, Any] = {'table': table, 'classes': classes}
    taken = [key for key in inspect.signature(function).parameters if key in given]
    if table is not None and 'table' not in taken:
        raise ValueError(f'the benchmark {name} brings its own table: leave --table out')
    benchmark = function(**{key: given[key] for key in taken})
    if not isinstance(benchmark, Benchmark):
        raise ValueError(f'{name} should return a Benchmark, and returned {type(benchmark).__name__}')
    return benchmark
