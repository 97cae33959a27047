"""Scoring in trials of the experiment's own training service, a chunk of candidates a trial.

So a search spreads over whatever NNI runs trials on: this machine, others over SSH, Kubernetes. A trial gets all that it
needs in its parameter, so the machines share no folder, and reports each score as soon as it is known, so a trial that
dies loses only what it had not reported.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import lzma
import math
import queue
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import nni
from nni.nas.execution import ExecutionEngine, TrainingServiceExecutionEngine
from nni.nas.execution.event import IntermediateMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.experiment import NasExperiment
from nni.nas.space import ExecutableModelSpace, ModelStatus

from nni_knas.basics.checks import check_count
from nni_knas.bridge import fields
from nni_knas.bridge.experiment import (
    allow_another_trial,
    answer_of,
    cancel_trials,
    chunk_trials,
    last_line_of_chunk,
    last_words,
    trial_limits,
)
from nni_knas.bridge.machines import lost_machine
from nni_knas.engine.placement import Placement, Task, check_scored_alone
from nni_knas.engine.scorer import Scorer, Verdict
from nni_knas.networks import COSTS, decode_sample, encode_sample

__all__ = ['Chunk', 'Trials']

_logger = logging.getLogger(__name__)


class Chunk(ExecutableModelSpace):
    """Candidates that are scored in one trial; for NNI it is a model that it sends to a trial and executes there.

    Parameters
    ----------
    number
        Number of the chunk in the experiment, from 1.
    tasks
        The candidates.
    scorer
        The scorer, packed as text.
    best
        Best score so far, to be shown beside this trial's.
    kernel
        What the scores depend on, for a later run that finds them.
    """

    def __init__(self, number: int, tasks: Iterable[Task], scorer: str, best: float | None = None, kernel: str = '') -> None:
        super().__init__(ModelStatus.Frozen)
        self.number = number
        self.tasks = list(tasks)
        self.quick = any(task.quick for task in self.tasks)  # all of them, or none
        self.measured = all(task.measured for task in self.tasks)
        self.scorer = scorer
        self.best = best
        self.kernel = kernel
        self.sample = None
        self.evaluator = None
        self.times = _Times(submitted=time.monotonic())

    def extra_repr(self) -> str:
        return f'number={self.number}, candidates={len(self.tasks)}'

    def _dump(self) -> dict[str, Any]:
        first, last = self.tasks[0].number, self.tasks[-1].number
        return {
            # The portal shows a "mutation_summary" as the trial's parameters, in place of what it is made of.
            fields.MUTATION_SUMMARY: {
                'scoring': f'{len(self.tasks)} candidates, {first} to {last}',
                'chunk': self.number,
                'candidates': len(self.tasks),
                'first_candidate': first,
                'last_candidate': last,
            },
            fields.CHUNK: self.number,
            fields.TASKS: [[task.number, _without_comments(encode_sample(task.sample))] for task in self.tasks],
            fields.QUICK: self.quick,
            fields.MEASURED: self.measured,
            fields.SCORER: self.scorer,
            fields.BEST_SO_FAR: self.best,
            fields.KERNEL: self.kernel,
        }

    @classmethod
    def _load(cls, **content: Any) -> Chunk:
        tasks = [
            Task(number, decode_sample(sample), content[fields.QUICK], content.get(fields.MEASURED, False))
            for number, sample in content[fields.TASKS]
        ]
        return cls(content[fields.CHUNK], tasks, content[fields.SCORER], content[fields.BEST_SO_FAR], content[fields.KERNEL])

    def execute(self) -> None:
        """Score the candidates one after the other; this runs in the trial."""
        if _started_again():
            _logger.warning('The search that wanted this chunk was interrupted, and asks anew for what it still wants.')
            return
        scorer = _unpacked_scorer(self.scorer)
        best = self.best
        _report_progress(0, best)  # shows that the trial is up, and when
        for scored, task in enumerate(self.tasks, start=1):
            verdict = scorer.score(task.sample, task.quick, task.measured)
            if verdict.score is not None:
                best = verdict.score if best is None else max(best, verdict.score)
            _report_progress(scored, best, _entries_of(task.number, verdict))


def _report_progress(scored: int, best: float | None, entries: dict[str, Any] | None = None) -> None:
    """The number scored is the default metric: the portal draws it as the trial's progress.

    Chunks report no final metric, since the portal would rank it among the accuracies of trained models.
    """
    nni.report_intermediate_result({fields.METRIC: scored, fields.BEST_KERNEL_SCORE: best, **(entries or {})})


def _entries_of(number: int, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a report has it, from which :func:`_verdict_of` makes it again."""
    entries: dict[str, Any] = {
        fields.SCORED_CANDIDATE: number,
        fields.KERNEL_SCORE: verdict.score,
        fields.SECONDS: verdict.seconds,
        **verdict.costs,
    }
    if verdict.score is None:
        entries[fields.REASON] = verdict.reason
    if verdict.filtered:
        entries[fields.FILTERED] = True
    if verdict.panel is not None:
        entries[fields.PANEL] = verdict.panel
    return entries


