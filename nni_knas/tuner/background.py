"""The search behind the tuner: its candidates are scored here, and its best are given out as trials."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
import yaml
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace

from nni_knas.basics.files import atomic_write
from nni_knas.basics.harmless import Harmless
from nni_knas.basics.periodic import repeated
from nni_knas.bridge.dispatcher import (
    last_words_of_training,
    manager_process,
    show_search_space,
    trial_concurrency,
    unfinished_trials,
)
from nni_knas.bridge.experiment import UNSUCCESSFUL
from nni_knas.bridge.fields import number_of, why_no_number
from nni_knas.bridge.trial_errors import with_last_line
from nni_knas.config import SearchOptions, Settings, absolute_data
from nni_knas.data import Data
from nni_knas.footprint import footprint_of
from nni_knas.record import Candidate, Record, Status, keys, reason_of, record_path
from nni_knas.runs import Run, energy_of, fine_scalars, kept_result, progress_shown, report_seconds, session
from nni_knas.search import Chooser, CoarseStage, chooser_of, metric_of
from nni_knas.spaces import contains, narrowed, sample_of, search_space_of, trial_parameters

__all__ = ['BackgroundSearch']

_logger = logging.getLogger(__name__)


class BackgroundSearch:
    """A search whose best candidates are trained by somebody else.

    One thread calls :meth:`prepare` and :meth:`run`; the other methods may be called by any.

    Parameters
    ----------
    arguments
        The fields of :class:`~nni_knas.config.SearchOptions`, as the user wrote them.
    folder
        The experiment's directory.
    config
        The experiment's configuration, as NNI's manager has it.
    resumed
        Whether the experiment was there before.

    Raises
    ------
    ValueError
        If an argument cannot be; the message says what would be right.
    """

    progress = 5.0
    """Seconds between two lines of progress in the experiment's log."""

    def __init__(
        self, arguments: Mapping[str, Any], folder: Path, config: Mapping[str, Any], *, resumed: bool = False
    ) -> None:
        code = config.get('trialCodeDirectory')
        if code and Path(code).is_dir():  # where the user's modules and relative paths are
            sys.path.insert(0, code)
            os.chdir(code)
        self.options = SearchOptions.from_mapping(arguments)
        self.options.data = absolute_data(self.options.data, Path.cwd())  # trials run elsewhere
        if self.options.placement == 'trials':
            raise ValueError(
                'placement is "trials", but the trials of this experiment train: it has to be "process" or '
                '"workers", or nni-knas search has to run the experiment'
            )
        self.folder = folder
        self.record = Record(record_path(folder))
        self.data: Data = self.options.load_data()
        self.space: ExecutableModelSpace | None = None
        self._full_space: ExecutableModelSpace | None = None
        self._is_named = False  # whether the experiment names its search space, rather than leaving it to the options
        self._stage: CoarseStage | None = None
        self._chooser: Chooser | None = None
        self._started: dict[int, float] = {}
        self._preparation: threading.Thread | None = None
        self._no_number: dict[int, str] = {}  # what is wrong with the last metric of candidates in training
        self._harmless = Harmless('Something beside the search could not be done: it goes on without.')
        self._resumed = resumed
        self._config = dict(config)
        self._experiment_file = folder / 'knas' / 'experiment.yml'
        self._scoring = False
        self._local = _platform_of(config) == 'local'
        self._lock = threading.RLock()
        self._generation = 0
        own_command = not str(config.get('trialCommand', '')).endswith('nni_knas.trial')
        # A trial command of the user's own trains as it likes.
        self._evaluator = None if own_command else self.options.make_evaluator(self.data)
        self.record.set_meta(keys.METRIC, metric_of(self._evaluator))
        self._session = contextlib.ExitStack()
        self._session.enter_context(progress_shown(self.record, folder, self.options.candidates, self.options.top_k))
        self._session.enter_context(fine_scalars(self.record))
        self._meter = self._session.enter_context(
            session(
                self.record,
                {},
                name=config.get('experimentName'),
                country=self.options.country,
                root=manager_process(folder.name),
                command=shlex.join(['nnictl', 'create', '--config', str(self._experiment_file)]) if config else None,
            )
        )

    def report_failure(self, error: Exception) -> None:
        """The experiment ends by an error."""
        self.record.set_meta(keys.FAILURE, reason_of(error))

    def close(self) -> None:
        """The experiment ends."""
        if self._preparation is not None:
            self._preparation.join(timeout=10)
        self._session.close()

    def _write_experiment_file(self, search_space: dict[str, Any]) -> None:
        """Write the experiment's configuration, from which nnictl starts it again."""
        if self._config:
            with atomic_write(self._experiment_file, private=True) as unfinished:
                unfinished.write_text(yaml.safe_dump({**self._config, 'searchSpace': search_space}))

    # Scoring.

    def prepare(self, search_space: dict[str, Any]) -> bool:
        """Make ready to search a space, given in NNI's search space JSON; ``False`` if it was interrupted."""
        generation = self._generation
        space = self._build_space(search_space)
        kernel = self.options.make_kernel(self.data)
        Settings(self.options, search_space).write(self.folder)
        self._write_experiment_file(search_space)
        self.record.set_meta(keys.COMPLETE, 0)
        self.record.set_meta(keys.FAILURE, '')
        before = self.record.get_meta(keys.SEARCH_SPACE)
        choices = search_space_of(space)
        if before is not None and json.loads(before) != choices:
            self._exclude_candidates_outside(space)
        strategy = self.options.make_strategy(kernel)
        stage = strategy.coarse_stage(space, self.record, evaluator=self._evaluator)
        self.record.set_meta(keys.SEARCH_SPACE, json.dumps(choices))
        with self._lock:
            self.space, self._stage, self._chooser = space, stage, None
            self._is_named = bool(search_space)
            if generation != self._generation:
                stage.stop()
        return not stage.stopped

    def _build_space(self, search_space: dict[str, Any]) -> ExecutableModelSpace:
        if self.options.network is not None:
            return SimplifiedModelSpace.from_model(self.options.make_space(self.data.classes, search_space))
        if self._full_space is None:
            self._full_space = SimplifiedModelSpace.from_model(self.options.make_space(self.data.classes))
        return narrowed(self._full_space, search_space) if search_space else self._full_space

    def _exclude_candidates_outside(self, space: ExecutableModelSpace) -> None:
        """The space was changed: candidates that are not in it count no longer, and the exploration begins anew."""
        self.record.readmit()
        self.record.exclude([row.id for row in self.record.explored() if not contains(space, row.sample)])
        CoarseStage.forget_exploration(self.record)

    def shown(self) -> dict[str, Any] | None:
        """The choices of a model space as the portal is to show them, where the experiment names none."""
        assert self.space is not None
        return None if self._is_named else search_space_of(self.space)

    def publish(self, shown: dict[str, Any]) -> None:
        """Have the portal show a search space."""
        try:
            show_search_space(shown)
        except requests.RequestException as error:
            _logger.warning('The portal cannot show the search space: %s', error)

    def run(self) -> bool:
        """Score, and choose the best; ``False`` if it was interrupted."""
        stage = self._stage
        assert stage is not None
        with self._while_scoring():
            stage.run()
        if stage.stopped:
            return False
        with self._lock:
            self._settle_trainings()
            self._chooser = self._make_chooser()
        return True

    def wants_more(self) -> bool:
        """Whether :meth:`score_near` is to be called before the next trial is given out."""
        with self._lock:
            return self._chooser is not None and self._chooser.wants_more

    def score_near(self) -> None:
        """Score more candidates, near the best; trials that run go on meanwhile."""
        with self._lock:
            stage, chooser = self._stage, self._chooser
            parents = chooser.parents() if chooser is not None else []
        if stage is not None and parents:
            with self._while_scoring():
                stage.score_near(parents)

    @contextlib.contextmanager
    def _while_scoring(self) -> Iterator[None]:
        with self._progress_in_log():
            self._scoring = True
            self._mark_energy_interval()
            try:
                yield
            finally:
                self._scoring = False
                self._mark_energy_interval()

    def interrupt(self) -> None:
        """Score no more; :meth:`run` and :meth:`score_near` return soon."""
        with self._lock:
            self._generation += 1
            if self._stage is not None:
                self._stage.stop()

    @contextlib.contextmanager
    def _progress_in_log(self) -> Iterator[None]:
        """Say in the experiment's log, which the portal shows, how far scoring is."""

        def say() -> None:
            best, failed = self.record.best_score(), self.record.count(Status.FAILED)
            _logger.info(
                'KNAS: %d of %d candidates scored%s%s.',
                min(self.record.scored(), self.options.candidates),
                self.options.candidates,
                f', {failed} failed' if failed else '',
                '' if best is None else f', best score {best:.4g}',
            )

        with repeated(say, self.progress):
            try:
                yield
            finally:
                _logger.info('KNAS: scored in %.1f s so far.', self.record.scoring_seconds())

    # Training.

    def next_trial(self) -> tuple[int, dict[str, Any]] | None:
        """What is to be trained next: its number and its trial's parameters; ``None`` where there is no more."""
        with self._lock:
            if self._resumed and self._settle_trainings():
                self._chooser = self._make_chooser()
            choice = self._chooser.next() if self._chooser is not None else None
            if choice is None:
                self._complete_if_over()
                return None
            candidate = self.record.get(choice.candidate)
            self.record.start_training(candidate.id)
            self._started[candidate.id] = time.monotonic()
            self._mark_energy_interval()
            return candidate.id, trial_parameters(candidate, choice)

    def _make_chooser(self) -> Chooser:
        assert self._stage is not None
        # A candidate in training stays in the ranking when the space has left it out.
        within = functools.partial(contains, self.space) if self.record.count(Status.OUTSIDE) else None
        return chooser_of(self.record, self.options.request(), within, self._stage.score_in_full)

    def awaits_end(self, asked: int) -> bool:
        """Whether so many trials can only have been asked for because one has ended whose end is still to be told.

        NNI's dispatcher tells the two in different threads.
        """
        concurrency = self._config.get('trialConcurrency')
        if concurrency is None or len(self._started) + asked <= concurrency:
            return False
        return len(self._started) + asked > (trial_concurrency() or concurrency)  # which may have been raised meanwhile

    def _complete_if_over(self) -> None:
        """End the search where no trial is under way any more: it says what it has used."""
        left = self._chooser.left if self._chooser is not None else 0
        limit = self._limit_reached() if left else ''
        if (left and not limit) or self._started or self._scoring or self.record.get_meta(keys.COMPLETE):
            return
        statement = footprint_of(self.record).statement
        self.record.set_meta(keys.LIMIT, limit)
        self.record.set_meta(keys.COMPLETE, 1)
        self.record.set_meta(keys.STATEMENT, statement)
        _logger.info('KNAS: %s.', statement)
        # Beside the dispatcher, which nothing may keep waiting.
        self._preparation = threading.Thread(target=self._prepare_report, name='KNAS report', daemon=True)
        self._preparation.start()

    def _prepare_report(self) -> None:
        with self._harmless():
            Run(self.folder, self.record).prepare_report(report_seconds(self.record))

    def _limit_reached(self) -> str:
        """The limit of the experiment after which its manager asks for no more trials; empty where it goes on."""
        most = self._config.get('maxTrialNumber')
        ended = self.record.count(Status.TRAINED, Status.TRAINING_FAILED)
        return 'maxTrialNumber' if most is not None and ended >= most else ''

    def _mark_energy_interval(self) -> None:
        """Scoring or a trial has begun or ended: what is used from now on is of another kind."""
        self._meter.enter('coarse' if self._scoring else 'fine' if self._started else None)
        self._meter.trials = len(self._started)

    def set_metric(self, number: int, reported: Any) -> None:
        """A trial has reported its final metric."""
        metric = number_of(reported)
        if metric is not None:
            self._no_number.pop(number, None)
            self.record.set_metric(number, metric)
        else:
            self._no_number[number] = why_no_number(reported)
            _logger.warning('Candidate %d: %s', number, self._no_number[number])

    def end_trial(self, number: int, success: bool) -> None:
        """A trial has ended: its result is recorded first, and then what is nice to know besides."""
        result = kept_result(self.folder, number)
        start = self._started.pop(number, None)
        taken = None if start is None else time.monotonic() - start
        failure = self._no_number.pop(number, None) or (None if success else self._reason(number))
        self.record.end_training(number, result.seconds if result is not None else taken, failure)
        self._mark_energy_interval()
        with self._harmless():
            self.record.set_training_energy(number, energy_of(self.record, result, taken if self._local else None))
        self._complete_if_over()

    def _reason(self, number: int) -> str:
        sentence = f'the trial did not succeed (its own log is below {self.folder / "environments"})'
        return with_last_line(sentence, last_words_of_training(number))

    def import_result(self, parameters: Any, reported: Any) -> None:
        """A result of training from elsewhere or from before a restart.

        A candidate that is not known yet is scored, so that it has its rank; where identical networks are merged, one that
        computes the same as a known one counts as that. One over the limits stays filtered, whatever its metric.
        """
        metric = number_of(reported)
        if self.space is None or metric is None or not isinstance(parameters, dict):
            _logger.warning('Ignored an imported result without parameters or metric: %s: %s', parameters, reported)
            return
        try:
            sample = sample_of(parameters, self.space)
        except ValueError as error:
            _logger.warning('Ignored an imported result: %s', error)
            return
        with self._lock:
            candidate = self.record.find(sample) or self._find_or_score(sample)
        if candidate.status == Status.FILTERED:
            _logger.warning('The imported result of candidate %d does not count: %s.', candidate.id, candidate.reason)
        if candidate.status != Status.TRAINED or candidate.metric is None:
            result = kept_result(self.folder, candidate.id)
            self.record.add_result(candidate.id, metric, result.seconds if result is not None else None)

    def _find_or_score(self, sample: dict[str, Any]) -> Candidate:
        """The candidate of a sample that is not in the record: that of the same network, or a new one."""
        assert self._stage is not None
        scorer = self._stage.scoring.scorer
        sample = scorer.canonical(sample)
        known = self.record.find(sample)
        if known is not None:
            return known
        network = scorer.identity(sample)
        twin = self.record.find_architecture(network) if scorer.has_twins else None
        if twin is not None:
            return twin
        score, reason, seconds, costs, filtered, panel = scorer.score(sample)
        if filtered:
            return self.record.add_filtered(sample, network, reason or 'too costly', seconds, costs=costs)
        if score is None:
            return self.record.add_failed(sample, network, reason or 'no score', seconds, costs=costs, panel=panel)
        return self.record.add_scored(sample, network, score, seconds, costs=costs, panel=panel)

    def _settle_trainings(self) -> bool:
        """See what has become of what was in training before a restart; whether any of it is to be trained anew.

        NNI may take up such a trial by itself, and does not tell a tuner its end.
        """
        before = [number for number in self.record.in_training() if number not in self._started]
        finished = [number for number in before if self._finish_by_result(number)]
        lost = set(before).difference(finished)
        statuses = self._unfinished_trials() if lost else {}
        for number in sorted(lost & statuses.keys()):
            lost.remove(number)
            if statuses[number] in UNSUCCESSFUL:
                self.end_trial(number, False)
        for number in lost:
            self.record.stop_training(number)
        return bool(lost)

    def _finish_by_result(self, number: int) -> bool:
        """Record what a trial has left of a training that has ended; whether it has left anything."""
        result = kept_result(self.folder, number)
        if result is not None:
            self.record.set_metric(number, result.metric)
            self.record.end_training(number, result.seconds)
        return result is not None

    @staticmethod
    def _unfinished_trials() -> dict[int, str]:
        try:
            return unfinished_trials()
        except requests.RequestException as error:
            _logger.warning('The manager does not say which trials there were: %s', error)
            return {}


def _platform_of(config: Mapping[str, Any]) -> str:
    """The kind of the training service, ``'local'`` where trials run on this machine."""
    service = config.get('trainingService') or {}
    return 'hybrid' if isinstance(service, list) else service.get('platform', 'local')
