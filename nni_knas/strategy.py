"""KNAS: explore a space by scores (coarse stage), then train the best with NNI (fine stage)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nni.nas.strategy.hpo as hpo
import numpy as np
import pandas as pd
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy import GridSearch, Random
from nni.nas.strategy.base import Strategy, StrategyStatus
from nni.nas.strategy.utils import RetrySamplingHelper
from torch import Tensor
from torch.utils._pytree import tree_flatten
from tqdm import tqdm

from nni_knas.candidates import build_network, encode_sample, hyper_parameters_of
from nni_knas.engine import ScoringEngine
from nni_knas.evaluator import GradientKernelEvaluator
from nni_knas.experiment import calling_experiment, experiment_folder, max_duration, max_trials
from nni_knas.fine import RankedEvaluator
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
        self.explorer = _checked_explorer(explorer) if explorer is not None else Random(seed=kernel.seed)
        self.keep_weights = keep_weights
        self._record_path = Path(record) if record is not None else None
        self._record: Record | None = None
        self._folder: Path | None = None
        self._hyper_parameters: frozenset[str] = frozenset()
        self._scoring: ScoringEngine | None = None
        self._deadline = math.inf
        self._max_trials = math.inf
        self._in_training: dict[ExecutableModelSpace, tuple[Candidate, float]] = {}

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
        size = _space_size(space, self.candidates)
        if size < self.candidates:
            _logger.warning('The space has only %d candidates, fewer than the %d asked for: all of them are scored.',
                            size, self.candidates)
            self.explorer = GridSearch(shuffle=False)
        if self.explorer._status != StrategyStatus.EMPTY:
            raise ValueError(_USED_EXPLORER)
        assert self._scoring is not None
        with seeded(self.kernel.seed):
            self.explorer.initialize(space, self._scoring)
        # A resumed run explores again from where it began; what is in the record costs nothing. For that the explorer
        # has to begin in the state that it began with, whatever its own seed.
        record, name = self._opened_record(), f'explorer {type(self.explorer).__name__}'
        state = record.get_meta(name)
        if state is not None:
            _restore_explorer(self.explorer, state)
        else:
            record.set_meta(name, _explorer_state(self.explorer))

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
                with seeded(self.kernel.seed), _no_pauses():
                    self.explorer.run()
        scoring.bar = None
        total, failed = len(record), record.count('failed')
        if time.monotonic() >= self._deadline and total < self.candidates:
            _logger.warning('The experiment\'s time was over after scoring %d of %d candidates.', total, self.candidates)
        if total == failed:
            reason, times = record.frequent_reason() or ('the explorer gave no candidate', 0)
            raise RuntimeError(f'none of the {total} candidates could be scored; the most frequent reason ({times} of '
                               f'{total}): {reason}')
        _logger.info('Scored %d candidates, %d failed.', total - failed, failed)

    def _train(self) -> None:
        """Fine stage."""
        record = self._opened_record()
        ranked = list(enumerate(record.best(self.top_k), start=1))
        if any(candidate.status == 'training' for _, candidate in ranked):  # the run was interrupted here
            self._adopt_finished()
            ranked = list(enumerate(record.best(self.top_k), start=1))
        done = sum(candidate.finished for _, candidate in ranked)
        waiting = [(rank, candidate) for rank, candidate in ranked if not candidate.finished]
        allowed = max(0, self._max_trials - record.count('trained', 'training-failed'))
        if allowed < len(waiting):
            _logger.warning('max_trial_number allows %d more trials: the best %d of %d are trained.', allowed, allowed,
                            len(waiting))
            waiting = waiting[:int(allowed)]
        with tqdm(total=done + len(waiting), initial=done, desc='Training', unit='model', disable=None) as self._bar:
            for rank, candidate in waiting:
                if not self._may_train():
                    _logger.warning('The experiment\'s budget is used up before all of the top %d are trained.', self.top_k)
                    break
                self._submit(rank, candidate)
            self._wait()
        if record.count('training-failed') and not record.count('trained'):
            reason, times = record.frequent_reason() or ('', 0)
            raise RuntimeError(f'none of the {record.count("training-failed")} best candidates could be trained; the most '
                               f'frequent reason ({times} times): {reason}')

    def _may_train(self) -> bool:
        return self.wait_for_resource() and time.monotonic() < self._deadline

    def _submit(self, rank: int, candidate: Candidate) -> None:
        model = self.model_space.freeze(candidate.sample)
        weights = weights_path(self._folder, candidate.id) if self.keep_weights and self._folder else None
        assert model.evaluator is not None and candidate.score is not None
        model.evaluator = RankedEvaluator(model.evaluator, candidate.score, rank, str(weights) if weights else None)
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
        """Wait for the models in training. When the experiment's budget ends first, NNI stops its trials."""
        while self._in_training:
            if not self.engine.budget_available():
                self.engine.wait_models()
                time.sleep(1)  # the last events are on their way
                break
            time.sleep(0.2)
        for candidate, _ in list(self._in_training.values()):
            self._opened_record().stop_training(candidate.id)
        self._in_training.clear()

    def _adopt_finished(self) -> None:
        """Trials that went on after this process was killed, and have finished, need no second training."""
        record = self._opened_record()
        for model in self.engine.list_models(status=ModelStatus.Trained):
            candidate = record.find(model.sample) if model.sample is not None else None
            if candidate is not None and candidate.status == 'training' and model.metric is not None:
                record.set_metric(candidate.id, float(model.metric))
                record.end_training(candidate.id, None)

    def _on_metric(self, event: FinalMetricEvent) -> None:
        if event.model in self._in_training:
            metric = event.metric.get('default') if isinstance(event.metric, dict) else event.metric
            if isinstance(metric, (int, float)):
                self._opened_record().set_metric(self._in_training[event.model][0].id, float(metric))

    def _on_training_end(self, event: TrainingEndEvent) -> None:
        if event.model in self._in_training:
            candidate, start = self._in_training.pop(event.model)
            reason = None if event.status == ModelStatus.Trained else _TRIAL_FAILED.format(event.status.value)
            self._opened_record().end_training(candidate.id, time.monotonic() - start, reason)
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


