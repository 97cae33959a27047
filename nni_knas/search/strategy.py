"""KNAS: explore a space by scores (coarse stage), then train the best with NNI (fine stage)."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from nni.nas.evaluator import Evaluator
from nni.nas.execution import ExecutionEngine
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from nni.nas.strategy import Random
from nni.nas.strategy.base import Strategy

from nni_knas.basics.harmless import Harmless
from nni_knas.basics.periodic import repeated
from nni_knas.bridge.experiment import UNNAMED, calling_experiment, experiment_folder, is_local, max_duration, max_trials
from nni_knas.bridge.machines import MachineNews, is_fetched, shared_folder
from nni_knas.bridge.portal import progress_path, write_portal_page
from nni_knas.data import check_same_data, digests_of
from nni_knas.engine import Placement, Scorer
from nni_knas.footprint import Meter
from nni_knas.kernel import GradientKernelEvaluator, loss_in_words
from nni_knas.networks import describe_inputs
from nni_knas.plots import number_text, strategy_html
from nni_knas.record import Record, Status, keys, record_path, weights_path
from nni_knas.runs import (
    Run,
    check_idle,
    dump_space,
    failures_recorded,
    fine_scalars,
    kept_result,
    progress_shown,
    report_seconds,
    restore_model,
    session,
    worked_seconds,
)
from nni_knas.search.choosing import Chooser, chooser_of
from nni_knas.search.coarse import CoarseStage
from nni_knas.search.evaluators import metric_of, optimize_mode_of, warn_of_error
from nni_knas.search.explorers import check_space, checked_explorer, farthest_ahead
from nni_knas.search.fine import FineStage
from nni_knas.search.fit import check_fit
from nni_knas.search.request import Choose, Effort, OptimizeMode, SearchRequest

__all__ = ['KNAS']

_logger = logging.getLogger(__name__)


class KNAS(Strategy):
    """Search without training: score many candidates by their gradients, train only a few.

    In the coarse stage an NNI strategy, the *explorer*, explores the space against an engine that scores instead of
    training, in this process or in others. In the fine stage ``top_k`` of them go to the experiment's own engine, with the
    experiment's own evaluator, as trials like any other.

    Every candidate and every result is in the run's record the moment it is known (``knas/record.sqlite`` in the
    experiment's directory). ``experiment.resume`` takes up where a run stood: nothing that was scored is scored again,
    and nothing that was trained is trained again.

    Parameters
    ----------
    kernel
        The kernel that scores the candidates.
    candidates
        How many different candidates to score. Where the space has fewer, all of them are.
    top_k
        How many to train; 0 stops after scoring.
    explorer
        Any NNI multi-trial strategy, new and not used elsewhere. Default: ``Random`` by the kernel's seed. A tuner in it
        (``TPE``) is set to maximise, since higher scores are better. One that waits for a model's result calls
        ``engine.wait_models(model)``.
    choose
        How those that are trained are chosen, one after the other, whenever a trial can be begun. ``'rank'``: the ``top_k``
        by score. ``'learn'``: the first by score, and each other one by what a :class:`~nni_knas.Learner` makes of the
        metrics until then: it finds out which statistics of the panel and which choices count on this space. The same
        seed gives the same choices, if one is trained at a time.
    stop_when
        With ``'learn'``: train no more when the chance that a better one is among those not trained is below this, such
        as 0.05. Default: all ``top_k`` are trained.
    near_best
        With ``'learn'``: so many of the ``candidates`` are not drawn by the explorer but later, near the best: when 0.4 of
        the ``top_k`` (3 at least, and with metrics that differ) have been trained. Each is one of the ten of which most is
        expected then with one choice changed, or more where there are no others. They are scored as all others, and the
        learner goes on with them. It takes a ``top_k`` of 4 or more. Default: the explorer draws all.
    record
        File of the record, for use without an experiment, or to keep the record elsewhere.
    keep_weights
        Keep the trained weights of the fine stage in the experiment's directory, where :func:`nni_knas.open_run` finds
        them.
    placement
        The place where candidates are scored: ``'process'``, in this process; ``'workers'``, in processes of this machine;
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
        may still be among the ``top_k``, of which 1 % are missed by expectation (:class:`nni_knas.engine.Race`). The others
        keep their quick score in a column of its own and rank behind. It takes 100 candidates, and four for each of the
        ``top_k``, to be worth it; with fewer, and with ``'full'``, each candidate is scored in full.
    merge_identical
        Recognise candidates that compute the same, whatever their labels (:class:`nni_knas.networks.Identity`), and score
        each network once. Telling networks apart costs about a fifth of a full score, and more than a quick one: it pays
        with ``effort='full'``.
    constraints
        Largest costs that a candidate may have, by name (:data:`nni_knas.networks.COSTS`): ``'parameters'`` (their number),
        ``'flops'`` (of a forward pass of one sample), ``'memory'`` (its peak, in bytes) and ``'latency'`` (its time on the
        kernel's device, in seconds). A candidate that costs more is recorded as filtered and neither scored nor counted
        among the ``candidates``. Costs are those of the inputs that candidates are scored on, at the kernel's
        ``resolution``.
    front
        Name of a cost. It is measured of all candidates, and the ``top_k`` are taken from the Pareto front of score
        against this cost instead of by score alone; see :meth:`pareto`. All candidates are scored in full then. What is
        learnt says in which order they are trained.
    optimize_mode
        Whether the metric of training is to be maximised or minimised: ``'maximize'`` or ``'minimize'``. (Higher scores are
        better in any case.) Default: what the evaluator's metric asks for where that is known, as of NNI's ``Regression``,
        and else ``'maximize'``.
    country
        The country that the energy comes from, as ISO 3166 code of three letters (``'DEU'``), for its
        CO2-equivalent. Default: the country of codecarbon's configuration, or else of the locale.

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

    def __init__(
        self,
        kernel: GradientKernelEvaluator,
        candidates: int = SearchRequest.candidates,
        top_k: int = SearchRequest.top_k,
        explorer: Strategy | None = None,
        *,
        choose: Choose = SearchRequest.choose,
        stop_when: float | None = SearchRequest.stop_when,
        near_best: int = SearchRequest.near_best,
        record: str | Path | None = None,
        keep_weights: bool = SearchRequest.keep_weights,
        placement: str | Placement = SearchRequest.placement,
        workers: int | None = SearchRequest.workers,
        ahead: int | None = SearchRequest.ahead,
        effort: Effort = SearchRequest.effort,
        merge_identical: bool = SearchRequest.merge_identical,
        constraints: Mapping[str, float] | None = None,
        front: str | None = SearchRequest.front,
        optimize_mode: OptimizeMode | None = SearchRequest.optimize_mode,
        country: str | None = SearchRequest.country,
    ) -> None:
        super().__init__()
        if not isinstance(kernel, GradientKernelEvaluator):
            raise TypeError(f'kernel has to be a GradientKernelEvaluator, not {type(kernel).__name__}')
        self.request = SearchRequest(
            candidates=candidates,
            top_k=top_k,
            choose=choose,
            stop_when=stop_when,
            near_best=near_best,
            placement=placement,
            workers=workers,
            ahead=ahead,
            effort=effort,
            merge_identical=merge_identical,
            constraints=constraints or {},
            front=front,
            optimize_mode=optimize_mode,
            country=country,
            keep_weights=keep_weights,
        )
        self.placement = self.request.place()
        self.kernel = kernel
        if isinstance(explorer, KNAS):
            raise ValueError('KNAS cannot explore for KNAS: give a multi-trial strategy such as RegularizedEvolution()')
        self.explorer = checked_explorer(explorer) if explorer is not None else Random(dedup=False, seed=kernel.seed)
        if ahead is not None and ahead > farthest_ahead(self.explorer):
            raise ValueError(
                f"ahead={ahead} is more than the explorer's population_size={self.explorer.population_size}: "
                'it could not choose a parent'
            )
        self._record_path = Path(record) if record is not None else None
        self._record: Record | None = None
        self._folder: Path | None = None
        self._experiment_name: str | None = None
        self._model_space: ExecutableModelSpace | None = None
        self._optimize_mode = optimize_mode_of(None, optimize_mode)
        self._coarse: CoarseStage | None = None
        self._fine: FineStage | None = None
        self._harmless = Harmless('The report will have no drawing, since the network could not be built again.')

    @property
    def candidates(self) -> int:
        """How many different candidates to score."""
        return self.request.candidates

    @property
    def top_k(self) -> int:
        """How many of the best to train."""
        return self.request.top_k

    def extra_repr(self) -> str:
        """What is said of it where NNI prints it."""
        return (
            f'kernel={self.kernel!r}, candidates={self.request.candidates}, top_k={self.request.top_k}, '
            f'explorer={self.explorer!r}, placement={self.placement!r}'
        )

    def _repr_html_(self) -> str:
        """How a notebook shows it: its settings, how far it is, the best so far."""
        try:
            run = self.open_run()
        except RuntimeError:  # it has not run yet
            run = None
        return strategy_html(self._shown(), run)

    def _shown(self) -> dict[str, str]:
        kernel, request = self.kernel, self.request
        return {
            'score': f'{kernel.score_function.name}, on {kernel.batch_size} samples, seed {kernel.seed}, {kernel.device}',
            'explorer': repr(self.explorer),
            'candidates': f'{request.candidates:,}{_near_in_words(request)}, of which {_trained_in_words(request)}',
            'constraints': ', '.join(f'{name} at most {number_text(most)}' for name, most in request.constraints.items()),
            'chosen from': f'the Pareto front of score and {request.front}' if request.front else '',
            'placement': str(self.placement),
        }

    def open_run(self) -> Run:
        """The run of this strategy, finished or not.

        Raises
        ------
        RuntimeError
            If it has not run yet.
        """
        record = self._opened_record()
        return Run(self._folder or (record.path.parent.parent if record.path is not None else Path('unsaved')), record)

    def scores(self, *, all: bool = False, panel: bool = False) -> pd.DataFrame:
        """All candidates so far, best first, failed ones last; the index is the rank by score.

        Parameters
        ----------
        all
            Give all columns of :meth:`nni_knas.record.Record.frame`, instead of score, metric, architecture and status.
        panel
            Add the panel, a column a statistic, ``nan`` where a candidate has none; see
            :meth:`GradientKernelEvaluator.statistics` and :meth:`nni_knas.runs.Run.scores`.
        """
        return self.open_run().scores(all=all, panel=panel)

    def pareto(self, cost: str | None = None, *, all: bool = False) -> pd.DataFrame:
        """The candidates that no other one beats in both score and cost; see :func:`nni_knas.runs.selection.pareto_front`.

        Parameters
        ----------
        cost
            Name of the cost. Default: that of ``front``, and else the number of parameters.
        all
            Give all columns of :meth:`nni_knas.record.Record.frame`, instead of score, metric, this cost, architecture and
            status.
        """
        return self.open_run().pareto(cost or self.request.front, all=all)

    def list_models(self, sort: bool = True, limit: int | None = None) -> Iterator[ExecutableModelSpace]:
        """The trained models, best metric first (the lowest, where it is minimised); after the experiment, too.

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

    def state_dict(self) -> dict[str, Any]:
        """Empty: the state of a run is its record."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load: the record was opened when the strategy was initialised."""

    # Before the run.

    def check_start(self, folder: Path | None) -> None:
        """Check that the run in an experiment's folder can begin or go on, before anything is written or stopped.

        An experiment calls it before its manager starts, if ``nni_knas`` has been imported. Where all is well, our page of
        its portal is there from then on.

        Raises
        ------
        ValueError
            If another process is at work on it; or if its record is damaged.
        """
        path = self._record_path or (record_path(folder) if folder is not None else None)
        if path is not None:
            check_idle(path)
        if folder is not None:  # before NNI's manager is there, so that its page is
            progress_path(folder).unlink(missing_ok=True)
            write_portal_page(folder)

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        experiment = calling_experiment()
        self.check_start(experiment_folder(experiment) if experiment is not None else None)
        if experiment is not None:
            self._folder = experiment_folder(experiment)
            name = experiment.config.experiment_name
            self._experiment_name = name if name != UNNAMED else None
        self._record = Record(self._record_path or (record_path(self._folder) if self._folder else None))
        # A run that is resumed has used up a part of its time.
        left = max_duration(experiment) - worked_seconds(self._record)
        self._record.set_meta(keys.DEADLINE, 0.0 if math.isinf(left) else time.time() + left)
        deadline = time.monotonic() + left
        # A run that was there before has not failed by a mistake in taking it up.
        with contextlib.nullcontext() if self._record.sessions() else failures_recorded(self._record):
            self._coarse = self.coarse_stage(model_space, self._record, deadline)
        self._fine = FineStage(
            model_space,
            engine,
            self._record,
            folder=self._folder,
            keep_weights=self.request.keep_weights,
            max_trials=max_trials(experiment),
            deadline=deadline,
            local=is_local(experiment),
            fetched=is_fetched(experiment),
            shared=shared_folder(experiment),
        )
        return model_space

    def check(self, space: ModelSpace, evaluator: Evaluator | None = None) -> None:
        """Check a space before an experiment is begun, which would start NNI's manager first.

        Parameters
        ----------
        space
            The model space.
        evaluator
            What trains the best, which says what the loss is.

        Raises
        ------
        ValueError
            If the explorer does not know its kind of choices, or its networks do not take the kernel's minibatch.
        """
        candidates = SimplifiedModelSpace.from_model(space)
        check_space(self.explorer, candidates)
        check_fit(Scorer(self.kernel.for_evaluator(evaluator), candidates))

    def coarse_stage(
        self, space: ExecutableModelSpace, record: Record, deadline: float = math.inf, *, evaluator: Any = None
    ) -> CoarseStage:
        """The coarse stage of a search of this strategy, for use without an experiment.

        Parameters
        ----------
        space
            The model space.
        record
            Receives the candidates; what it has already is not scored again.
        deadline
            ``time.monotonic()`` after which no candidate is scored.
        evaluator
            What trains the best, which says what the loss is and whether its metric is an error. Default: the space's.
        """
        evaluator = evaluator or space.evaluator
        kernel = self.kernel
        self.kernel = kernel.for_evaluator(evaluator)
        if self.kernel is not kernel and self.kernel.used_loss is not None:
            _logger.info(
                'Networks are scored by the %s, by which the evaluator trains.', loss_in_words(self.kernel.used_loss)
            )
        self._optimize_mode = optimize_mode_of(evaluator, self.request.optimize_mode)
        if len(record):
            check_same_data(record.digests(), evaluator)
        stage = CoarseStage(self.kernel, space, record, self.explorer, self.request, deadline=deadline)
        self.explorer = stage.explorer
        record.set_meta(keys.SPACE, dump_space(space))
        record.set_meta(keys.DATA, json.dumps(digests_of(evaluator)))
        record.set_meta(keys.OPTIMIZE_MODE, self._optimize_mode)
        record.set_meta(keys.FRONT, self.request.front or '')
        record.set_meta(keys.TOP_K, self.request.top_k)
        record.set_meta(keys.EXAMPLE, describe_inputs(self.kernel.example()))
        return stage

    def _cleanup(self) -> None:
        if self._fine is not None:
            self._fine.close()

    # The run.

    def _run(self) -> None:
        assert self._coarse is not None and self._fine is not None
        record = self._coarse.record
        record.set_meta(keys.METRIC, metric_of(self._fine.space.evaluator))
        shown = progress_shown(record, self._folder, self.request.candidates, self.request.top_k)
        with shown, session(record, self.asked(), name=self._experiment_name, country=self.request.country) as meter:
            with self._machines_watched(), failures_recorded(record):
                self._run_stages(record, meter)
            record.set_meta(keys.LIMIT, self._limit_reached())
            record.set_meta(keys.COMPLETE, 1)
            with self._harmless():
                self.open_run().prepare_report(report_seconds(record))
        logging.getLogger('nni.knas').info('Energy: %s.', record.get_meta(keys.STATEMENT))  # NNI shows it, unless silenced

    def _machines_watched(self) -> contextlib.AbstractContextManager[None]:
        """What becomes of the machines of NNI's remote service is told while the context lasts."""
        if self._folder is None or self._fine is None or not self._fine.fetched:
            return contextlib.nullcontext()
        return repeated(MachineNews(self._folder).tell, 2.0, last=True)

    def _run_stages(self, record: Record, meter: Meter) -> None:
        assert self._coarse is not None and self._fine is not None
        with meter.stage('coarse'):
            self._coarse.run(self._fine.engine)
        if self.request.top_k:
            with meter.stage('fine'), fine_scalars(record):
                self._fine.run(functools.partial(self._chooser, meter), meter)
                self._check_reported_metric()

    def _chooser(self, meter: Meter) -> Chooser:
        coarse = self._coarse
        assert coarse is not None

        def score_near(parents: list[int]) -> None:
            with meter.stage('coarse'):
                coarse.score_near(parents)

        return chooser_of(coarse.record, self.request, score_in_full=coarse.score_in_full, score_near=score_near)

    def _limit_reached(self) -> str:
        """The name of the experiment's limit that ended the run before its own end; empty where none did."""
        assert self._coarse is not None and self._fine is not None
        record, fine = self._coarse.record, self._fine
        if time.monotonic() >= fine.deadline:
            return 'max_experiment_duration'
        trained = record.count(Status.TRAINED, Status.TRAINING_FAILED)
        return 'max_trial_number' if fine.max_trials <= trained < min(self.request.top_k, record.scored()) else ''

    def _check_reported_metric(self) -> None:
        trained = self._opened_record().trained()
        result = kept_result(self._folder, trained[0].id) if trained else None
        if result is not None and self._optimize_mode == 'maximize':
            warn_of_error(result.metric, result.metrics)

    def asked(self) -> dict[str, Any]:
        """What this strategy was asked for, as a record or a page can tell it."""
        kernel = self.kernel
        space = self._fine.space if self._fine is not None else None
        return {
            'space': _name_of(getattr(space, 'model_space', None) or getattr(space, 'model', None)),
            'data': _name_of(kernel.dataset),
            **kernel.settings(),
            'batch_size': kernel.batch_size,
            'device': str(kernel.device),
            **self.request.fields(),
            'optimize_mode': self._optimize_mode,
            'placement': str(self.placement),
            'explorer': repr(self.explorer),
            'evaluator': _name_of(getattr(space, 'evaluator', None)),
        }

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


def _trained_in_words(request: SearchRequest) -> str:
    if request.choose == 'learn':
        return f'{request.top_k:,} are trained, chosen by what is learnt'
    return f'the best {request.top_k:,} are trained'


def _near_in_words(request: SearchRequest) -> str:
    return f' ({request.near_best:,} of them near the best)' if request.near_best else ''


def _name_of(thing: Any) -> str | None:
    """A space, data or an evaluator as short text: the class, and what it was made from where NNI knows that."""
    if thing is None:
        return None
    if isinstance(thing, tuple):
        return f'({", ".join(type(part).__name__ for part in thing)})'
    symbol = getattr(thing, 'trace_symbol', None) or type(thing)
    function = getattr(thing, 'function', None)
    if function is not None:
        return f'{symbol.__name__}({getattr(function, "__name__", function)})'
    arguments = ', '.join(
        f'{name}={value!r}'
        for name, value in getattr(thing, 'trace_kwargs', {}).items()
        if isinstance(value, (int, float, str, bool, type(None), tuple, list))
    )
    return f'{symbol.__name__}({arguments})' if len(arguments) < 500 else symbol.__name__
