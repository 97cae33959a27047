"""What a search is asked for: each field, its default and its check once, for all that ask."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from nni_knas.basics.checks import check_count
from nni_knas.basics.names import COSTS, PLACEMENTS, Choose, Effort, OptimizeMode

if TYPE_CHECKING:  # all defaults and limits are to be had without what they are about
    from nni_knas.engine import Placement

__all__ = ['CHOOSE', 'FEW', 'Choose', 'Effort', 'OptimizeMode', 'SearchRequest', 'check_counts']

FEW = 3
"""How many are trained where a search is started without Python, and nothing is said of it: enough for a first look."""

CHOOSE: Choose = 'learn'
"""How candidates are chosen for training where nothing is said of it."""


LEAST_BEFORE_NEAR = 3
"""So many are trained at least before candidates are drawn near the best: of fewer hardly anything is learnt."""

SHARE_BEFORE_NEAR = 0.4
"""The part of the ``top_k`` that is trained before. On tables 8 of 20 did better than 5 and than 12
(``measurements/near_best.py``): enough to know where the best are, and enough left to make use of it."""


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What a search is asked for, besides its space, its kernel and its explorer.

    The strategy :class:`~nni_knas.KNAS`, which documents each field, makes one of its arguments; the command line, the
    configuration file and the tuner make one of theirs (:class:`nni_knas.config.SearchOptions`); the stages get it whole.

    Attributes
    ----------
    candidates, top_k, choose, stop_when, near_best, placement, workers, ahead, effort, merge_identical, constraints, \
front, optimize_mode, country, keep_weights
        The fields of the same names that :class:`~nni_knas.KNAS` documents.

    Raises
    ------
    ValueError, TypeError
        If a field cannot be, or fields do not go together; the message says what would be right.
    """

    candidates: int = 300
    top_k: int = 20
    choose: Choose = CHOOSE
    stop_when: float | None = None
    near_best: int = 0
    placement: str | Placement = 'process'
    workers: int | None = None
    ahead: int | None = None
    effort: Effort = 'adaptive'
    merge_identical: bool = False
    constraints: Mapping[str, float] = field(default_factory=dict)
    front: str | None = None
    optimize_mode: OptimizeMode | None = None
    country: str | None = None
    keep_weights: bool = True

    def __post_init__(self) -> None:
        from nni_knas.footprint import check_country
        from nni_knas.networks import check_constraints

        check_counts(self.candidates, self.top_k)
        self._check_choice()
        self._check_near_best()
        self._check_placement()
        if self.effort not in get_args(Effort):
            raise ValueError(f'unknown effort {self.effort!r}: it is "adaptive" or "full"')
        if self.optimize_mode is not None and self.optimize_mode not in get_args(OptimizeMode):
            raise ValueError(f'unknown optimize_mode {self.optimize_mode!r}: it is "maximize" or "minimize"')
        if self.front is not None and self.front not in COSTS:
            raise ValueError(f'unknown front {self.front!r}: it is one of {", ".join(COSTS)}')
        object.__setattr__(self, 'constraints', check_constraints(self.constraints))
        object.__setattr__(self, 'country', check_country(self.country))

    def _check_choice(self) -> None:
        if self.choose not in get_args(Choose):
            raise ValueError(f'unknown choose {self.choose!r}: it is "learn" or "rank"')
        when = self.stop_when
        if when is None:
            return
        if isinstance(when, bool) or not isinstance(when, (int, float)) or not 0 < when < 1:
            raise ValueError(f'stop_when is {when!r}: it has to be a chance above 0 and below 1, such as 0.05')
        if self.choose != 'learn':
            raise ValueError(
                f'stop_when={when} goes with choose="learn", not with "{self.choose}", which does not know what is left'
            )

    def _check_near_best(self) -> None:
        near, least = self.near_best, LEAST_BEFORE_NEAR + 1
        check_count('near_best', near, 0)
        if not near:
            return
        if self.choose != 'learn':
            raise ValueError(
                f'near_best={near} goes with choose="learn", not with "{self.choose}", which does not learn what is best'
            )
        if self.top_k < least:
            raise ValueError(
                f'near_best={near} goes with a top_k of at least {least}, not {self.top_k}: '
                f'they are drawn when {LEAST_BEFORE_NEAR} or more have been trained'
            )
        if near > self.candidates - self.top_k:
            raise ValueError(
                f'near_best={near} is too much of candidates={self.candidates}: of these the explorer has to draw '
                f'as many as top_k={self.top_k}, or more, so near_best can be {max(self.candidates - self.top_k, 0)} at most'
            )

    def _check_placement(self) -> None:
        from nni_knas.engine import Placement

        for name, value in (('workers', self.workers), ('ahead', self.ahead)):
            if value is not None:
                check_count(name, value)
        known = ', '.join(PLACEMENTS)
        if isinstance(self.placement, str) and self.placement not in PLACEMENTS:
            raise ValueError(f'unknown placement {self.placement!r}: it is one of {known}, or a Placement')
        if not isinstance(self.placement, (str, Placement)):
            raise TypeError(f'placement is {self.placement!r}: it has to be one of {known}, or a Placement')
        if self.workers is not None and self.placement not in ('process', 'workers'):
            raise ValueError(f'workers={self.workers} goes with placement="workers", not with {self.placement!r}')

    def place(self) -> str | Placement:
        """The place where candidates are scored: what ``workers`` implies, and else ``placement``.

        Raises
        ------
        ValueError
            If it is not to be had on this machine.
        """
        from nni_knas.engine import Workers, gpus

        if self.placement == 'gpus':
            gpus()  # says if there are none
        return self.placement if self.workers is None else Workers(self.workers)

    @property
    def trained_before_near(self) -> int:
        """How many are trained before candidates are drawn near the best."""
        return max(LEAST_BEFORE_NEAR, math.ceil(SHARE_BEFORE_NEAR * self.top_k))

    def fields(self) -> dict[str, Any]:
        """All fields by name, as they are."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}


def check_counts(candidates: int, top_k: int) -> None:
    """Raise ``ValueError``, in one sentence, if so many cannot be scored, or so many of them not be trained."""
    check_count('candidates', candidates)
    check_count('top_k', top_k, 0)
    if top_k > candidates:
        raise ValueError(f'top_k={top_k} is more than candidates={candidates}: no more can be trained than are scored')
