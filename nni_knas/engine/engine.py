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

from nni.mutable import Sample
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from tqdm import tqdm

from nni_knas.candidates import decode_sample, encode_sample
from nni_knas.engine.placement import Placement, Task
from nni_knas.engine.scorer import Scorer, Verdict
from nni_knas.race import Race
from nni_knas.record import Candidate, Record

__all__ = ['ScoringEngine']

BATCH = 'batch in full'
"""Where the record keeps the numbers of the candidates that were last to be scored in full together."""

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Scored:
    """A candidate that is being scored, shared by all models of it that wait.

    Attributes
    ----------
    number
        In the order of exploration.
    text
        Its sample as text.
    architecture
        What tells its network from others, as text.
    known
        Whether the verdict is there.
    score
        Of the verdict; ``None`` where it failed.
    """

    number: int
    sample: Sample
    text: str = ''
    architecture: str = ''
    known: bool = False
    score: float | None = None


class ScoringEngine(ExecutionEngine):
    """Have each submitted model scored, and report the score to the strategy as its final metric.

    A model that is in the record already is answered from there: nothing is scored twice, neither in a run nor after a
    restart. A model that cannot be scored ends as failed, without a metric, and the exploration goes on.

    Models are reported in the order of their submission, each when ``ahead`` models were submitted since: the strategy
    chooses the model number ``j`` knowing the first ``j - ahead`` results, no more and no less. So an exploration depends
    on the strategy's seed and on ``ahead``, and not on how long things take, nor where they are done.

    Parameters
    ----------
    scorer
        Scores candidates, wherever the placement has it done.
    record
        Receives each candidate as soon as its score is known, under its number in the order of exploration.
    candidates
        The budget: number of different candidates in the record, failed ones included.
    placement
        Where candidates are scored, within :meth:`opened`.
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
    """How many known candidates in a row an explorer may submit before it counts as having nothing new."""

    least_ahead = 16
    """Default of ``ahead``, for placements that do not need more to be busy."""

    def __init__(self, scorer: Scorer, record: Record, candidates: int, placement: Placement, *, ahead: int | None = None,
                 deadline: float = math.inf, quick: bool = False) -> None:
        super().__init__()
        self.scorer = scorer
        self.record = record
        self.placement = placement
        self.ahead = ahead if ahead is not None else max(self.least_ahead, placement.ahead)
        self.deadline = deadline
        self.quick = quick
        self.bar: tqdm | None = None
        self.after_submission: Callable[[], None] | None = None
        self.elastic = False
        self._window: deque[tuple[ExecutableModelSpace, _Scored]] = deque()  # submitted and not reported, in order
        self._pending: dict[str, _Scored] = {}  # without a verdict, by sample
        self._twins: dict[str, list[_Scored]] = {}  # of those, all that are one network, by what tells it
        self._asked: dict[int, _Scored] = {}  # of those, the ones that the placement has, by number
        self._number = 0  # of different candidates that were submitted
        self._known_in_a_row = 0
        self._known_at_start = len(record)
        self._left = candidates - self._known_at_start
        self._best = record.best_score()
        self._anew = False
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
            self._note_time()

    # Models come in.

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        for model in models:
            assert model.sample is not None
            model.status = ModelStatus.Training
            self._window.append((model, self._accept(model.sample)))
            self._take(self.placement.poll())
            limit = max(self.ahead, self.placement.ahead) if self.elastic else self.ahead
            while len(self._window) >= limit and self._report_oldest():
                pass
            if self.after_submission is not None:
                self.after_submission()

    def _accept(self, sample: Sample) -> _Scored:
        """The candidate of a sample: one of the record, one that is pending, or a new one."""
        text = encode_sample(sample)
        candidate = self._find(sample, text)
        following = self._number + 1
        if candidate is None or candidate.number == following:  # when a run is resumed, what the record has comes anew
            self._number = following
            self._known_in_a_row = 0
        else:
            self._known_in_a_row += 1
            self._anew = self._anew or candidate.number > following
        if candidate is None:
            candidate = self._begin(following, text)
        return candidate

    def _find(self, sample: Sample, text: str) -> _Scored | None:
        if text in self._pending:
            return self._pending[text]
        row = self.record.find(sample)
        return _Scored(row.id, sample, known=True, score=self._score_of(row)) if row is not None else None

    def _score_of(self, row: Candidate) -> float | None:
        return row.quick if self.quick else row.score

    def _begin(self, number: int, text: str) -> _Scored:
        """Have a candidate scored, unless one is or was that is the same network."""
        sample = decode_sample(text)  # its own: NNI's grid changes the samples of the models that it has given out
        candidate = _Scored(number, sample, text, self.scorer.identity(sample))
        self._left -= 1
        self._pending[text] = candidate
        if candidate.architecture in self._twins:
            self._twins[candidate.architecture].append(candidate)
            return candidate
        self._twins[candidate.architecture] = [candidate]
        twin = self.record.find_architecture(candidate.architecture) if self.scorer.has_twins else None
        if twin is not None:
            score = self._score_of(twin)
            self._judge(candidate, Verdict(score, twin.reason if score is None else None, 0.0))
        else:
            self._asked[number] = candidate
            self.placement.put(Task(number, sample, self.quick))
        return candidate

    # Verdicts come in.

    def _collect(self) -> bool:
        """Wait for verdicts and take them in; ``False`` where there will be no more."""
        return self._take(self.placement.get())

    def _take(self, verdicts: list[tuple[Task, Verdict]]) -> bool:
        if verdicts:
            with self.record.transaction():
                for task, verdict in verdicts:
                    self._judge(self._asked.pop(task.number), verdict)
                if time.monotonic() - self._noted > 1:
                    self._note_time()
        return bool(verdicts)

    def _judge(self, candidate: _Scored, verdict: Verdict) -> None:
        for each in self._twins.pop(candidate.architecture):
            self._write(each, verdict if each is candidate else verdict._replace(seconds=0.0))

    def _write(self, candidate: _Scored, verdict: Verdict) -> None:
        score, reason, seconds = verdict
        if self.quick:
            row = self.record.add_screened(candidate.sample, candidate.architecture, score, seconds, candidate.number)
        elif score is not None:
            row = self.record.add_scored(candidate.sample, candidate.architecture, score, seconds, candidate.number)
        else:
            _logger.info('Candidate failed: %s. Sample: %s', reason, candidate.sample)
            row = self.record.add_failed(candidate.sample, candidate.architecture, reason or 'no score', seconds,
                                         candidate.number)
        self._anew = self._anew or row.id != candidate.number
        del self._pending[candidate.text]
        candidate.known, candidate.score = True, score
        self._show_progress(score)

    def _note_time(self) -> None:
        """Note the time that scoring has taken, for a deadline that holds over restarts."""
        now = time.monotonic()
        self.record.add_scoring_seconds(now - self._noted)
        self._noted = now

    def _show_progress(self, score: float | None) -> None:
        if score is not None:
            self._best = max(score, self._best if self._best is not None else -math.inf)
        if self.bar is not None:
            if self._best is not None:
                self.bar.set_postfix_str(f'best {self._best:.4g}', refresh=False)
            self.bar.update()

    # The best, in full.

    def finish(self, k: int) -> None:
        """After a quick exploration: score in full those candidates that may be among the best ``k``.

        Parameters
        ----------
        k
            How many of the best are looked for.
        """
        networks = list(self.record.networks())
        race = Race({number: quick for number, quick, _, _ in networks}, k,
                    batch=max(self.least_ahead, self.ahead))
        for number, _, score, finished in networks:
            if finished:
                race.add(number, score)
                self._share(number, score)
        # A batch that was interrupted is finished first: where a race ends depends on where it was looked at.
        begun = set(json.loads(self.record.get_meta(BATCH) or '[]'))
        batch = [number for number, _, _, finished in networks if number in begun and not finished] or race.next()
        with tqdm(desc='Scoring in full', unit='candidate', disable=None) as bar:
            while batch and self._score_in_full(batch, race, bar):
                batch = race.next()

    def _share(self, number: int, score: float | None) -> None:
        """Give what is known of a network to those of its candidates that were explored since."""
        if self.scorer.has_twins:
            self.record.rate(number, score, self.record.get(number).reason if score is None else None, 0.0)

    def _score_in_full(self, batch: list[int], race: Race, bar: tqdm) -> bool:
        """Score a batch of the race; ``False`` where the time is over."""
        if time.monotonic() >= self.deadline:
            return False
        self.record.set_meta(BATCH, json.dumps(batch))
        for number in batch:
            self.placement.put(Task(number, self.record.get(number).sample))
        self.placement.flush()
        left = len(batch)
        while left:
            verdicts = self.placement.get() if time.monotonic() < self.deadline else []
            if not verdicts:
                self.deadline = -math.inf
                return False
            for task, (score, reason, seconds) in verdicts:
                if score is None:
                    _logger.info('Candidate failed: %s. Sample: %s', reason, task.sample)
                self.record.rate(task.number, score, reason, seconds)
                race.add(task.number, score)
                bar.update()
            left -= len(verdicts)
            if time.monotonic() - self._noted > 1:
                self._note_time()
        return True

    # Results go out.

    def _report_oldest(self) -> bool:
        """Tell the strategy the oldest result; ``False`` where there will be none."""
        model, candidate = self._window[0]
        while not candidate.known:
            if not self._collect():
                self._give_up()
                return False
        self._window.popleft()
        if candidate.score is not None:
            self.dispatch_model_event(FinalMetricEvent(model, candidate.score))
        self.dispatch_model_event(TrainingEndEvent(
            model, ModelStatus.Failed if candidate.score is None else ModelStatus.Trained))
        return True

    def _give_up(self) -> None:
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
            if not self._window[0][1].known and time.monotonic() >= self.deadline:
                self._give_up()
                break
            self._report_oldest()

    def budget_available(self) -> bool:
        patience = self.patience + (self._known_at_start if self._anew else 0)
        return self._left > 0 and time.monotonic() < self.deadline and self._known_in_a_row < patience

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
        return [model for model, _ in self._window]

    def state_dict(self) -> dict:
        """What :meth:`load_state_dict` needs besides the record; ``{}`` where the record is not of this exploration."""
        if self._anew:
            return {}
        return {'number': self._number, 'known_in_a_row': self._known_in_a_row,
                'window': [(candidate.number, model.sample) for model, candidate in self._window]}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take up an exploration; :attr:`running` are models of its own that the strategy is to be told of."""
        self._number, self._known_in_a_row = state_dict['number'], state_dict['known_in_a_row']
        for number, sample in state_dict['window']:
            text = encode_sample(sample)
            candidate = self._find(sample, text)
            if candidate is None:
                candidate = self._begin(number, text)
            model = self.scorer.space.freeze(sample)
            model.status = ModelStatus.Training
            self._window.append((model, candidate))
