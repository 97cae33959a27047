"""NNI's training service, simulated: trials take no time but that of a clock of their own."""

from __future__ import annotations

import heapq
import itertools
from types import SimpleNamespace

import nni
from nni.nas.execution import ExecutionEngine, TrainingServiceExecutionEngine
from nni.nas.execution.event import IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from spaces import TinySpace, tiny_kernel

from nni_knas.engine.placement import Task
from nni_knas.engine.scorer import Scorer
from nni_knas.engine.trials import Trials


class Service(TrainingServiceExecutionEngine):
    """NNI's engine and manager with a clock of their own: a trial takes ``startup`` seconds, and ``cost`` a candidate.

    ``dies(chunk, number)`` says whether a trial dies over a candidate; ``dies(chunk, None)``, before it is up.
    """

    def __init__(self, concurrency=2, startup=6.0, cost=0.1, dies=lambda chunk, number: False, limit=None):
        ExecutionEngine.__init__(self)
        self.nodejs_binding = self
        self.startup, self.cost, self.dies = startup, cost, dies
        self.now, self.workers = 0.0, concurrency
        self.profile = {'params': {'trialConcurrency': concurrency, 'maxTrialNumber': limit}}
        self.status, self.port, self.url_prefix = 'RUNNING', 1, None
        self.chunks, self.sizes, self.jobs, self.metrics = [], [], [], {}
        self.scored = []
        self._agenda, self._order = [], itertools.count()
        self.config = SimpleNamespace(canonical_copy=lambda: SimpleNamespace(max_trial_duration=None))

    def submit_models(self, *models):
        for model in models:
            chunk = nni.load(nni.dump(model))  # what the trial gets
            self.chunks.append(chunk)
            self.sizes.append(len(chunk.tasks))
            self.workers -= 1
            self._run(model, chunk)

    def _run(self, model, chunk):
        time = self.now + self.startup * 0.8
        if self.dies(chunk, None):
            return self._at(time, TrainingEndEvent(model, ModelStatus.Failed))
        self._at(time, IntermediateMetricEvent(model, {'default': 0, 'best_kernel_score': chunk.best}))
        for scored, task in enumerate(chunk.tasks, start=1):
            time += self.cost
            if self.dies(chunk, task.number):
                return self._at(time, TrainingEndEvent(model, ModelStatus.Failed))
            report = {
                'default': scored,
                'best_kernel_score': None,
                'candidate': task.number,
                'kernel_score': score(task),
                'seconds': self.cost,
            }
            self.scored.append(task.number)
            self._at(time, IntermediateMetricEvent(model, report))
        self._at(time + self.startup * 0.2, TrainingEndEvent(model, ModelStatus.Trained))

    def _at(self, time, event):
        heapq.heappush(self._agenda, (time, next(self._order), event))

    def step(self):
        """The next event happens."""
        if not self._agenda:
            self.now += 1.0
            return
        self.now, _, event = heapq.heappop(self._agenda)
        if isinstance(event, TrainingEndEvent):
            self.workers += 1
        self.dispatch_model_event(event)

    def idle_worker_available(self):
        return self.workers > 0

    # The experiment.

    def get_experiment_profile(self):
        return self.profile

    def get_status(self):
        return self.status

    def list_trial_jobs(self):
        return self.jobs

    def get_job_metrics(self):
        return self.metrics


class Simulated(Trials):
    """The placement, with the clock of its service."""

    def _receive_events(self, wait=0.0):
        if wait:
            self._engine.step()
        return super()._receive_events()


def score(task):
    return task.number / 7 + (100 if task.quick else 0)


def tiny_scorer(**options):
    return Scorer(tiny_kernel(**options), SimplifiedModelSpace.from_model(TinySpace()))


def search(placement, count, first=1, quick=False):
    """Score as many candidates as an engine does whose explorer always has one; gives the verdicts by number."""
    verdicts, held, numbers = {}, 0, iter(range(first, first + count))
    while True:
        while held < placement.ahead and (number := next(numbers, None)) is not None:
            placement.put(Task(number, {'n': number}, quick))
            held += 1
        if held < placement.ahead:
            placement.flush()
        if not held:
            return verdicts
        for task, verdict in placement.get():
            assert task.number not in verdicts and task.quick == quick
            verdicts[task.number] = verdict
            held -= 1
