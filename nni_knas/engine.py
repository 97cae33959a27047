"""NNI execution engine of the coarse stage: it scores models instead of training them, in this process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from tqdm import tqdm

from nni_knas.candidates import architecture_of, build_network, encode_sample
from nni_knas.evaluator import GradientKernelEvaluator
from nni_knas.record import Candidate, Record, reason_of

__all__ = ['ScoringEngine']

_logger = logging.getLogger(__name__)


class ScoringEngine(ExecutionEngine):
    """Score each submitted model at once, and report the score to the strategy as its final metric.

    A model that is in the record already is answered from there: nothing is scored twice, neither in a run nor after a
    restart. A model that cannot be scored ends as failed, without a metric, and the exploration goes on.

    Parameters
    ----------
    kernel
        Scores the networks.
    record
        Receives each candidate as soon as its score is known.
    candidates
        The budget: number of different candidates in the record, failed ones included.
    hyper_parameters
        Labels in the samples that belong to the evaluator. Candidates that differ in them alone are the same network and
        share one score.
    deadline
        ``time.monotonic()`` at which the budget ends, if any.
    """

    patience = 500
    """How many known candidates in a row an explorer may submit before it counts as having nothing new."""

    def __init__(self, kernel: GradientKernelEvaluator, record: Record, candidates: int, *,
                 hyper_parameters: Collection[str] = (), deadline: float = math.inf) -> None:
        super().__init__()
        self.kernel = kernel
        self.record = record
        self.hyper_parameters = hyper_parameters
        self.deadline = deadline
        self.bar: tqdm | None = None
        self._left = candidates - len(record)
        self._best = record.best_score()
        self._known_in_a_row = 0
        self._known_at_start = len(record)

    def submit_models(self, *models: ExecutableModelSpace) -> None:
        for model in models:
            assert model.sample is not None
            model.status = ModelStatus.Training
            candidate = self.record.find(model.sample)
            if candidate is None:
                candidate = self._score(model)
                self._left -= 1
                self._known_in_a_row = 0
                self._show_progress(candidate)
            else:
                self._known_in_a_row += 1
            if candidate.score is not None:
                self.dispatch_model_event(FinalMetricEvent(model, candidate.score))
            self.dispatch_model_event(TrainingEndEvent(
                model, ModelStatus.Failed if candidate.score is None else ModelStatus.Trained))

    def _score(self, model: ExecutableModelSpace) -> Candidate:
        assert model.sample is not None
        architecture = encode_sample(architecture_of(model.sample, self.hyper_parameters))
        start = time.perf_counter()
        twin = self.record.find_architecture(architecture) if self.hyper_parameters else None
        if twin is not None:
            score, reason = twin.score, twin.reason if twin.score is None else None
        else:
            score, reason = self._judge(model)
        seconds = time.perf_counter() - start
        if score is not None:
            return self.record.add_scored(model.sample, architecture, score, seconds)
        _logger.info('Candidate failed: %s. Sample: %s', reason, model.sample)
        return self.record.add_failed(model.sample, architecture, reason or 'no score', seconds)

    def _judge(self, model: ExecutableModelSpace) -> tuple[float | None, str | None]:
        """The score, or the reason why there is none."""
        try:
            score = self.kernel.score(build_network(model, self.kernel.seed, self.hyper_parameters))
        except Exception as error:
            return None, reason_of(error)
        return (score, None) if math.isfinite(score) else (None, f'the score is {score}')

    def _show_progress(self, candidate: Candidate) -> None:
        if candidate.score is not None:
            self._best = max(candidate.score, self._best if self._best is not None else -math.inf)
        if self.bar is not None:
            if self._best is not None:
                self.bar.set_postfix_str(f'best {self._best:.4g}', refresh=False)
            self.bar.update()

    def budget_available(self) -> bool:
        return (self._left > 0 and time.monotonic() < self.deadline
                and self._known_in_a_row < self.patience + self._known_at_start)

    def idle_worker_available(self) -> bool:
        return True

    def wait_models(self, *models: ExecutableModelSpace) -> None:
        """Nothing to wait for: models are scored when they are submitted."""

    def list_models(self, status: ModelStatus | None = None) -> Iterable[ExecutableModelSpace]:
        """Models are not kept: their scores are in the record."""
        return []

    def shutdown(self) -> None:
        """Nothing to stop."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        """The record is the state."""
