"""What the benchmarks of public tables share: reading a table, and networks that are built from their rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from nni_knas.benchmark.base import Benchmark
from nni_knas.gradients import first_line, seeded

__all__ = ['built', 'read_results', 'results_of']


def read_results(path: str | Path | None, columns: list[str], where: str, check: Callable[[str], object]) -> pd.DataFrame:
    """The results in a CSV by architecture, which is what these columns of a row say, with ``|`` between.

    Parameters
    ----------
    path
        What the user gave as ``--table``.
    columns
        Those that say what the architectures are.
    where
        What the table is, for the sentence that says that there is none.
    check
        Raises ``ValueError`` for what is no architecture of the space.

    Raises
    ------
    ValueError
        If there is no such table, or it lacks a column, or has another space's architectures.
    """
    if path is None:
        raise ValueError(f'the benchmark needs a table (--table): {where}')
    file = Path(path).expanduser()
    table = _read_table(file, columns, where)
    architectures = table[columns].fillna('').agg('|'.join, axis=1)
    for line, architecture in enumerate(architectures, start=2):  # the header is line 1
        try:
            check(architecture)
        except ValueError as error:
            raise ValueError(f'line {line} of {file}: {error}') from None
    return results_of(table, architectures)


def _read_table(file: Path, columns: list[str], where: str) -> pd.DataFrame:
    """The rows of a CSV that has to have these columns."""
    try:
        table = pd.read_csv(file, dtype={name: str for name in columns})
    except FileNotFoundError:
        raise ValueError(f'there is no table {file}: {where}') from None
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f'{file} cannot be read as a table ({first_line(error)}): {where}') from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f'{file} has no column {missing[0]}, so its architectures are not known: {where}')
    if table.empty:
        raise ValueError(f'{file} has no rows: {where}')
    return table


def results_of(table: pd.DataFrame, architectures: pd.Series) -> pd.DataFrame:
    """The numeric columns by architecture; of one that was trained more than once the mean."""
    numbers = table.select_dtypes('number')
    metrics = numbers[[name for name in numbers if not str(name).startswith('Unnamed')]]  # pandas' own row numbers
    return metrics.groupby(architectures.rename('architecture'), sort=False).mean()


def built(name: str, table: pd.DataFrame, make: Callable[[str], nn.Module], **others: Any) -> Benchmark:
    """A benchmark whose networks ``make(architecture)`` makes, under the seed of the initial weights."""

    def network(architecture: str, seed: int) -> nn.Module:
        with seeded(seed):
            return make(architecture)

    return Benchmark(name, table, network, **others)