def _verdict_of(report: dict[str, Any]) -> Verdict:
    costs = {name: report[name] for name in COSTS if name in report}
    return Verdict(
        report[fields.KERNEL_SCORE],
        report.get(fields.REASON),
        report[fields.SECONDS],
        costs,
        report.get(fields.FILTERED, False),
        report.get(fields.PANEL),
    )


def _started_again() -> bool:
    """Whether this trial is one of before a restart, which NNI starts again by itself."""
    record = nni.trial._params
    return record is not None and record.get('parameter_source') == 'resumed'


def _packed_scorer(scorer: Scorer) -> str:
    # Not the usual alphabet, which has a "/": what follows "//" in JSON, NNI takes for a comment.
    return base64.urlsafe_b64encode(lzma.compress(scorer.dumps())).decode()


def _unpacked_scorer(text: str) -> Scorer:
    return Scorer.loads(lzma.decompress(base64.urlsafe_b64decode(text)), elsewhere=True)


def _without_comments(text: str) -> str:
    """JSON text that means the same, without what NNI takes for comments."""
    return text.replace('#', r'\u0023').replace('/', r'\u002f')


class _Times:
    """When the things of a trial happened, by the clock of this process."""

    def __init__(self, submitted: float) -> None:
        self.submitted = submitted
        self.started: float | None = None
        self.last: float = submitted


