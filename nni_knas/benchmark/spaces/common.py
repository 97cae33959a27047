"""What the benchmarks of public tables share: reading a table, and networks that are built from their rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from nni_knas.benchmark.base import Benchmark
from nni_knas.gradients import first_line, seeded

__all__ = ['built', 'read_table', 'results_of']


def read_table(path: str | Path | None, columns: list[str], where: str) -> pd.DataFrame:
    """The rows of a CSV that has to have these columns.

    Parameters
    ----------
    path
        What the user gave as ``--table``.
    columns
        Those that say what the architectures are.
    where
        What the table is and where it is to be had, for the sentence that says that there is none.

    Raises
    ------
    ValueError
        If there is no such table, or it lacks a column.
    """
    if path is None:
        raise ValueError(f'the benchmark needs a table (--table): {where}')
    file = Path(path).expanduser()
    try:
        table = pd.read_csv(file, dtype={name: str for name in columns})
    except FileNotFoundError:
        raise ValueError(f'there is no table {file}: {where}') from None
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f'{file} cannot be read as a table ({first_line(error)}): {where}') from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f'{file} has no column {missing[0]}, so its architectures are not known: {where}')
    return table


def results_of(table: pd.DataFrame, architectures: pd.Series) -> pd.DataFrame:
    """The numeric columns by architecture; of one that was trained more than once the mean."""
    return table.select_dtypes('number').groupby(architectures.rename('architecture'), sort=False).mean()


def built(name: str, table: pd.DataFrame, make: Callable[[str], nn.Module], **others: Any) -> Benchmark:
    """A benchmark whose networks ``make(architecture)`` makes, under the seed of the initial weights."""

    def network(architecture: str, seed: int) -> nn.Module:
        with seeded(seed):
            return make(architecture)

    return Benchmark(name, table, network, **others)
