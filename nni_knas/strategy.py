"""KNAS: explore a space by scores (coarse stage), then train the best with NNI (fine stage)."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy import GridSearch, Random
from nni.nas.strategy.base import Strategy
from nni.nas.strategy.utils import RetrySamplingHelper
from torch import Tensor
from torch.utils._pytree import tree_flatten
from tqdm import tqdm

from nni_knas.candidates import build_network, hyper_parameters_of
from nni_knas.engine import ScoringEngine
from nni_knas.evaluator import GradientKernelEvaluator
from nni_knas.experiment import calling_experiment, experiment_folder, max_duration, max_trials, trials
from nni_knas.explorers import (
    check_unused,
    checked_explorer,
    explorer_state,
    no_pauses,
    restore_explorer,
    space_size,
)
from nni_knas.fine import PORTAL_PAGE, kept_result, portal_page, ranked_model
from nni_knas.gradients import MisfitError, seeded
from nni_knas.record import Candidate, Record, record_path, weights_path
from nni_knas.runs import dump_space, restore_model

__all__ = ['KNAS']

_logger = logging.getLogger(__name__)


class KNAS(Strategy):
    """Search without training: score many candidates by their gradients, train only the best few.

    In the coarse stage an NNI strategy, the *explorer*, explores the space against an engine that scores instead of
    training, in this process. In the fine stage the ``top_k`` best go to the experiment's own engine, with the
    experiment's own evaluator, as trials like any other.

    Every candidate and every result is in the run's record the moment it is known (``knas/record.sqlite`` in the
    experiment's directory). ``experiment.resume`` takes up where a run stood: nothing that was scored is scored again,
    and nothing that was trained is trained again.

    Parameters
    ----------
    kernel
        Scores the candidates.
    candidates
        How many different candidates to score. Where the space has fewer, all of them are.
    top_k
        How many of the best to train; 0 stops after scoring.
    explorer
        Any NNI multi-trial strategy, new and not used elsewhere. Default: ``Random`` without duplicates, by the kernel's
        seed. A tuner in it (``TPE``) is set to maximise, since higher scores are better.
    record
        File of the record, for use without an experiment, or to keep the record elsewhere.
    keep_weights
        Keep the trained weights of the fine stage in the experiment's directory, where :func:`nni_knas.open_run` finds
        them.

    Raises
    ------
    ValueError, TypeError
        If an argument cannot be; the message says what would be right.

    Examples
    --------
    >>> strategy = KNAS(kernel, candidates=300, top_k=20)
    >>> experiment = NasExperiment(space, evaluator, strategy)
    >>> experiment.run(port=8080)
    >>> strategy.scores().head()

    Source: Xu et al., "KNAS: Green Neural Architecture Search", ICML 2021.
    """

    def __init__(self, kernel: GradientKernelEvaluator, candidates: int = 300, top_k: int = 20,
                 explorer: Strategy | None = None, *, record: str | Path | None = None,
                 keep_weights: bool = True) -> None:
        super().__init__()
        if not isinstance(kernel, GradientKernelEvaluator):
            raise TypeError(f'kernel has to be a GradientKernelEvaluator, not {type(kernel).__name__}')
        _check_counts(candidates, top_k)
        self.kernel = kernel
        self.candidates = candidates
        self.top_k = top_k
        if isinstance(explorer, KNAS):
            raise ValueError('KNAS cannot explore for KNAS: give a multi-trial strategy such as RegularizedEvolution()')
        self.explorer = checked_explorer(explorer) if explorer is not None else Random(seed=kernel.seed)
        self.keep_weights = keep_weights
        self._record_path = Path(record) if record is not None else None
        self._record: Record | None = None
        self._folder: Path | None = None
        self._hyper_parameters: frozenset[str] = frozenset()
        self._model_space: ExecutableModelSpace | None = None
        self._scoring: ScoringEngine | None = None
        self._deadline = math.inf
        self._max_trials = math.inf
        self._in_training: dict[ExecutableModelSpace, tuple[Candidate, float]] = {}  # with the time of its start
        self._taken_up: set[int] = set()  # candidates whose trials NNI started again after a restart

    def extra_repr(self) -> str:
        return f'kernel={self.kernel!r}, candidates={self.candidates}, top_k={self.top_k}, explorer={self.explorer!r}'

    def scores(self) -> pd.DataFrame:
        """All candidates so far, best first, failed ones last; see :meth:`nni_knas.record.Record.frame`."""
        return self._opened_record().frame()

    def list_models(self, sort: bool = True, limit: int | None = None) -> Iterator[ExecutableModelSpace]:
        """The trained models, best metric first; they can be had after the experiment has stopped, too.

        Parameters
        ----------
        sort
            ``False`` gives all candidates in the order of exploration instead, trained or not.
        limit
            Largest number of models.
        """
        record = self._opened_record()
        rows = record.trained() if sort else record.explored()
        if sort and limit is not None and limit > len(rows):
            _logger.warning('Only %d models are trained, but %d top models are requested.', len(rows), limit)
        for candidate in rows[:limit]:
            weights = weights_path(self._folder, candidate.id) if self._folder is not None else None
            yield restore_model(self._any_space(), candidate, weights)

    def state_dict(self) -> dict:
        """Empty: the state of a run is its record."""
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Nothing to load: the record was opened when the strategy was initialised."""

    # Before the run.

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        experiment = calling_experiment()
        if experiment is not None:
            self._folder = experiment_folder(experiment)
            log = self._folder / 'log'
            log.mkdir(parents=True, exist_ok=True)
            (log / PORTAL_PAGE).write_text(portal_page(experiment.id))
        self._record = Record(self._record_path or (record_path(self._folder) if self._folder else None))
        self._max_trials = max_trials(experiment)
        # A run that is resumed has used up a part of its time.
        self._deadline = time.monotonic() + max_duration(experiment) - sum(self._record.seconds())
        self._hyper_parameters = hyper_parameters_of(model_space)
        self._check_settings()
        if not len(self._record):
            self._check_fit(model_space)
        self._scoring = ScoringEngine(self.kernel, self._record, self.candidates, deadline=self._deadline,
                                      hyper_parameters=self._hyper_parameters)
        self._prepare_explorer(model_space)
        self._record.set_meta('space', dump_space(model_space))
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_training_end)
        return model_space

    def _check_settings(self) -> None:
        """Scores compare only with scores of the same kernel on the same minibatch."""
        settings = _settings(self.kernel)
        before = self._opened_record().get_meta('kernel')
        if before is not None and len(self._opened_record()):
            changed = [name for name, value in json.loads(before).items() if settings.get(name) != value]
            if changed:
                raise ValueError(f'this run cannot be taken up with another kernel, its scores would not compare: '
                                 f'{", ".join(changed)} differ from what the run began with')
        self._opened_record().set_meta('kernel', json.dumps(settings))

    def _check_fit(self, space: ExecutableModelSpace) -> None:
        """Before any work: networks of the space take the minibatch, and the targets fit.

        One network that takes it is enough. Only when all that are tried refuse is the data at fault, not the candidate.
        """
        sampling = RetrySamplingHelper()
        random_state = np.random.RandomState(self.kernel.seed)
        refusal: MisfitError | None = None
        for _ in range(50):
            model = sampling.retry(space.random, random_state=random_state)
            if model is None:
                return
            try:
                self.kernel.check(build_network(model, self.kernel.seed, self._hyper_parameters))
                return
            except MisfitError as error:
                refusal = error
            except Exception:  # a fault of this candidate; the coarse stage records it
                return
        assert refusal is not None
        raise refusal

    def _prepare_explorer(self, space: ExecutableModelSpace) -> None:
        size = space_size(space, self.candidates)
        if size < self.candidates:
            warnings.warn(f'the space has only {size} candidates, fewer than the {self.candidates} asked for: all of them '
                          'are scored', stacklevel=1)
            self.explorer = GridSearch(shuffle=False)
        check_unused(self.explorer)
        assert self._scoring is not None
        with seeded(self.kernel.seed):
            self.explorer.initialize(space, self._scoring)
        # A resumed run explores again from where it began; what is in the record costs nothing. For that the explorer
        # has to begin in the state that it began with, whatever its own seed.
        record, name = self._opened_record(), f'explorer {type(self.explorer).__name__}'
        before, now = record.get_meta(name), explorer_state(self.explorer)
        if before is not None:
            restore_explorer(self.explorer, before)
        elif now is not None:
            record.set_meta(name, now)

    # The run.

    def _run(self) -> None:
        self._explore()
        if self.top_k:
            self._train()

    def _explore(self) -> None:
        """Coarse stage."""
        record, scoring = self._opened_record(), self._scoring
        assert scoring is not None
        with tqdm(total=self.candidates, initial=min(len(record), self.candidates), desc='Scoring', unit='candidate',
                  disable=None) as scoring.bar:
            if scoring.budget_available():
                with seeded(self.kernel.seed), no_pauses():
                    self.explorer.run()
        scoring.bar = None
        total, failed = len(record), record.count('failed')
        if time.monotonic() >= self._deadline and total < self.candidates:
            _logger.warning('The experiment\'s time was over after scoring %d of %d candidates.', total, self.candidates)
        if total == failed:
            reason, times = record.frequent_reason('failed') or ('the explorer gave no candidate', 0)
            raise RuntimeError(f'none of the {total} candidates could be scored; the most frequent reason ({times} of '
                               f'{total}): {reason}')
        _logger.info('Scored %d candidates, %d failed.', total - failed, failed)

    def _train(self) -> None:
        """Fine stage."""
        record = self._opened_record()
        self._take_up()
        ranked = list(enumerate(record.best(self.top_k), start=1))
        done = sum(candidate.finished for _, candidate in ranked)
        waiting = [(rank, candidate) for rank, candidate in ranked
                   if not candidate.finished and candidate.id not in self._taken_up]
        allowed = max(0, self._max_trials - record.count('trained', 'training-failed') - len(self._taken_up))
        if allowed < len(waiting):
            _logger.warning('max_trial_number allows %d of the best %d candidates to be trained.', done + allowed,
                            len(ranked))
            waiting = waiting[:int(allowed)]
        with tqdm(total=done + len(self._taken_up) + len(waiting), initial=done, desc='Training', unit='model',
                  disable=None) as self._bar:
            for rank, candidate in waiting:
                if not self._may_train():
                    _logger.warning('The experiment\'s budget was used up before all of the best %d were trained.',
                                    len(ranked))
                    break
                self._submit(rank, candidate)
            self._wait()
        if record.count('training-failed') and not record.count('trained'):
            reason, times = record.frequent_reason('training-failed') or ('', 0)
            raise RuntimeError(f'none of the {record.count("training-failed")} best candidates could be trained; the most '
                               f'frequent reason ({times} times): {reason}')

    def _may_train(self) -> bool:
        return self.wait_for_resource() and time.monotonic() < self._deadline

    def _submit(self, rank: int, candidate: Candidate) -> None:
        model = ranked_model(self.model_space.freeze(candidate.sample), candidate, rank, self._folder, self.keep_weights)
        self._opened_record().start_training(candidate.id)
        self._in_training[model] = candidate, time.monotonic()
        try:
            self.engine.submit_models(model)
        except Exception as error:  # NNI's sequential engine raises what a trial raised, after reporting its end
            reason = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
            _logger.error('Training of candidate %d failed: %s', candidate.id, reason, exc_info=True)
            self._in_training.pop(model, None)
            self._opened_record().end_training(candidate.id, None, reason)

    def _wait(self) -> None:
        """Wait for the models in training. When the experiment's budget ends first, NNI starts none of those that wait."""
        idle_since = time.monotonic()
        while self._in_training or self._taken_up:
            if self._in_training or self._look_after():
                idle_since = time.monotonic()
            if not self.engine.budget_available() or time.monotonic() - idle_since > 30:
                self.engine.wait_models()
                time.sleep(1)  # the last events are on their way
                self._look_after()
                break
            time.sleep(0.5)
        for candidate, _ in list(self._in_training.values()):
            self._opened_record().stop_training(candidate.id)
        for candidate_id in self._taken_up:
            self._opened_record().stop_training(candidate_id)
        self._in_training.clear()
        self._taken_up.clear()

    def _take_up(self) -> None:
        """After a restart: see what has become of the trials that were under way.

        Some have finished, with nobody to listen. Those that have not, NNI's training service starts again by itself.
        """
        under_way = {candidate.id for candidate in self._opened_record().best(self.top_k) if candidate.status == 'training'}
        for candidate_id in list(under_way):
            result = kept_result(self._folder, candidate_id)
            if result is not None:
                self._end(candidate_id, result.metric)
                under_way.remove(candidate_id)
        if under_way:
            self._taken_up = under_way & {trial.candidate for trial in trials(self.engine)}
            self._look_after()

    def _look_after(self) -> bool:
        """Record those of the trials that NNI has started again that have ended; whether any is still under way."""
        alive = False
        for trial in trials(self.engine) if self._taken_up else ():
            if trial.candidate in self._taken_up:
                alive = alive or trial.status in ('WAITING', 'RUNNING')
                if trial.status == 'SUCCEEDED':
                    self._end(trial.candidate, trial.metric)
                elif trial.status in _ENDED:
                    self._end(trial.candidate, None, _TRIAL_FAILED.format(trial.status))
        return alive

    def _end(self, candidate_id: int, metric: float | None, reason: str | None = None) -> None:
        """Record the end of a trial that an earlier process had submitted."""
        self._taken_up.discard(candidate_id)
        if metric is not None:
            self._opened_record().set_metric(candidate_id, metric)
        result = kept_result(self._folder, candidate_id)
        self._opened_record().end_training(candidate_id, result.seconds if result else None, reason)

    def _on_metric(self, event: FinalMetricEvent) -> None:
        if event.model in self._in_training:
            metric = event.metric.get('default') if isinstance(event.metric, dict) else event.metric
            if isinstance(metric, (int, float)):
                self._opened_record().set_metric(self._in_training[event.model][0].id, float(metric))

    def _on_training_end(self, event: TrainingEndEvent) -> None:
        if event.model in self._in_training:
            candidate, start = self._in_training.pop(event.model)
            reason = None if event.status == ModelStatus.Trained else _TRIAL_FAILED.format(event.status.value)
            result = kept_result(self._folder, candidate.id)  # its time is without NNI's queue and start-up
            seconds = result.seconds if result is not None else time.monotonic() - start
            self._opened_record().end_training(candidate.id, seconds, reason)
            self._bar.update()

    # Small helpers.

    def _opened_record(self) -> Record:
        """The run's record; for a run of another process, that of the experiment that asks."""
        if self._record is None:
            experiment = calling_experiment()
            folder = experiment_folder(experiment) if experiment is not None else None
            path = self._record_path or (record_path(folder) if folder else None)
            if path is None or not path.exists():
                raise RuntimeError('the strategy has not run yet: there are no scores and no models')
            self._record, self._folder = Record(path), folder
        return self._record

    def _any_space(self) -> ExecutableModelSpace:
        if self._model_space is None:
            experiment = calling_experiment()
            assert experiment is not None
            self._model_space = experiment.executable_model_factory(experiment.config.canonical_copy().model_format)
        return self._model_space


_ENDED = ('FAILED', 'USER_CANCELED', 'SYS_CANCELED', 'EARLY_STOPPED')
_TRIAL_FAILED = 'the trial ended as {}; its own log in the experiment\'s folder says why'


def _check_counts(candidates: int, top_k: int) -> None:
    for name, value, least in (('candidates', candidates, 1), ('top_k', top_k, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{name} is {value!r}: it has to be a whole number, {least} or more')
    if top_k > candidates:
        raise ValueError(f'top_k={top_k} is more than candidates={candidates}: no more can be trained than are scored')


def _settings(kernel: GradientKernelEvaluator) -> dict[str, Any]:
    """What a score depends on besides the network; two kernels of equal settings give comparable scores."""
    digest = hashlib.sha256()
    for leaf in tree_flatten(tuple(kernel.minibatch))[0]:
        digest.update(leaf.cpu().contiguous().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
    loss = 'cross-entropy' if kernel.loss is None else getattr(kernel.loss, '__qualname__', type(kernel.loss).__qualname__)
    return {'score': kernel.score_function.name, 'seed': kernel.seed, 'normalization': kernel.normalization, 'loss': loss,
            'minibatch': digest.hexdigest()}
