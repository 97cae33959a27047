"""KNAS: explore a space by scores (coarse stage), then train the best with NNI (fine stage)."""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import GridSearch, Random
from nni.nas.strategy.base import Strategy
from nni.nas.strategy.utils import RetrySamplingHelper
from tqdm import tqdm

from nni_knas.candidates import hyper_parameters_of
from nni_knas.engine import InProcess, Placement, Scorer, ScoringEngine, Workers, gpus
from nni_knas.evaluator import GradientKernelEvaluator
from nni_knas.experiment import calling_experiment, experiment_folder, max_duration, max_trials
from nni_knas.explorers import (
    Checkpoints,
    check_space,
    check_unused,
    checked_explorer,
    explorer_state,
    farthest_ahead,
    learns,
    no_pauses,
    restore_explorer,
    space_size,
)
from nni_knas.fine import FineStage
from nni_knas.gradients import MisfitError, seeded
from nni_knas.portal import PORTAL_PAGE, portal_page
from nni_knas.record import Record, record_path, weights_path
from nni_knas.runs import dump_space, restore_model

__all__ = ['KNAS', 'PLACEMENTS', 'Effort']

_logger = logging.getLogger(__name__)

Effort = Literal['adaptive', 'full']


class KNAS(Strategy):
    """Search without training: score many candidates by their gradients, train only the best few.

    In the coarse stage an NNI strategy, the *explorer*, explores the space against an engine that scores instead of
    training, in this process or in others. In the fine stage the ``top_k`` best go to the experiment's own engine, with the
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
        Any NNI multi-trial strategy, new and not used elsewhere. Default: ``Random`` by the kernel's seed. A tuner in it
        (``TPE``) is set to maximise, since higher scores are better. One that waits for a model's result calls
        ``engine.wait_models(model)``.
    record
        File of the record, for use without an experiment, or to keep the record elsewhere.
    keep_weights
        Keep the trained weights of the fine stage in the experiment's directory, where :func:`nni_knas.open_run` finds
        them.
    placement
        Where candidates are scored: ``'process'``, in this process; ``'workers'``, in processes of this machine;
        ``'gpus'``, a process for each CUDA device; ``'trials'``, in trials of the experiment's training service; or a
        :class:`~nni_knas.engine.Placement`. The same seed gives the same candidates, scores and ranking in all of them, to
        the last bit on one kind of device.
    workers
        Number of processes for ``'workers'``, which it implies. Default: one for each CPU core that this process may use.
    ahead
        How many candidates the explorer is ahead of their scores: it chooses the candidate number ``j`` knowing the scores
        of the first ``j - ahead``. Default: 16, more only for placements that need more to be busy. With 1, an explorer
        that learns knows all scores before each choice, and only one candidate is scored at a time.

    effort
        ``'adaptive'``: score all candidates on little (:meth:`GradientKernelEvaluator.quick`), and in full only those that
        may still be among the ``top_k``, of which 1 % are missed by expectation (:class:`nni_knas.race.Race`). The others
        keep their quick score in a column of its own and rank behind. It takes 100 candidates, and four for each of the
        ``top_k``, to be worth it; with fewer, and with ``'full'``, each candidate is scored in full.
    merge_identical
        Recognise candidates that compute the same, whatever their labels (:class:`nni_knas.identity.Identity`), and score
        each network once. Telling networks apart costs about a fifth of a full score, and more than a quick one: it pays
        with ``effort='full'``.

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
                 keep_weights: bool = True, placement: str | Placement = 'process', workers: int | None = None,
                 ahead: int | None = None, effort: Effort = 'adaptive', merge_identical: bool = False) -> None:
        super().__init__()
        if not isinstance(kernel, GradientKernelEvaluator):
            raise TypeError(f'kernel has to be a GradientKernelEvaluator, not {type(kernel).__name__}')
        _check_counts(candidates, top_k)
        _check_placement(placement, workers, ahead)
        if effort not in get_args(Effort):
            raise ValueError(f'unknown effort {effort!r}: it is "adaptive" or "full"')
        self.kernel = kernel
        self.candidates = candidates
        self.top_k = top_k
        if isinstance(explorer, KNAS):
            raise ValueError('KNAS cannot explore for KNAS: give a multi-trial strategy such as RegularizedEvolution()')
        self.explorer = checked_explorer(explorer) if explorer is not None else Random(dedup=False, seed=kernel.seed)
        self.keep_weights = keep_weights
        if ahead is not None and ahead > farthest_ahead(self.explorer):
            raise ValueError(f'ahead={ahead} is more than the explorer\'s population_size={self.explorer.population_size}: '
                             'it could not choose a parent')
        self.placement = placement if workers is None else Workers(workers)
        self.ahead = ahead
        self.effort: Effort = effort
        self.merge_identical = merge_identical
        self._record_path = Path(record) if record is not None else None
        self._record: Record | None = None
        self._folder: Path | None = None
        self._model_space: ExecutableModelSpace | None = None
        self._scoring: ScoringEngine | None = None
        self._deadline = math.inf
        self._training: FineStage | None = None

    def extra_repr(self) -> str:
        return (f'kernel={self.kernel!r}, candidates={self.candidates}, top_k={self.top_k}, explorer={self.explorer!r}, '
                f'placement={self.placement!r}')

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
        # A run that is resumed has used up a part of its time.
        before = self._record.scoring_seconds() + self._record.seconds()[1]
        self._deadline = time.monotonic() + max_duration(experiment) - before
        self._check_settings()
        scorer = Scorer(self.kernel, model_space, hyper_parameters_of(model_space), merge_identical=self.merge_identical)
        size = space_size(model_space, self.candidates)
        quick = self._begins_quickly(scorer, min(size, self.candidates))
        self._scoring = self._scoring_engine(scorer, quick)
        self._prepare_explorer(model_space, size)
        self._record.set_meta('space', dump_space(model_space))
        self._training = FineStage(model_space, engine, self._record, folder=self._folder, keep_weights=self.keep_weights,
                                   max_trials=max_trials(experiment), deadline=self._deadline)
        return model_space

    def _cleanup(self) -> None:
        if self._training is not None:
            self._training.close()

    def _check_settings(self) -> None:
        """Scores compare only with scores of the same kernel on the same minibatch."""
        settings = self.kernel.settings()
        before = self._opened_record().get_meta('kernel')
        if before is not None and len(self._opened_record()):
            changed = [name for name, value in json.loads(before).items() if settings.get(name) != value]
            if changed:
                raise ValueError(f'this run cannot be taken up with another kernel, its scores would not compare: '
                                 f'{", ".join(changed)} differ from what the run began with')
        self._opened_record().set_meta('kernel', json.dumps(settings))

    def _begins_quickly(self, scorer: Scorer, count: float) -> bool:
        """Whether candidates are scored quickly at first. A resumed run goes on as it began."""
        record = self._opened_record()
        before = record.get_meta('effort')
        if len(record) and before is not None:
            if before == 'adaptive' and self.effort == 'full':
                raise ValueError('this run cannot be taken up with effort="full", since it began with "adaptive"')
            return before == 'adaptive'
        fits = self._check_fit(scorer)
        quick = (self.effort == 'adaptive' and self.top_k > 0 and count >= max(100, 4 * self.top_k) and fits
                 and self.kernel.quick() is not None)
        record.set_meta('effort', 'adaptive' if quick else 'full')
        return quick

    def _check_fit(self, scorer: Scorer) -> bool:
        """Before any work: networks of the space take the minibatch, and the targets fit.

        One network that takes it is enough. Only when all that are tried refuse is the data at fault, not the candidate.

        Returns
        -------
        bool
            Whether they take the minibatch of quick scores, too, as far as could be seen.
        """
        sampling = RetrySamplingHelper()
        random_state = np.random.RandomState(self.kernel.seed)
        refusal: MisfitError | None = None
        for _ in range(50):
            model = sampling.retry(scorer.space.random, random_state=random_state)
            if model is None:
                return True
            try:
                network = scorer.build(model.sample or {})
                self.kernel.check(network)
            except MisfitError as error:
                refusal = error
                continue
            except Exception:  # a fault of this candidate; the coarse stage records it
                return True
            try:
                scorer.quick.check(network)
            except Exception:  # small images may be too small
                return False
            return True
        assert refusal is not None
        raise refusal

    def _scoring_engine(self, scorer: Scorer, quick: bool) -> ScoringEngine:
        """A resumed run is as far ahead as it was, wherever it goes on, since the exploration depends on that."""
        record, placement = self._opened_record(), _placement(self.placement)
        ahead = self.ahead or record.get_meta('ahead') or max(ScoringEngine.least_ahead, placement.ahead)
        ahead = int(min(ahead, farthest_ahead(self.explorer)))
        engine = ScoringEngine(scorer, record, self.candidates, placement, ahead=ahead, deadline=self._deadline,
                               quick=quick)
        record.set_meta('ahead', engine.ahead)
        engine.elastic = not learns(self.explorer)
        return engine

    def _prepare_explorer(self, space: ExecutableModelSpace, size: float) -> None:
        if size < self.candidates:
            warnings.warn(f'the space has only {size} candidates, fewer than the {self.candidates} asked for: all of them '
                          'are scored', stacklevel=1)
            self.explorer = GridSearch(shuffle=False)
        check_unused(self.explorer)
        check_space(self.explorer, space)
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
        assert self._training is not None
        if self.top_k:
            self._training.run(self.top_k)

    def _explore(self) -> None:
        """Coarse stage."""
        record, scoring = self._opened_record(), self._scoring
        assert scoring is not None and self._training is not None
        unfinished = scoring.quick and (record.get_meta('finished for') or 0) < self.top_k
        if scoring.budget_available() or unfinished:
            with scoring.opened(self._training.engine), seeded(self.kernel.seed), no_pauses():
                self._run_explorer(scoring)
                if scoring.quick and self.top_k:
                    scoring.finish(self.top_k)
        total, failed = len(record), record.count('failed')
        if time.monotonic() >= scoring.deadline:
            if total < self.candidates:
                _logger.warning('The experiment\'s time was over after scoring %d of %d candidates.', total, self.candidates)
            elif unfinished:
                _logger.warning('The experiment\'s time was over before all that may be among the best %d had a full score.',
                                self.top_k)
        elif scoring.quick:
            record.set_meta('finished for', self.top_k)
        if not record.best(1):
            reason, times = record.frequent_reason('failed') or ('the explorer gave no candidate in time', 0)
            raise RuntimeError(f'none of the {total} candidates could be scored; the most frequent reason ({times} of '
                               f'{total}): {reason}')
        _logger.info('Scored %d candidates, %d failed.', total - failed, failed)

    def _run_explorer(self, scoring: ScoringEngine) -> None:
        record = self._opened_record()
        with tqdm(total=self.candidates, initial=min(len(record), self.candidates), desc='Scoring', unit='candidate',
                  disable=None) as scoring.bar:
            if scoring.budget_available():
                checkpoints = Checkpoints(self.explorer, scoring, record)
                checkpoints.restore()
                scoring.after_submission = checkpoints
                self.explorer.run()
                scoring.wait_models()
        scoring.bar = None

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


def _check_counts(candidates: int, top_k: int) -> None:
    for name, value, least in (('candidates', candidates, 1), ('top_k', top_k, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{name} is {value!r}: it has to be a whole number, {least} or more')
    if top_k > candidates:
        raise ValueError(f'top_k={top_k} is more than candidates={candidates}: no more can be trained than are scored')


def _check_placement(placement: str | Placement, workers: int | None, ahead: int | None) -> None:
    for name, value in (('workers', workers), ('ahead', ahead)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f'{name} is {value!r}: it has to be a whole number, 1 or more')
    if isinstance(placement, str) and placement not in PLACEMENTS:
        raise ValueError(f'unknown placement {placement!r}: it is one of {", ".join(PLACEMENTS)}, or a Placement')
    if not isinstance(placement, (str, Placement)):
        raise TypeError(f'placement is {placement!r}: it has to be one of {", ".join(PLACEMENTS)}, or a Placement')
    if workers is not None and placement not in ('process', 'workers'):
        raise ValueError(f'workers={workers} goes with placement="workers", not with {placement!r}')
    if placement == 'gpus':
        gpus()  # says if there are none


def _trials() -> Placement:
    from nni_knas.engine.trials import Trials

    return Trials()


PLACEMENTS: dict[str, Callable[[], Placement]] = {'process': InProcess, 'workers': Workers, 'gpus': gpus, 'trials': _trials}


def _placement(placement: str | Placement) -> Placement:
    return PLACEMENTS[placement]() if isinstance(placement, str) else placement
