"""Which candidate is trained next: by its score, or by what the trained ones have taught."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import pandas as pd
from nni.mutable import Sample

from nni_knas.learner import Learner
from nni_knas.record import BEGUN, Choice, Record, Stop, keys, set_stop, stop_of
from nni_knas.runs import chosen, learner_of, pool_of, tell
from nni_knas.search.near import PARENTS, is_to_come, near_is_due
from nni_knas.search.request import SearchRequest

__all__ = ['Chooser', 'LearnChooser', 'RankChooser', 'chooser_of']

_said = logging.getLogger('nni.knas')


class Chooser(ABC):
    """Says which candidate of a record is to be trained next, whenever a trial can be begun.

    Parameters
    ----------
    record
        Has the candidates and what came of training, and keeps what is chosen.
    request
        What the search is asked for.
    within
        Says which samples there are to choose from. Default: all.
    """

    def __init__(self, record: Record, request: SearchRequest, within: Callable[[Sample], bool] | None = None) -> None:
        self.record = record
        self.request = request
        self.within = within

    @abstractmethod
    def next(self) -> Choice | None:
        """The candidate to train next, by what is known now; ``None`` where no more are to be trained."""

    @property
    def wants_more(self) -> bool:
        """Whether more candidates are to be scored near :meth:`parents` before the next one is chosen."""
        return False

    def parents(self) -> list[int]:
        """The numbers of the candidates of which most is expected, the best first."""
        return []

    @property
    @abstractmethod
    def total(self) -> int:
        """How many are to be trained in all, those that are or were among them."""

    @property
    @abstractmethod
    def left(self) -> int:
        """How many are still to be begun."""


class RankChooser(Chooser):
    """The ``top_k`` by score, the best first; or those of the Pareto front of score and a cost."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        ranked = chosen(self.record, self.request.top_k, self.request.front, self.within)
        self._total = len(ranked)
        self._waiting = deque((rank, candidate.id) for rank, candidate in ranked if candidate.status not in BEGUN)

    def next(self) -> Choice | None:
        if not self.left:
            return None
        rank, number = self._waiting.popleft()
        choice = Choice(number, rank, 'score')
        self.record.add_choice(choice)
        return choice

    @property
    def total(self) -> int:
        return self._total

    @property
    def left(self) -> int:
        while self._waiting and self.record.get(self._waiting[0][1]).status in BEGUN:
            self._waiting.popleft()  # a result was imported meanwhile
        return len(self._waiting)


