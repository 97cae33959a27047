"""The fine stage: train candidates, one chosen after the other, on the experiment's own engine; record what comes of it."""

from __future__ import annotations

import functools
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from tqdm import tqdm

from nni_knas.basics.failures import failure
from nni_knas.basics.files import atomic_write
from nni_knas.basics.harmless import Harmless
from nni_knas.basics.texts import duration, number
from nni_knas.bridge.experiment import UNSUCCESSFUL, allow_another_trial, answer_of, last_words_of_training, trials
from nni_knas.bridge.fields import number_of, why_no_number
from nni_knas.bridge.machines import lost_machine
from nni_knas.bridge.trial_errors import with_last_line
from nni_knas.footprint import Meter
from nni_knas.record import BEGUN, Candidate, Choice, Record, Status, unfetched_path, weights_path
from nni_knas.runs import collect_kept, energy_of, kept_result, ranked_model
from nni_knas.search.choosing import Chooser

__all__ = ['FineStage']

_logger = logging.getLogger(__name__)
_said = logging.getLogger('nni.knas')  # what NNI's own log is to show of a search, on the console and in its file

_OUT_OF_REACH = (
    "it was trained on another machine, and neither the run's folder nor NNI's shared storage is there and here; without "
    'reuse_mode they are fetched by SSH'
)
_REASON = "the trial ended as {} (its own log is in the experiment's folder)"


