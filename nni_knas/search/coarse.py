"""The coarse stage: explore a space by scores, into a record, and choose the best of them for training."""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import GridSearch
from nni.nas.strategy.base import Strategy
from tqdm import tqdm

from nni_knas.engine import InProcess, Placement, Scorer, ScoringEngine, Trials, Workers, gpus
from nni_knas.gradients import seeded
from nni_knas.kernel import GradientKernelEvaluator
from nni_knas.networks import hyper_parameters_of
from nni_knas.record import Record, Status, keys, near_of, set_near
from nni_knas.runs import search_scalars
from nni_knas.search.explorers import (
    Checkpoints,
    check_space,
    check_unused,
    explorer_state,
    farthest_ahead,
    learns,
    no_pauses,
    restore_explorer,
    space_size,
)
from nni_knas.search.fit import check_fit
from nni_knas.search.near import outstanding, plan_near, score_near
from nni_knas.search.request import SearchRequest

__all__ = ['CoarseStage']

_logger = logging.getLogger(__name__)
_said = logging.getLogger('nni.knas')

PLACES: dict[str, Callable[[], Placement]] = {'process': InProcess, 'workers': Workers, 'gpus': gpus, 'trials': Trials}
"""The places where candidates are scored, by name."""


class CoarseStage:
    """Have an explorer explore a space against an engine that scores; results are in the record the moment they are known.

    What the record has already is not scored again: a run that was interrupted goes on where it stood.

    Parameters
    ----------
    kernel
        The kernel that scores the candidates.
    space
        The model space.
    record
        The run's record.
    explorer
        The NNI strategy that explores, not used before.
    request
        What the search is asked for.
    deadline
        ``time.monotonic()`` after which no candidate is scored.

    Raises
    ------
    ValueError
        If the record is of a run with other settings, whose scores would not compare, or space and minibatch do not fit.
    """

    def __init__(
        self,
        kernel: GradientKernelEvaluator,
        space: ExecutableModelSpace,
        record: Record,
        explorer: Strategy,
        request: SearchRequest,
        *,
        deadline: float = math.inf,
    ) -> None:
        self.kernel = kernel
        self.space = space
        self.record = record
        self.explorer = explorer
        self.request = request
        self._stopped = False
        self._near: ScoringEngine | None = None
        self._check_settings()
        scorer = Scorer(
            kernel,
            space,
            hyper_parameters_of(space),
            merge_identical=request.merge_identical,
            constraints=request.constraints,
            costs=(request.front,) if request.front else (),
        )
        size = space_size(space, request.candidates)
        # Where the space has no more than are asked for, the explorer scores all of them.
        plan_near(record, request.near_best if size >= request.candidates else 0)
        self._explored = request.candidates - outstanding(record)
        quick = self._begins_quickly(scorer, min(size, self._explored))
        self.scoring = self._scoring_engine(scorer, quick, deadline)
        self._prepare_explorer(size)

    # Before the run.

    def _check_settings(self) -> None:
        """Scores compare only with scores of the same kernel on the same minibatch, of candidates under the same bounds."""
        settings = {**self.kernel.settings(), 'constraints': dict(self.request.constraints), 'front': self.request.front}
        before = self.record.get_meta(keys.KERNEL)
        if before is not None and len(self.record):
            changed = [name for name, value in json.loads(before).items() if settings.get(name) != value]
            if changed:
                raise ValueError(
                    f'this run cannot be taken up with another kernel, its scores would not compare: '
                    f'{", ".join(changed)} differ from what the run began with'
                )
        self.record.set_meta(keys.KERNEL, json.dumps(settings))

    def _begins_quickly(self, scorer: Scorer, count: float) -> bool:
        """Whether candidates are scored quickly at first. A resumed run goes on as it began."""
        before = self.record.get_meta(keys.EFFORT)
        if len(self.record) and before is not None:
            if before == 'adaptive' and self.request.effort == 'full':
                raise ValueError('this run cannot be taken up with effort="full", since it began with "adaptive"')
            return bool(before == 'adaptive')
        fits = check_fit(scorer)
        # On a front there are candidates of low scores, which adaptive effort would not score in full.
        asked = self.request
        quick = (
            asked.effort == 'adaptive'
            and asked.front is None
            and asked.top_k > 0
            and count >= max(100, 4 * asked.top_k)
            and fits
            and self.kernel.quick() is not None
        )
        self.record.set_meta(keys.EFFORT, 'adaptive' if quick else 'full')
        return quick

    def _scoring_engine(self, scorer: Scorer, quick: bool, deadline: float) -> ScoringEngine:
        """A resumed run is as far ahead as it was, wherever it goes on, since the exploration depends on that."""
        place = self._placement()
        least = max(ScoringEngine.least_ahead, place.ahead, self.kernel.together)
        ahead = self.request.ahead or self.record.get_meta(keys.AHEAD) or least
        ahead = int(min(ahead, farthest_ahead(self.explorer)))
        engine = ScoringEngine(scorer, self.record, self._explored, place, ahead=ahead, deadline=deadline, quick=quick)
        self.record.set_meta(keys.AHEAD, engine.ahead)
        engine.elastic = not learns(self.explorer)
        return engine

    def _placement(self) -> Placement:
        place = self.request.place()
        return PLACES[place]() if isinstance(place, str) else place

    def _prepare_explorer(self, size: float) -> None:
        if size < self.request.candidates:
            warnings.warn(
                f'the space has only {size} candidates, fewer than the {self.request.candidates} asked for: '
                'all of them are scored',
                stacklevel=1,
            )
            self.explorer = GridSearch(shuffle=False)
        check_unused(self.explorer)
        check_space(self.explorer, self.space)
        with seeded(self.kernel.seed):
            self.explorer.initialize(self.space, self.scoring)
        # A resumed run explores again from where it began; what is in the record costs nothing. For that the explorer
        # has to begin in the state that it began with, whatever its own seed.
        name = f'{keys.BEGINNING}{type(self.explorer).__name__}'
        before, now = self.record.get_meta(name), explorer_state(self.explorer)
        if before is not None:
            restore_explorer(self.explorer, before)
        elif now is not None:
            self.record.set_meta(name, now)

    @staticmethod
    def forget_exploration(record: Record) -> None:
        """Have the next exploration of a record begin anew, in another space; what is scored stays known."""
        for prefix in (keys.BEGINNING, keys.CHECKPOINT, keys.FINISHED, keys.BATCH, keys.NEAR):
            record.forget_meta(prefix)

    # The run.

    def run(self, engine: ExecutionEngine | None = None) -> None:
        """Explore and score, until the budget or the time is over.

        Parameters
        ----------
        engine
            The experiment's own engine, for placements that run on it.

        Raises
        ------
        RuntimeError
            If no candidate could be scored; it says why.
        """
        record, scoring = self.record, self.scoring
        unfinished = scoring.quick and (record.get_meta(keys.FINISHED) or 0) < self.request.top_k
        with search_scalars(record):  # a run that was killed may lack its last ones, even if all is scored
            if scoring.budget_available() or unfinished:
                with scoring.opened(engine), seeded(self.kernel.seed), no_pauses():
                    self._run_explorer()
                    if scoring.quick and self.request.top_k:
                        scoring.finish(self.request.top_k)
        if self._stopped:
            return
        total, failed, filtered = record.counted(), record.count(Status.FAILED), record.count(Status.FILTERED)
        asked = self.request
        if time.monotonic() >= scoring.deadline:
            if total < self._explored:
                _logger.warning("The experiment's time was over after scoring %d of %d candidates.", total, self._explored)
            elif unfinished:
                _logger.warning(
                    "The experiment's time was over before all that may be among the best %d had a full score.", asked.top_k
                )
        elif scoring.quick:
            record.set_meta(keys.FINISHED, asked.top_k)
        if not record.best(1):
            raise RuntimeError(f'none of the {total + filtered} candidates could be scored; {self._why_none()}')
        _logger.info('Scored %d candidates, %d failed, %d did not meet the constraints.', total - failed, failed, filtered)
        lacking = record.without_panel()
        if lacking is not None:
            _logger.warning('%d scored candidates have no panel of statistics; the most frequent reason: %s', *lacking)

    def score_in_full(self, number: int) -> None:
        """Score a candidate that has a quick score alone in full, in this process; the record has what comes of it."""
        row, scorer = self.record.get(number), self.scoring.scorer
        verdict = scorer.score(row.sample, measured=row.costs.keys() >= set(scorer.costs))
        self.record.rate(number, verdict.score, verdict.reason, verdict.seconds, verdict.panel)
        self.record.add_scoring_seconds(verdict.seconds)

    def score_near(self, parents: Sequence[int]) -> None:
        """Draw candidates near others, and score them as the explorer's; see :attr:`SearchRequest.near_best`.

        They are scored where the explorer's were, but for a placement in trials or one of the user's own: in this process
        then, since trials are there to train by now.

        Parameters
        ----------
        parents
            The numbers of those near which they are drawn, unless the record has them from before a restart.
        """
        record, near = self.record, near_of(self.record)
        assert near is not None
        if not near.parents:
            set_near(record, near._replace(first=len(record), parents=tuple(parents)))
        self._near = engine = self._engine_near()
        if self._stopped:
            return
        with search_scalars(record), engine.opened(self.scoring), seeded(self.kernel.seed):
            self._score_near(engine)
        if not engine.over:
            self._end_near()

    def _engine_near(self) -> ScoringEngine:
        """An engine of their own, since the explorer's tells the explorer of all that it scores."""
        explored, place = self.scoring, self._placement()
        place = place if isinstance(place, InProcess | Workers) else InProcess()
        ahead, deadline, quick = max(explored.ahead, place.ahead), explored.deadline, explored.quick
        return ScoringEngine(
            explored.scorer, self.record, self.request.candidates, place, ahead=ahead, deadline=deadline, quick=quick
        )

    def _score_near(self, engine: ScoringEngine) -> None:
        missing = outstanding(self.record)
        with tqdm(desc='Scoring near the best', total=missing, unit='candidate', disable=None) as engine.bar:
            score_near(engine, self.request.candidates, self.kernel.seed)
        engine.bar = None
        if engine.quick and not engine.over:
            engine.finish(self.request.top_k)

    def _end_near(self) -> None:
        near = near_of(self.record)
        assert near is not None
        set_near(self.record, near._replace(over=True))
        if near.samples:
            _said.info('Scored %d candidates near the best that were known.', len(near.samples))
        else:
            _said.info('There was no new candidate to score near the best.')

    def stop(self) -> None:
        """Called by another thread: score no more, so that :meth:`run` and :meth:`score_near` return soon."""
        self._stopped = True
        for scoring in (self.scoring, self._near):
            if scoring is not None:
                scoring.deadline = -math.inf

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    def _why_none(self) -> str:
        said = self.record.frequent_reason(Status.FAILED)
        if said is not None:
            return f'the most frequent reason ({said[1]} of {self.record.counted()}): {said[0]}'
        said = self.record.frequent_reason(Status.FILTERED)
        if said is not None:
            return f'all cost more than the constraints allow, for example: {said[0]}'
        return 'the explorer gave no candidate in time'

    def _run_explorer(self) -> None:
        scoring = self.scoring
        with tqdm(
            total=self._explored,
            initial=min(self.record.counted(), self._explored),
            desc='Scoring',
            unit='candidate',
            disable=None,
        ) as scoring.bar:
            if scoring.budget_available():
                checkpoints = Checkpoints(self.explorer, scoring, self.record)
                checkpoints.restore()
                scoring.after_submission = checkpoints
                self.explorer.run()
                scoring.wait_models()
        scoring.bar = None
