"""The table of candidates as people see it: few columns, in the order in which they are asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from nni_knas.basics.texts import one_line

__all__ = ['ScoreTable', 'score_table']

_FIRST = ('score', 'metric')
_LAST = ('architecture', 'status')
_LEAST = 12  # characters that an architecture has in any case


def score_table(frame: pd.DataFrame, *costs: str, statistics: Sequence[str] = ()) -> ScoreTable:
    """The columns that are asked for first.

    Parameters
    ----------
    frame
        Candidates as :meth:`nni_knas.record.Record.frame` gives them.
    costs
        Names of costs that belong to what was asked.
    statistics
        Names of the panel's statistics, where they were asked for.
    """
    return ScoreTable(frame[[*_FIRST, *costs, *_LAST, *statistics]])


class ScoreTable(pd.DataFrame):
    """A ``DataFrame`` that is printed with its architectures cut, so that pandas has room for all of its columns."""

    @property
    def _constructor(self) -> Callable[..., ScoreTable]:
        return ScoreTable

    def __repr__(self) -> str:
        plain = pd.DataFrame(self)
        if 'architecture' not in plain:
            return repr(plain)
        others = repr(plain.drop(columns='architecture')) if len(plain.columns) > 1 else ''
        room = max(
            _LEAST, _width() - max(map(len, others.splitlines()), default=0) - 3
        )  # two before a column, and one that pandas leaves free
        room = min(room, pd.get_option('display.max_colwidth') or room)
        return repr(plain.assign(architecture=[_cut(one_line(sample), room) for sample in plain.architecture]))


def _width() -> int:
    """The characters of a line; pandas breaks tables there, or where it is told to before."""
    asked: Any = pd.get_option('display.width')
    terminal = shutil.get_terminal_size().columns
    return min(asked or terminal, terminal)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[: length - 3]}...'