class FineStage:
    """Train the candidates of a record that are chosen, within the budget of an experiment.

    Parameters
    ----------
    space
        The experiment's model space, with its evaluator.
    engine
        The experiment's engine.
    record
        Has the candidates, and receives each result the moment it is known.
    folder
        The experiment's directory, where trials keep results and weights; ``None`` keeps nothing.
    keep_weights
        Whether trained weights are kept.
    max_trials
        Largest number of candidates to train, counting those of before a restart.
    deadline
        ``time.monotonic()`` after which none is started.
    local
        Whether trials run on this machine.
    fetched
        Whether what trials keep is fetched from their machines. One that was lost with its machine is begun anew on another.
    shared
        The folder in NNI's shared storage that the trials' folders are in, where it is fetched from there.
    """

    patience = 30.0
    """Seconds to wait for a trial that NNI should have started again after a restart."""

    def __init__(
        self,
        space: ExecutableModelSpace,
        engine: ExecutionEngine,
        record: Record,
        *,
        folder: Path | None = None,
        keep_weights: bool = True,
        max_trials: float = math.inf,
        deadline: float = math.inf,
        local: bool = True,
        fetched: bool = False,
        shared: Path | None = None,
    ) -> None:
        self.space = space
        self.engine = engine
        self.record = record
        self.folder = folder
        self.keep_weights = keep_weights
        self.max_trials = max_trials
        self.deadline = deadline
        self.local = local
        self.fetched = fetched
        self.shared = shared
        self._again: deque[Choice] = deque()  # whose machine was lost
        self._lost: dict[int, str] = {}  # the machine that was lost first, by candidate
        self._running: dict[ExecutableModelSpace, tuple[Candidate, float]] = {}  # with the time of submission
        self._choices: dict[int, Choice] = {}  # by candidate
        self._total = 0  # that are to be trained
        self._no_number: dict[int, str] = {}  # what is wrong with the last metric of candidates in training
        self._resumed_trials: set[int] = set()  # candidates whose trials NNI starts again by itself after a restart
        self._events = threading.RLock()  # whoever sees that a training is over sees its end in the record
        self._bar: tqdm[Any] | None = None
        self._meter: Meter | None = None
        self._harmless = Harmless('Something beside a training could not be done: the search goes on without it.')
        for kind, callback in self._callbacks():
            engine.register_model_event_callback(kind, callback)

    def close(self) -> None:
        """Listen to the engine no longer."""
        for kind, callback in self._callbacks():
            self.engine.unregister_model_event_callback(kind, callback)

    def _callbacks(self) -> list[tuple[ModelEventType, Callable[..., None]]]:
        return [
            (ModelEventType.IntermediateMetric, self._on_step),
            (ModelEventType.FinalMetric, self._on_metric),
            (ModelEventType.TrainingEnd, self._on_training_end),
        ]

    def run(self, choose: Callable[[], Chooser], meter: Meter | None = None) -> None:
        """Train what is chosen and not trained yet. Whenever a trial can be begun, the next one is asked for.

        Parameters
        ----------
        choose
            Makes what chooses, by what the record knows at that moment.
        meter
            Meters the energy, and is told which trials are under way.

        Raises
        ------
        RuntimeError
            If every training failed.
        """
        self._meter = meter
        self._allow_another_trial()  # one more than there are: NNI's manager gives no worker any more once it has them all
        self._adopt_resumed_trials()
        self._choices = {choice.candidate: choice for choice in self.record.choices()}
        chooser = choose()
        self._total, under_way = chooser.total, len(self._resumed_trials)
        done = self._total - chooser.left - under_way
        with tqdm(total=self._total, initial=done, desc='Training', unit='model', disable=None) as self._bar:
            with self._harmless():
                self._show_best()
            self._train(chooser)
            if self._resumed_trials:  # NNI has not started them again: they are to be chosen anew
                self._resumed_trials.clear()
                self._train(choose())
        failed = self.record.count(Status.TRAINING_FAILED)
        if failed and not self.record.count(Status.TRAINED):
            reason, times = self.record.frequent_reason(Status.TRAINING_FAILED) or ('', 0)
            raise RuntimeError(
                f'none of the {failed} best candidates could be trained; the most frequent reason ({times} times): {reason}'
            )

    def _train(self, chooser: Chooser) -> None:
        """Train one after the other, as many at a time as the engine takes, and again what was lost with its machine."""
        while self._submit_trainings(chooser) and self._wait_for_trials() and self._again:
            pass

    def _submit_trainings(self, chooser: Chooser) -> bool:
        """Begin to train what is chosen; ``False`` where the experiment's budget ends before."""
        while chooser.left or self._again:
            if self._is_trial_limit_reached():
                _logger.warning(
                    'max_trial_number allows no more than %d trials: %d of the best candidates are not trained.',
                    self.max_trials,
                    chooser.left + len(self._again),
                )
                break
            if not self._wait_for_worker():
                _logger.warning(
                    "The experiment's budget is used up: %d of the best candidates are not trained.",
                    chooser.left + len(self._again),
                )
                break
            self._record_ended_resumed_trials()
            choice = self._next_choice(chooser)
            if choice is not None:
                self._submit_training(choice)
        else:
            return True
        self._wait_for_trials()
        return False

    def _next_choice(self, chooser: Chooser) -> Choice | None:
        while self._again:
            choice = self._again.popleft()
            if self.record.get(choice.candidate).status not in BEGUN:  # what learns may have chosen it again itself
                return choice
        return chooser.next()

    def _is_trial_limit_reached(self) -> bool:
        """Whether the experiment's number of trials allows no more."""
        with self._events:
            under_way = len(self._running) + len(self._resumed_trials)
            return self.record.count(Status.TRAINED, Status.TRAINING_FAILED) + under_way >= self.max_trials

    def _wait_for_worker(self) -> bool:
        """Wait until the engine can take a model; ``False`` when the budget ends."""
        while time.monotonic() < self.deadline and answer_of(self.engine, self.engine.budget_available):
            if self.engine.idle_worker_available():
                return True
            time.sleep(0.5)
        return False

    def _submit_training(self, choice: Choice) -> None:
        candidate, data = self.record.get(choice.candidate), self.record.digests()
        frozen = self.space.freeze(candidate.sample)
        model = ranked_model(frozen, candidate, choice, self.folder, self.keep_weights, data, self.fetched)
        self._choices[candidate.id] = choice
        self.record.start_training(candidate.id)
        self._running[model] = candidate, time.monotonic()
        self._mark_energy_interval()
        try:
            self.engine.submit_models(model)
        except Exception as error:  # NNI's sequential engine raises what a trial raised, after reporting its end
            _logger.error('Training of candidate %d failed.', candidate.id, exc_info=True)
            self._running.pop(model, None)
            self.record.end_training(candidate.id, None, failure(error))

    def _wait_for_trials(self) -> bool:
        """Wait for all trials to end. When the experiment's budget ends, NNI starts none of those that still wait."""
        idle_since = time.monotonic()
        while self._is_any_under_way():
            if self._record_ended_resumed_trials() or self._running:
                idle_since = time.monotonic()
            if not answer_of(self.engine, self.engine.budget_available):
                answer_of(self.engine, self.engine.wait_models)
                time.sleep(1)  # the last events are on their way
                self._record_ended_resumed_trials()
                break
            if time.monotonic() - idle_since > self.patience:
                break
            time.sleep(0.5)
        with self._events:
            for candidate_id in [*(candidate.id for candidate, _ in self._running.values()), *self._resumed_trials]:
                self.record.stop_training(candidate_id)
            self._running.clear()
        return True

    def _is_any_under_way(self) -> bool:
        with self._events:
            return bool(self._running or self._resumed_trials)

    def _adopt_resumed_trials(self) -> None:
        """After a restart: see what has become of the trials that were under way.

        Some have finished, with nobody to listen. Those that have not, NNI's training service starts again by itself.
        """
        under_way = set(self.record.in_training())
        for candidate_id in sorted(under_way):
            result = kept_result(self.folder, candidate_id)
            if result is not None:
                self._record_end(candidate_id, result.metric)
                under_way.remove(candidate_id)
        if under_way:
            self._resumed_trials = under_way & {trial.candidate for trial in trials(self.engine)}
            for candidate_id in sorted(under_way - self._resumed_trials):
                self.record.stop_training(candidate_id)
            self._record_ended_resumed_trials()

    def _record_ended_resumed_trials(self) -> bool:
        """Record those of the trials that NNI has started again that have ended; whether any is still under way."""
        alive = False
        for trial in trials(self.engine) if self._resumed_trials else ():
            if trial.candidate in self._resumed_trials:
                alive = alive or trial.status in ('WAITING', 'RUNNING')
                if trial.status == 'SUCCEEDED':
                    self._record_end(trial.candidate, trial.metric)
                elif trial.status in UNSUCCESSFUL:
                    self._record_failure(trial.candidate, self._reason(trial.status.lower(), trial.candidate))
        return alive

    def _reason(self, status: str, candidate_id: int) -> str:
        """Why a training did not succeed, in the words of its own error."""
        error = sys.exc_info()[1]  # NNI's sequential engine tells the end while the error is on its way
        if error is not None:
            return failure(error)
        return with_last_line(_REASON.format(status), last_words_of_training(self.engine, candidate_id))

    def _record_failure(self, candidate_id: int, reason: str, seconds: float | None = None) -> None:
        """Record that a training has failed; one that was lost with its machine, once only, is begun anew instead."""
        host = lost_machine(reason)
        choice = self._choices.get(candidate_id)
        if host is None or choice is None:
            self._record_end(candidate_id, None, reason, seconds)
        elif candidate_id in self._lost:
            reason = f'its machines were lost while they trained it: {self._lost[candidate_id]}, and then {host}'
            self._record_end(candidate_id, None, reason, seconds)
        else:
            self._lost[candidate_id] = host
            self._resumed_trials.discard(candidate_id)
            self.record.stop_training(candidate_id)
            self._mark_energy_interval()
            self._allow_another_trial()
            self._again.append(choice)

    def _allow_another_trial(self) -> None:
        """NNI counts the trials that were lost, too."""
        if self.fetched:
            experiment = self.engine.nodejs_binding
            answer_of(experiment, functools.partial(allow_another_trial, experiment))

    def _record_end(
        self, candidate_id: int, metric: float | None, reason: str | None = None, seconds: float | None = None
    ) -> None:
        """Record the end of a training: first its result, and then what is nice to know besides."""
        self._resumed_trials.discard(candidate_id)
        if metric is not None:
            self.record.set_metric(candidate_id, metric)
        if reason is None and not self.local:
            with self._harmless():
                self._see_to_weights(candidate_id)
        result = kept_result(self.folder, candidate_id)  # its time is without NNI's queue and start-up
        self.record.end_training(candidate_id, result.seconds if result is not None else seconds, reason)
        self._mark_energy_interval()
        with self._harmless():
            kwh = energy_of(self.record, result, seconds if self.local else None)
            self.record.set_training_energy(candidate_id, kwh)
        with self._harmless():
            if self._bar is not None:
                self._show_best()
                self._bar.update()
        with self._harmless():
            self._say_end(candidate_id)

    def _see_to_weights(self, candidate_id: int) -> None:
        """Collect the weights of a training on another machine, and note where they cannot be had."""
        if self.folder is None or not self.keep_weights:
            return
        if self.shared is not None:
            collect_kept(self.shared, self.folder, candidate_id)
        unfetched = unfetched_path(self.folder, candidate_id)
        if weights_path(self.folder, candidate_id).exists():
            return
        if not self.fetched:
            with atomic_write(unfetched) as note:
                note.write_text(_OUT_OF_REACH)
        if unfetched.exists():
            _said.warning('The trained weights of candidate %d: %s.', candidate_id, unfetched.read_text())

    def _say_end(self, candidate_id: int) -> None:
        """A line a training: where there is no terminal, nothing else is seen of it until all are over."""
        candidate = self.record.get(candidate_id)
        choice = self._choices.get(candidate_id)
        by_score = f' (rank {choice.rank} by score{_in_words(choice)})' if choice is not None else ''
        ended = self.record.count(Status.TRAINED, Status.TRAINING_FAILED)
        told = candidate.reason if candidate.status == Status.TRAINING_FAILED else f'metric {number(candidate.metric)}'
        seconds = candidate.training_seconds
        took = f', {duration(seconds)}' if seconds is not None else ''
        _said.info('Trained %d of %d%s: %s%s', ended, max(ended, self._total), by_score, told, took)

    def _mark_energy_interval(self) -> None:
        """A trial has begun or ended: an interval of the energy ends here, in which all that were under way had part."""
        if self._meter is not None:
            with self._harmless():
                self._meter.mark()
            self._meter.trials = len(self._running) + len(self._resumed_trials)

    def _show_best(self) -> None:
        trained = self.record.trained()
        if self._bar is not None and trained:
            self._bar.set_postfix_str(f'best {trained[0].metric:.4g}', refresh=False)

    # Events of the engine, for NNI's training service from a thread of its own.

    def _on_step(self, event: IntermediateMetricEvent) -> None:
        if event.model not in self._running:  # a chunk's report is for who scores in trials, as it is
            return
        metric = _number_in(event)
        if metric is not None:
            self.record.add_step(self._running[event.model][0].id, metric)

    def _on_metric(self, event: FinalMetricEvent) -> None:
        if event.model not in self._running:
            return
        reported, metric = event.metric, _number_in(event)
        candidate = self._running[event.model][0].id
        if metric is not None:
            self._no_number.pop(candidate, None)
            self.record.set_metric(candidate, metric)
        else:
            self._no_number[candidate] = why_no_number(reported)
            _logger.warning('Candidate %d: %s', candidate, self._no_number[candidate])

    def _on_training_end(self, event: TrainingEndEvent) -> None:
        with self._events:
            if event.model in self._running:
                candidate, start = self._running.pop(event.model)
                if event.status == ModelStatus.Interrupted:  # by Ctrl-C: it is trained anew when the run is taken up
                    self.record.stop_training(candidate.id)
                    self._mark_energy_interval()
                    return
                reason = self._no_number.pop(candidate.id, None)
                if reason is None and event.status != ModelStatus.Trained:
                    reason = self._reason(event.status.value, candidate.id)
                    self._record_failure(candidate.id, reason, time.monotonic() - start)
                    return
                self._record_end(candidate.id, None, reason, time.monotonic() - start)


def _in_words(choice: Choice) -> str:
    """What there is to say of a choice that was not made by score alone."""
    reason = '' if choice.reason == 'score' else f', {choice.reason}'
    return f'{reason}, {number(choice.predicted)} expected' if choice.predicted is not None else reason


def _number_in(event: IntermediateMetricEvent | FinalMetricEvent) -> float | None:
    """The number that was reported; NNI, which would end its thread on any other thing, gets it as a number of Python's."""
    metric = number_of(event.metric)
    if metric is None:
        event.prevent_default()
    else:
        event.metric = metric
    return metric
