"""NNI execution engine of the coarse stage: it has models scored instead of training them."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from nni.mutable import Sample
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from tqdm import tqdm

from nni_knas.basics.harmless import Harmless
from nni_knas.engine.placement import Placement, Task
from nni_knas.engine.race import Race
from nni_knas.engine.scorer import Scorer, Verdict
from nni_knas.networks import decode_sample, encode_sample
from nni_knas.record import Candidate, Record, Status, keys

__all__ = ['ScoringEngine']


_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Scored:
    """A candidate that is being scored, shared by all models of it that wait.

    Attributes
    ----------
    number
        The candidate's number in the order of exploration.
    text
        The candidate's sample as text.
    architecture
        What tells its network from others, as text.
    known
        Whether the verdict is there.
    score
        The score of the verdict; ``None`` where it failed or was filtered.
    filtered
        Whether it broke a constraint, as the verdict says.
    """

    number: int
    sample: Sample
    text: str = ''
    architecture: str = ''
    known: bool = False
    score: float | None = None
    filtered: bool = False


class _Waiting(NamedTuple):
    """A model that was submitted and is not reported, with its candidate, and whether it is the first model of that."""

    model: ExecutableModelSpace
    candidate: _Scored
    first: bool


class ScoringEngine(ExecutionEngine):
    """Have each submitted model scored, and report the score to the strategy as its final metric.

    A model that is in the record already is answered from there: nothing is scored twice, neither in a run nor after a
    restart. A model that cannot be scored ends as failed, without a metric, and the exploration goes on.

    Models are reported in the order of their submission, each when ``ahead`` models were submitted since: the strategy
    chooses the model number ``j`` knowing the first ``j - ahead`` results, no more and no less. So an exploration depends
    on the strategy's seed and on ``ahead``, and not on how long things take, nor where they are done.

    A candidate that breaks one of the scorer's constraints ends as failed, too, and does not count against the budget. As
    long as it is not reported, it does: where the budget looks used up, the oldest results are reported, one by one, until
    one gives budget back.

    Parameters
    ----------
    scorer
        Scores candidates, wherever the placement has it done.
    record
        Receives each candidate as soon as its score is known, under its number in the order of exploration.
    candidates
        The budget: number of different candidates in the record, failed ones included, without those that break a
        constraint and those that are outside of the space.
    placement
        The place where candidates are scored, within :meth:`opened`.
    ahead
        How many models the strategy may be ahead of the results. Default: what keeps the placement busy, and the same
        for all but large ones.
    deadline
        ``time.monotonic()`` at which the budget ends, if any.
    quick
        Whether to score quickly at first; :meth:`finish` then scores the best in full.

    Attributes
    ----------
    bar
        Progress bar to move.
    after_submission
        Called after each submission, when the strategy knows all that it will know for its next choice.
    elastic
        Whether the placement may hold more than ``ahead`` models, for strategies that do not learn from results.
    """

    patience = 500
    """How many known candidates in a row an explorer may submit before it counts as having nothing new; and how many new
    ones in a row may break a constraint before it counts as finding none that keeps to them.
    """

    least_ahead = 16
    """Default of ``ahead``, for placements that do not need more to be busy."""

    def __init__(
        self,
        scorer: Scorer,
        record: Record,
        candidates: int,
        placement: Placement,
        *,
        ahead: int | None = None,
        deadline: float = math.inf,
        quick: bool = False,
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.record = record
        self.placement = placement
        self.ahead = ahead if ahead is not None else max(self.least_ahead, placement.ahead)
        self.deadline = deadline
        self.quick = quick
        self.bar: tqdm[Any] | None = None
        self._harmless = Harmless('The progress of scoring cannot be shown: the search goes on without.')
        self.after_submission: Callable[[], None] | None = None
        self.elastic = False
        self._window: deque[_Waiting] = deque()  # in the order of submission
        self._pending: dict[str, _Scored] = {}  # without a verdict, by sample
        self._twins: dict[str, list[_Scored]] = {}  # of those, all that are one network, by what tells it
        self._asked: dict[int, _Scored] = {}  # of those, the ones that the placement has, by number
        self._number = 0  # of different candidates that were submitted
        self._known_in_a_row = 0
        self._known_at_start = len(record)
        self._candidates = candidates
        self._counted = record.counted()  # in the record
        self._used = self._counted  # these, and what was begun since and is not known to be filtered
        self._filtered = 0  # of this exploration, reported
        self._filtered_in_a_row = 0
        self._best = record.best_score()
        self._differs_from_record = False
        self._noted = time.monotonic()

    @contextlib.contextmanager
    def opened(self, engine: ExecutionEngine) -> Iterator[None]:
        """The placement is at work inside, and stopped in any case.

        Parameters
        ----------
        engine
            The experiment's own engine, for placements that run on it.
        """
        self._noted = time.monotonic()
        try:
            self.placement.start(self.scorer, engine)
            yield
        finally:
            self.placement.stop()
            self._note_scoring_time()

    # Models come in.

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        for model in models:
            assert model.sample is not None
            model.status = ModelStatus.Training
            candidate, first = self._candidate_for(model.sample)
            self._window.append(_Waiting(model, candidate, first))
            self._record_verdicts(self.placement.poll())
            while len(self._window) >= self._most_unreported() and self._report_oldest():
                pass
            if self.after_submission is not None:
                self.after_submission()

    def _most_unreported(self) -> int:
        """How many models may wait to be reported."""
        # Where the exploration may end for having found no candidate that keeps to the constraints, it ends at the same one
        # whatever the placement.
        ends = self.scorer.constraints and self._filtered_in_a_row + len(self._window) >= self.patience
        return max(self.ahead, self.placement.ahead) if self.elastic and not ends else self.ahead

    def _candidate_for(self, sample: Sample) -> tuple[_Scored, bool]:
        """The candidate of a sample: one of the record, one that is pending, or a new one; and whether it comes first."""
        text = encode_sample(self.scorer.canonical(sample))
        candidate = self._find_known(sample, text)
        following = self._number + 1
        first = candidate is None or candidate.number == following  # when a run is resumed, what the record has comes anew
        if first:
            self._number = following
            self._known_in_a_row = 0
        else:
            assert candidate is not None
            self._known_in_a_row += 1
            self._differs_from_record = self._differs_from_record or candidate.number > following
        if candidate is None:
            self._differs_from_record = self._differs_from_record or (self._known_at_start > 0 and following in self.record)
            candidate = self._begin_scoring(following, text)
        return candidate, first

    def _find_known(self, sample: Sample, text: str) -> _Scored | None:
        if text in self._pending:
            return self._pending[text]
        row = self.record.find(decode_sample(text)) or self.record.find(sample)  # records of old have samples as they came
        if row is None:
            return None
        return _Scored(row.id, sample, known=True, score=self._score_of(row), filtered=row.status == Status.FILTERED)

    def _score_of(self, row: Candidate) -> float | None:
        return row.quick if self.quick else row.score

    def _begin_scoring(self, number: int, text: str) -> _Scored:
        """Have a candidate scored, unless one is or was that is the same network."""
        sample = decode_sample(text)  # its own: NNI's grid changes the samples of the models that it has given out
        candidate = _Scored(number, sample, text, self.scorer.identity(sample))
        self._used += 1
        self._pending[text] = candidate
        if candidate.architecture in self._twins:
            self._twins[candidate.architecture].append(candidate)
            return candidate
        self._twins[candidate.architecture] = [candidate]
        twin = self.record.find_architecture(candidate.architecture) if self.scorer.has_twins else None
        if twin is not None:
            self._record_with_twins(candidate, self._verdict_on(twin))
        else:
            self._asked[number] = candidate
            self.placement.put(Task(number, sample, self.quick))
        return candidate

    def _verdict_on(self, row: Candidate) -> Verdict:
        """What the record says of a candidate, for another one that is the same network."""
        score = self._score_of(row)
        reason = row.reason if score is None else None
        # One that has its full score already shares that, and the panel that belongs to it, when the best are scored.
        panel = self.record.panel(row.id) if not self.quick or row.score is None else None
        return Verdict(score, reason, 0.0, row.costs, row.status == Status.FILTERED, panel)

    # Verdicts come in.

    def _wait_for_verdicts(self) -> bool:
        """Wait for verdicts and take them in; ``False`` where there will be no more."""
        return self._record_verdicts(self.placement.get())

    def _record_verdicts(self, verdicts: list[tuple[Task, Verdict]]) -> bool:
        if verdicts:
            with self.record.transaction():
                for task, verdict in verdicts:
                    self._record_with_twins(self._asked.pop(task.number), verdict)
                if time.monotonic() - self._noted > 1:
                    self._note_scoring_time()
        return bool(verdicts)

    def _record_with_twins(self, candidate: _Scored, verdict: Verdict) -> None:
        for each in self._twins.pop(candidate.architecture):
            self._write_to_record(each, verdict if each is candidate else verdict._replace(seconds=0.0))

    def _write_to_record(self, candidate: _Scored, verdict: Verdict) -> None:
        score, reason, seconds, costs, filtered, panel = verdict
        sample, architecture, number = candidate.sample, candidate.architecture, candidate.number
        if filtered:
            row = self.record.add_filtered(sample, architecture, reason or 'too costly', seconds, number, costs)
        elif self.quick:
            row = self.record.add_screened(sample, architecture, score, seconds, number, costs, panel)
        elif score is not None:
            row = self.record.add_scored(sample, architecture, score, seconds, number, costs, panel)
        else:
            _logger.info('Candidate failed: %s. Sample: %s', reason, sample)
            row = self.record.add_failed(sample, architecture, reason or 'no score', seconds, number, costs, panel)
        self._differs_from_record = self._differs_from_record or row.id != candidate.number
        del self._pending[candidate.text]
        candidate.known, candidate.score, candidate.filtered = True, score, filtered
        if not filtered:
            self._counted += 1
            self._show_progress(score)

    def _note_scoring_time(self) -> None:
        """Note the time that scoring has taken, for a deadline that holds over restarts."""
        now = time.monotonic()
        self.record.add_scoring_seconds(now - self._noted)
        self._noted = now

    def _show_progress(self, score: float | None) -> None:
        if score is not None:
            self._best = max(score, self._best if self._best is not None else -math.inf)
        if self.bar is not None:
            self._move(self.bar, self._best)

    def _move(self, bar: tqdm[Any], best: float | None) -> None:
        with self._harmless():
            bar.set_postfix_str(_best_text(best), refresh=False)
            bar.update()

    # The best, in full.

    def finish(self, k: int) -> None:
        """After a quick exploration: score in full those candidates that may be among the best ``k``.

        Parameters
        ----------
        k
            How many of the best are looked for.
        """
        networks = list(self.record.networks())
        race = Race({number: quick for number, quick, _, _ in networks}, k, batch=max(self.least_ahead, self.ahead))
        for number, _, score, finished in networks:
            if finished:
                race.add(number, score)
                self._share_with_twins(number, score)
        # A batch that was interrupted is finished first: where a race ends depends on where it was looked at.
        begun = set(json.loads(self.record.get_meta(keys.BATCH) or '[]'))
        batch = [number for number, _, _, finished in networks if number in begun and not finished] or race.next()
        with tqdm(desc='Scoring in full', unit='candidate', disable=None) as bar:
            while batch and self._score_in_full(batch, race, bar):
                batch = race.next()

    def _share_with_twins(self, number: int, score: float | None) -> None:
        """Give what is known of a network to those of its candidates that were explored since."""
        if self.scorer.has_twins:
            reason = self.record.get(number).reason if score is None else None
            self.record.rate(number, score, reason, 0.0, self.record.panel(number))

    def _score_in_full(self, batch: list[int], race: Race, bar: tqdm[Any]) -> bool:
        """Score a batch of the race; ``False`` where the time is over."""
        if time.monotonic() >= self.deadline:
            return False
        self.record.set_meta(keys.BATCH, json.dumps(batch))
        for number in batch:
            row = self.record.get(number)
            self.placement.put(Task(number, row.sample, measured=row.costs.keys() >= set(self.scorer.costs)))
        self.placement.flush()
        left = len(batch)
        while left:
            verdicts = self.placement.get() if time.monotonic() < self.deadline else []
            if not verdicts:
                self.deadline = -math.inf
                return False
            for task, verdict in verdicts:
                if verdict.score is None:
                    _logger.info('Candidate failed: %s. Sample: %s', verdict.reason, task.sample)
                self.record.rate(task.number, verdict.score, verdict.reason, verdict.seconds, verdict.panel)
                race.add(task.number, verdict.score)
                self._move(bar, self.record.best_score())
            left -= len(verdicts)
            if time.monotonic() - self._noted > 1:
                self._note_scoring_time()
        return True

    # Results go out.

    def _report_oldest(self) -> bool:
        """Tell the strategy the oldest result; ``False`` where there will be none."""
        model, candidate, first = self._window[0]
        while not candidate.known:
            if not self._wait_for_verdicts():
                self._give_up_pending()
                return False
        self._window.popleft()
        if first:
            self._count_reported(candidate)
        if candidate.score is not None:
            self.dispatch_model_event(FinalMetricEvent(model, candidate.score))
        self.dispatch_model_event(
            TrainingEndEvent(model, ModelStatus.Failed if candidate.score is None else ModelStatus.Trained)
        )
        return True

    def _count_reported(self, candidate: _Scored) -> None:
        """A candidate is reported: one that is filtered gives its budget back."""
        if candidate.filtered:
            self._filtered += 1
            self._filtered_in_a_row += 1
            if candidate.text:  # begun by this engine, not found in the record
                self._used -= 1
        else:
            self._filtered_in_a_row = 0

    def _give_up_pending(self) -> None:
        """The time is over: nothing that is still pending will be scored."""
        self.deadline = -math.inf
        self.after_submission = None  # what the strategy knows from now on is not the whole truth
        self._window.clear()
        self._pending.clear()
        self._twins.clear()
        self._asked.clear()

    def wait_models(self, *models: ExecutableModelSpace) -> None:
        """Wait for results and report them: of these models, or of all that were submitted.

        When the deadline has passed, what is pending is given up.
        """
        self.placement.flush()
        while self._window and not (models and all(model.status.completed() for model in models)):
            if not self._window[0].candidate.known and time.monotonic() >= self.deadline:
                self._give_up_pending()
                break
            self._report_oldest()

    def budget_available(self) -> bool:
        """Whether there may be another candidate. Where the budget looks used up, results are reported to find out."""
        while self._budget_is_used_up() and self._budget_may_come_back():
            self.placement.flush()
            if not self._report_oldest():
                break
        patience = self.patience + (self._known_at_start if self._differs_from_record else 0)
        return (
            not self._budget_is_used_up()
            and self._counted < self._candidates
            and time.monotonic() < self.deadline
            and self._known_in_a_row < patience
            and self._filtered_in_a_row < self.patience
        )

    @property
    def over(self) -> bool:
        """Whether the time is over, and nothing more is scored."""
        return time.monotonic() >= self.deadline

    def _budget_is_used_up(self) -> bool:
        # An exploration that is gone through again is told the same at the same moments. So what counts is what it has
        # submitted, and not what the record has already, as long as it follows the record.
        follows = self.scorer.constraints and not self._differs_from_record
        return (self._number - self._filtered if follows else self._used) >= self._candidates

    def _budget_may_come_back(self) -> bool:
        """Whether a candidate that waits may be filtered, and there is time to find out."""
        return bool(
            self.scorer.constraints
            and self._window
            and self._counted < self._candidates
            and time.monotonic() < self.deadline
        )

    def idle_worker_available(self) -> bool:
        """Always: where all workers are busy, submitting waits instead, so that timing does not steer the exploration."""
        return True

    def list_models(self, status: ModelStatus | None = None) -> Iterable[ExecutableModelSpace]:
        """Models are not kept: their scores are in the record."""
        return []

    def shutdown(self) -> None:
        """Nothing to stop."""

    # Checkpoints.

    @property
    def number(self) -> int:
        """How many different candidates were submitted."""
        return self._number

    @property
    def running(self) -> list[ExecutableModelSpace]:
        """Models whose results the strategy does not know yet, in the order of submission."""
        return [waiting.model for waiting in self._window]

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs besides the record; ``{}`` where the record is not of this exploration."""
        if self._differs_from_record:
            return {}
        return {
            'number': self._number,
            'known_in_a_row': self._known_in_a_row,
            'filtered': self._filtered,
            'filtered_in_a_row': self._filtered_in_a_row,
            'window': [(candidate.number, model.sample, first) for model, candidate, first in self._window],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an exploration; :attr:`running` are models of its own that the strategy is to be told of."""
        self._number, self._known_in_a_row = state_dict['number'], state_dict['known_in_a_row']
        self._filtered = state_dict.get('filtered', 0)
        self._filtered_in_a_row = state_dict.get('filtered_in_a_row', 0)
        for number, sample, *first in state_dict['window']:
            text = encode_sample(sample)
            candidate = self._find_known(sample, text)
            if candidate is None:
                candidate = self._begin_scoring(number, text)
            model = self.scorer.space.freeze(sample)
            model.status = ModelStatus.Training
            self._window.append(_Waiting(model, candidate, *first or [True]))


def _best_text(score: float | None) -> str:
    return '' if score is None else f'best {score:.4g}'