_USED_EXPLORER = 'this explorer has explored before, and an NNI strategy runs once: create a new one for each KNAS'
_TRIAL_FAILED = 'the trial ended as {}; its own log in the experiment\'s folder says why'


def _check_counts(candidates: int, top_k: int) -> None:
    for name, value, least in (('candidates', candidates, 1), ('top_k', top_k, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{name} is {value!r}: it has to be a whole number, {least} or more')
    if top_k > candidates:
        raise ValueError(f'top_k={top_k} is more than candidates={candidates}: no more can be trained than are scored')


def _checked_explorer(explorer: Any) -> Strategy:
    """An explorer that can explore by scores: a new multi-trial strategy that maximises."""
    if not isinstance(explorer, Strategy):
        raise TypeError(f'explorer has to be an NNI multi-trial strategy such as nni.nas.strategy.Random(), not {explorer!r}')
    if isinstance(explorer, KNAS):
        raise ValueError('KNAS cannot explore for KNAS: give a multi-trial strategy such as RegularizedEvolution()')
    if _is_one_shot(explorer):
        raise ValueError(f'{type(explorer).__name__} is a one-shot strategy and trains a supernet: the explorer has to be '
                         'a multi-trial strategy such as Random() or RegularizedEvolution()')
    if explorer._status != StrategyStatus.EMPTY:
        raise ValueError(_USED_EXPLORER)
    if isinstance(explorer, hpo.HPOTunerStrategy):
        mode = getattr(explorer.tuner, 'optimize_mode', None)
        if mode is not None:  # NNI's tuners minimise unless told otherwise
            explorer.tuner.optimize_mode = type(mode)('maximize')
    return explorer


def _is_one_shot(explorer: Strategy) -> bool:
    try:
        from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
    except ImportError:  # without pytorch-lightning there are no one-shot strategies
        return False
    return isinstance(explorer, OneShotStrategy)


def _explorer_state(explorer: Strategy) -> bytes:
    if isinstance(explorer, hpo.HPOTunerStrategy):  # its state_dict leaves out the tuner
        return pickle.dumps(explorer.tuner)
    return pickle.dumps(explorer.state_dict())


def _restore_explorer(explorer: Strategy, state: bytes) -> None:
    if isinstance(explorer, hpo.HPOTunerStrategy):
        explorer.tuner = pickle.loads(state)
    else:
        explorer.load_state_dict(pickle.loads(state))


@contextlib.contextmanager
def _no_pauses() -> Iterator[None]:
    """NNI's tuner strategies pause for a second after each model, to let trials start; scoring starts none."""
    clock = hpo.time
    hpo.time = SimpleNamespace(sleep=lambda seconds: None)  # type: ignore[assignment]
    try:
        yield
    finally:
        hpo.time = clock


def _space_size(space: ExecutableModelSpace, limit: int) -> float:
    """Number of candidates in a space, where it is below ``limit``; else some number that is not."""
    choices = 1.0
    for mutable in space.simplify().values():
        try:
            coarse, finer = (sum(1 for _ in mutable.grid(granularity=granularity)) for granularity in (1, 4))
        except NotImplementedError:
            return math.inf
        choices *= coarse if coarse == finer else math.inf  # a continuous choice has more the closer one looks
        if choices > 100 * limit:
            return math.inf  # constraints may leave out some, hardly so many; and counting would take long
    seen: set[str] = set()
    for model in space.grid(granularity=1):
        assert model.sample is not None
        seen.add(encode_sample(model.sample))
        if len(seen) >= limit:
            break
    return len(seen)


def _settings(kernel: GradientKernelEvaluator) -> dict[str, Any]:
    """What a score depends on besides the network."""
    digest = hashlib.sha256()
    for leaf in tree_flatten(tuple(kernel.minibatch))[0]:
        digest.update(leaf.detach().cpu().contiguous().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
    loss = 'cross-entropy' if kernel.loss is None else getattr(kernel.loss, '__qualname__', type(kernel.loss).__qualname__)
    return {'score': kernel.score_function.name, 'seed': kernel.seed, 'normalization': kernel.normalization, 'loss': loss,
            'minibatch': digest.hexdigest()}