class LearnChooser(Chooser):
    """The one of which a :class:`~nni_knas.Learner` expects the most, by the metrics of those trained so far.

    Each choice depends on the record alone, so that one that was interrupted is made again as it was. A candidate that has a
    quick score alone is scored in full before it is trained, and then it is asked again which one is to be trained.

    Parameters
    ----------
    record, request, within
        As of any chooser.
    score_in_full
        Scores the candidate of a number in full, into the record.
    score_near
        Has more candidates scored near those of these numbers, before a choice that they are wanted for. Default: who asks
        for choices looks after that (:attr:`wants_more`).
    """

    most_scored = 16
    """How many candidates are scored in full for a choice at most."""

    def __init__(
        self,
        record: Record,
        request: SearchRequest,
        within: Callable[[Sample], bool] | None = None,
        score_in_full: Callable[[int], None] | None = None,
        score_near: Callable[[list[int]], None] | None = None,
    ) -> None:
        super().__init__(record, request, within)
        self._score_in_full = score_in_full
        self._score_near = score_near
        self._over = False
        self._pool = pd.DataFrame()
        self._learner: Learner | None = None
        self._told = 0  # trainings that the learner knows to have ended
        self._extent: tuple[int, ...] | None = None  # of the record when the candidates were read
        stop = stop_of(record)
        if stop is not None and (stop.stop_when, stop.top_k) != (request.stop_when, request.top_k):
            set_stop(record, None)

    def next(self) -> Choice | None:
        if self._score_near is not None and self.wants_more:
            self._score_near(self.parents())
        choice = self._choose() if self.left else None
        if choice is None:
            self._over = True
        else:
            self.record.add_choice(choice)
        return choice

    @property
    def total(self) -> int:
        return self._begun() + self.left

    @property
    def left(self) -> int:
        if self._over or stop_of(self.record) is not None:
            return 0
        return max(0, min(self.request.top_k, self.record.scored()) - self._begun())

    @property
    def wants_more(self) -> bool:
        return bool(self.left) and near_is_due(self.record, self.request, [metric for _, metric in self.record.endings()])

    def parents(self) -> list[int]:
        self._look()
        assert self._learner is not None
        expected = self._learner.predictions()['mean'].sort_values(ascending=False, kind='stable')
        return [int(number) for number in expected.index[:PARENTS]]

    def _begun(self) -> int:
        if self.within is None:
            return self.record.count(*BEGUN)
        return sum(row.status in BEGUN and self.within(row.sample) for row in self.record.explored())

    def _choose(self) -> Choice | None:
        self._look()
        return self._chosen_before() or self._ask()

    def _look(self) -> None:
        """Take in what is new in the record. Candidates are read anew only where there is more of them."""
        extent = self.record.extent()
        if extent != self._extent:
            self._pool = self._read_pool()
            self._learner, self._told, self._extent = learner_of(self.record, self._pool), 0, extent
        assert self._learner is not None
        self._told = tell(self._learner, self.record, self._pool, self._told)

    def _read_pool(self) -> pd.DataFrame:
        front = (self.request.front, self.request.top_k) if self.request.front is not None else None
        return pool_of(self.record, front, self.within)

    def _free(self) -> pd.Index:
        """The candidates whose training has not begun."""
        begun = [*(number for number, _ in self.record.endings()), *self.record.in_training()]
        return self._pool.index.difference(begun, sort=False)

    def _chosen_before(self) -> Choice | None:
        """The first that was chosen and is not trained, since the run was interrupted."""
        free = self._free()
        return next((choice for choice in self.record.choices() if choice.candidate in free), None)

    def _ask(self) -> Choice | None:
        for _ in range(self.most_scored):
            assert self._learner is not None
            choice = self._asked(self._learner)
            if choice is None or self._score_in_full is None or pd.notna(self._pool.score[choice.candidate]):
                return choice
            self._score_in_full(choice.candidate)
            self._look()
        self._extent = None  # as many as are scored in full for one choice: now one of those that are, if there is one
        full = self._pool[self._pool.score.notna()]
        left = not full.index.intersection(self._free()).empty
        return self._asked(learner_of(self.record, full if left else self._pool))

    def _asked(self, learner: Learner) -> Choice | None:
        expected, metrics = learner.predictions(), {metric for _, metric in self.record.endings()} - {None}
        if len(metrics) > 1 and self._is_enough(expected.chance):
            return None
        for number in learner.ask(1):
            predicted, deviation = None, None
            if len(metrics) > 1:  # before, a learner does not know what metrics are like
                sign = -1 if self.record.get_meta(keys.OPTIMIZE_MODE) == 'minimize' else 1
                predicted, deviation = sign * float(expected['mean'][number]), float(expected.deviation[number])
            rank, reason = int(self._pool['rank'][number]), learner.reason(number) or 'score'
            return Choice(int(number), rank, reason, predicted, deviation)
        return None

    def _is_enough(self, chances: pd.Series) -> bool:
        """Whether the chance that a better one is among the rest is as small as the user has said; it is noted then."""
        when = self.request.stop_when
        if when is None or is_to_come(self.record):  # what is still to be drawn near the best is among the rest
            return False
        chance = float(chances[self._free().intersection(chances.index)].sum())
        if chance >= when:
            return False
        set_stop(self.record, Stop(when, chance, self.request.top_k))
        _said.info('No more are trained: the chance that a better one is among the rest is %.1f %%.', 100 * chance)
        return True


def chooser_of(
    record: Record,
    request: SearchRequest,
    within: Callable[[Sample], bool] | None = None,
    score_in_full: Callable[[int], None] | None = None,
    score_near: Callable[[list[int]], None] | None = None,
) -> Chooser:
    """What chooses in a search, as its request says.

    Parameters
    ----------
    record
        The record that has the candidates.
    request
        What the search is asked for.
    within
        Says which samples there are to choose from. Default: all.
    score_in_full
        Scores a candidate in full that has a quick score alone.
    score_near
        Scores candidates near those of these numbers, where the request asks for it.
    """
    if request.choose == 'rank':
        return RankChooser(record, request, within)
    return LearnChooser(record, request, within, score_in_full, score_near)