class Pace:
    """Size of chunks, from what candidates and trials were seen to cost.

    Attributes
    ----------
    cost
        Seconds a candidate; ``None`` where none was seen.
    startup
        Seconds that a trial takes besides its scoring.
    """

    FIRST = 4
    """Candidates in a chunk before anything is known."""
    SHARE = 9
    """Scoring lasts at least so many times as long as the start-up: that is under 10 % of the trial then."""

    def __init__(self, largest: float = math.inf, longest: float = math.inf) -> None:
        self.largest = largest
        self.longest = longest
        self._scoring = 0.0
        self._scored = 0
        self._startups: deque[float] = deque(maxlen=9)
        self._first_startup: float | None = None

    @property
    def cost(self) -> float | None:
        return max(self._scoring / self._scored, 1e-6) if self._scored else None

    @property
    def startup(self) -> float:
        if self._startups:
            return statistics.median(self._startups)
        return self._first_startup or 0.0

    def start(self, times: _Times, now: float) -> None:
        """A trial has said that it is up."""
        times.started = times.last = now
        if self._first_startup is None:
            self._first_startup = now - times.submitted

    def report(self, times: _Times, now: float) -> None:
        """A candidate was scored."""
        self._scoring += max(0.0, now - times.last)
        self._scored += 1
        times.last = now

    def end(self, times: _Times, now: float) -> None:
        """A trial ended."""
        if times.started is not None:
            self._startups.append(now - times.last + times.started - times.submitted)

    def forget_cost(self) -> None:
        """What comes now costs something else."""
        self._scoring, self._scored = 0.0, 0

    def full(self) -> int:
        """Candidates in a chunk of which there are plenty."""
        if self.cost is None:
            return int(min(self.FIRST, self.largest))
        return int(max(1, min(math.ceil(self.SHARE * self.startup / self.cost), self.largest, self.longest // self.cost)))

    def shared(self, left: int, trials: int) -> int:
        """Candidates in a chunk when ``left`` are left in all, for so many trials at a time.

        It is no smaller than what takes as long as the start-up: of less, two trials take longer than one.
        """
        worth = 1 if self.cost is None else math.ceil(self.startup / self.cost)
        return max(1, min(self.full(), max(math.ceil(left / trials), worth)))


class _Event(NamedTuple):
    """What the engine said of a chunk: a report of the trial, or how it ended."""

    chunk: Chunk
    content: dict[str, Any] | ModelStatus
    time: float


class Trials(Placement):
    """Score in trials of the experiment's training service.

    How many candidates a trial gets follows from what they and the start of a trial are seen to cost: the first trials get
    a few, later ones so many that the start is under a tenth of them, and the last ones share what is left.

    What a trial had reported when it died is kept; the rest goes to other trials. A candidate that was in work when two
    trials died gets no score. Trials of the scoring are not counted by the experiment's ``max_trial_number``.

    Parameters
    ----------
    chunk
        Largest number of candidates a trial. An explorer that learns from scores learns less often from larger chunks.
    """

    patience = 3
    """How many trials in a row may end without having come to scoring."""
    LARGE = 2_000_000
    """Bytes of the packed scorer from which on a warning tells what that costs."""
    silence = 10.0
    """Seconds without news after which NNI is asked whether the experiment's budget has ended."""

    def __init__(self, chunk: int | None = None) -> None:
        if chunk is not None:
            check_count('chunk', chunk, what='a number of candidates')
        self.chunk = chunk
        self._engine: TrainingServiceExecutionEngine | None = None
        self._reset()

    def __repr__(self) -> str:
        return f'Trials(chunk={self.chunk})'

    def _reset(self) -> None:
        self.pace = Pace(self.chunk or math.inf)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._open: dict[int, Task] = {}  # without a verdict yet, by number
        self._waiting: deque[Task] = deque()  # those of them that are in no trial
        self._alone: deque[Task] = deque()  # and those that were in work when a trial died
        self._ready: list[tuple[Task, Verdict]] = []
        self._chunks: list[Chunk] = []  # all that were submitted: late reports find them
        self._under_way: set[Chunk] = set()
        self._known: dict[tuple[str, bool], Verdict] = {}  # scored before a restart, quickly or not
        self._suspects: set[int] = set()
        self._failed_starts = 0
        self._flushed = False
        self._quick = False  # what the candidates of now are scored
        self._held = 0  # as many as there were when somebody waited: no more come at a time
        self._heard = time.monotonic()
        self._before = 0
        self._best: float | None = None
        self._concurrency = 1

    @property
    def ahead(self) -> int:  # type: ignore[override]
        """A full chunk for each trial that runs, and one for the next; it grows with what is learnt of their cost."""
        return 2 * self._concurrency * self.pace.full()

    @property
    def _experiment(self) -> NasExperiment:
        assert self._engine is not None
        return self._engine.nodejs_binding

    def _ask(self, question: Callable[[NasExperiment], Any]) -> Any:
        """What NNI's manager answers, be it late."""
        return answer_of(self._experiment, functools.partial(question, self._experiment))

    # The interface.

    def start(self, scorer: Scorer, engine: ExecutionEngine) -> None:
        check_scored_alone(scorer)
        if not isinstance(engine, TrainingServiceExecutionEngine):
            raise ValueError(
                f'scoring in trials needs an experiment with a training service, and this one runs on '
                f'{type(engine).__name__}: use NasExperimentConfig("ts", ...), or another placement'
            )
        self._reset()
        self._engine = engine
        limits = self._ask(trial_limits)
        self._concurrency = limits.concurrency
        self.pace.longest = limits.seconds / 2  # NNI ends longer trials; where costs vary, half of it is safe
        self._scorer, self._kernel = _packed_scorer(scorer), json.dumps(scorer.settings())
        if len(self._scorer) > self.LARGE:
            _logger.warning(
                'Each trial that scores gets %.0f MB with its minibatch, and NNI keeps that several times in '
                'its database and logs: a smaller batch_size makes it less.',
                len(self._scorer) / 1e6,
            )
        self._find_earlier_verdicts()
        engine.register_model_event_callback(ModelEventType.IntermediateMetric, self._on_event)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_event)

    def put(self, task: Task) -> None:
        self._flushed = False
        if task.quick != self._quick:
            self._quick, self._held, self._best = task.quick, 0, None
            self.pace.forget_cost()
        known = self._known.get((encode_sample(task.sample), task.quick)) if self._known else None
        if known is not None:
            self._ready.append((task, known))
            return
        self._open[task.number] = task
        self._waiting.append(task)
        self._receive_events()
        self._submit_chunks(self.pace.full())

    def flush(self) -> None:
        self._flushed = True
        self._submit_chunks()

    def get(self) -> list[tuple[Task, Verdict]]:
        """An empty list when the experiment's budget has ended before the candidates were scored."""
        while True:
            self._receive_events()
            self._held = max(self._held, len(self._open))
            self._submit_chunks(1 if self._flushed or not self._under_way else self._enough_for_a_trial())
            if self._ready:
                ready, self._ready = self._ready, []
                return ready
            if not self._receive_events(0.5) and self._budget_ended():
                return []

    def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        engine.unregister_model_event_callback(ModelEventType.IntermediateMetric, self._on_event)
        engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_event)
        unfinished = {chunk.number for chunk in self._under_way if any(task.number in self._open for task in chunk.tasks)}
        self._under_way.clear()
        if unfinished:  # the others are about to end by themselves
            cancel_trials(engine.nodejs_binding, unfinished)

    # From the experiment's trials.

    def _on_event(self, event: IntermediateMetricEvent | TrainingEndEvent) -> None:
        """Called by the engine in a thread of its own."""
        if isinstance(event.model, Chunk):
            content = event.metric if isinstance(event, IntermediateMetricEvent) else event.status
            if isinstance(content, (dict, ModelStatus)):
                self._events.put(_Event(event.model, content, time.monotonic()))
            if isinstance(event, IntermediateMetricEvent):
                event.prevent_default()  # NNI would keep it with the model

    def _receive_events(self, wait: float = 0.0) -> bool:
        """Take in what has happened; wait for it at most so many seconds. Whether anything has."""
        heard = False
        while True:
            try:
                chunk, content, moment = self._events.get(timeout=wait) if wait else self._events.get_nowait()
            except queue.Empty:
                return heard
            heard, wait, self._heard = True, 0.0, moment
            if isinstance(content, dict):
                self._handle_report(chunk, content, moment)
            else:
                self._handle_end(chunk, content, moment)

    def _handle_report(self, chunk: Chunk, report: dict[str, Any], moment: float) -> None:
        self._failed_starts = 0
        if fields.SCORED_CANDIDATE not in report:
            self.pace.start(chunk.times, moment)
            return
        if chunk.quick == self._quick:
            self.pace.report(chunk.times, moment)
        chunk.times.last = moment
        task = self._open.get(report[fields.SCORED_CANDIDATE])
        if task is not None and task.quick == chunk.quick:  # it may have a verdict: a report can come after a trial's end
            del self._open[task.number]
            self._add_verdict(task, _verdict_of(report))

    def _handle_end(self, chunk: Chunk, status: ModelStatus, moment: float) -> None:
        self.pace.end(chunk.times, moment)
        self._under_way.discard(chunk)
        lost = [task for task in chunk.tasks if self._open.get(task.number) == task]
        if not lost:
            return
        _logger.warning(
            'A trial that scored ended as %s with %d of %d candidates left; others take them over.',
            status.value,
            len(lost),
            len(chunk.tasks),
        )
        host = lost_machine(last_line_of_chunk(self._experiment, chunk.number))
        if chunk.times.started is not None:
            self._suspect_candidate(lost.pop(0), host)
        elif host is None:
            self._count_failed_start(chunk)
        self._waiting.extendleft(reversed(lost))

    def _count_failed_start(self, chunk: Chunk) -> None:
        self._failed_starts += 1
        if self._failed_starts == self.patience:
            raise RuntimeError(
                f'{self._failed_starts} trials in a row ended before they had scored a candidate: '
                f'{last_words(self._experiment, chunk.number)}'
            )

    def _suspect_candidate(self, task: Task, host: str | None) -> None:
        """A trial died, maybe with its machine, over this candidate. The second time it counts as the cause."""
        if task.number in self._suspects:
            del self._open[task.number]
            at_last = f', at last with the machine {host}' if host else ''
            self._add_verdict(task, Verdict(None, f'the trials that scored it died twice{at_last}', 0.0))
        else:
            self._suspects.add(task.number)
            self._alone.append(task)

    def _add_verdict(self, task: Task, verdict: Verdict) -> None:
        self._suspects.discard(task.number)  # it may come again, to be scored in full
        if verdict.score is not None:
            self._best = verdict.score if self._best is None else max(self._best, verdict.score)
        self._ready.append((task, verdict))

    # To the experiment's trials.

    def _enough_for_a_trial(self) -> int:
        """Candidates that are worth a trial while somebody waits, so that no more come.

        For an explorer that waits for few, a trial gets its part of those that there are at a time.
        """
        return min(self.pace.full(), math.ceil(self._held / self._concurrency))

    def _submit_chunks(self, least: int = 1) -> None:
        """Submit a chunk to each idle worker, as long as so many candidates wait."""
        assert self._engine is not None
        while self._engine.idle_worker_available() and (self._alone or len(self._waiting) >= least):
            tasks = self._next_tasks(least)
            if not tasks:
                return
            self._concurrency = self._ask(allow_another_trial)
            chunk = Chunk(self._before + len(self._chunks) + 1, tasks, self._scorer, self._best, self._kernel)
            self._chunks.append(chunk)
            self._under_way.add(chunk)
            self._engine.submit_models(chunk)
            chunk.scorer = ''  # it has been sent; the chunk is kept for its reports

    def _next_tasks(self, least: int) -> list[Task]:
        while self._alone:
            task = self._alone.popleft()
            if self._open.get(task.number) == task:
                return [task]
        size = self.pace.shared(len(self._open), self._concurrency) if least == 1 else least
        tasks: list[Task] = []
        while self._waiting and len(tasks) < size:
            task = self._waiting.popleft()
            if self._open.get(task.number) == task:  # the same number may be here to be scored quickly, which came late
                tasks.append(task)
        return tasks

    def _budget_ended(self) -> bool:
        """Whether NNI will start no more trials, and those that it had started have ended."""
        if time.monotonic() - self._heard < self.silence:
            return False
        self._heard = time.monotonic()  # NNI is not asked all the time
        return self._ask(lambda experiment: experiment.get_status()) in ('DONE', 'STOPPED', 'ERROR')

    # After a restart.

    def _find_earlier_verdicts(self) -> None:
        """Find what trials have scored while nobody listened: it need not be scored again."""
        metrics: dict[str, Any] | None = None
        for trial in self._ask(lambda experiment: list(chunk_trials(experiment))):
            self._before = max(self._before, trial.number)
            if trial.content[fields.KERNEL] != self._kernel:
                continue
            if metrics is None:
                metrics = self._ask(lambda experiment: experiment.get_job_metrics())
            samples = {number: encode_sample(decode_sample(text)) for number, text in trial.content[fields.TASKS]}
            for metric in metrics.get(trial.id, []):
                number = metric.data.get(fields.SCORED_CANDIDATE)
                if number in samples:
                    self._known[samples[number], trial.content.get(fields.QUICK, False)] = _verdict_of(metric.data)
        if self._known:
            _logger.info('%d candidates were scored in trials of before.', len(self._known))
