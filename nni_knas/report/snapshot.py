"""A run as it is at one moment."""

from __future__ import annotations

from functools import cached_property

import pandas as pd

from nni_knas.footprint import Footprint
from nni_knas.runs import Run, rated_among

__all__ = ['Moment']


class Moment(Run):
    """A run as it is now: what goes into a page is read once, however often it is asked for."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.folder, run.record)

    def frame(self) -> pd.DataFrame:
        return self._frame

    def footprint(self) -> Footprint:
        return self._footprint

    def rated(self) -> pd.DataFrame:
        """The candidates that have a score, be it a quick one, and can be chosen."""
        return rated_among(self._frame)

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return super().frame()

    @cached_property
    def _footprint(self) -> Footprint:
        return super().footprint()
