"""The placement in NNI's trials: first its decisions, on a simulated training service; then on real ones."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import nni
import numpy as np
import portal
import psutil
import pytest
from nni.experiment.config import RemoteConfig, RemoteMachineConfig
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import ExecutionEngine, SequentialExecutionEngine, TrainingServiceExecutionEngine
from nni.nas.execution.event import IntermediateMetricEvent, TrainingEndEvent
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from nni.nas.strategy import RegularizedEvolution
from places import HELPERS
from processes import Forked
from servers import free_port, wait_until
from spaces import Digits, LoggedMGM, TinySpace, lines, tiny_kernel, train
from sshd import ssh_server

import nni_knas.bridge.experiment as experiment_module
import nni_knas.engine.trials as trials_module
from nni_knas import KNAS, open_run
from nni_knas.engine import ScoringEngine
from nni_knas.engine.placement import Task
from nni_knas.engine.scorer import Scorer, Verdict
from nni_knas.engine.trials import Chunk, Pace, Trials
from nni_knas.networks.candidates import encode_sample
from nni_knas.record import Record


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
            report = {'default': scored, 'best_kernel_score': None, 'candidate': task.number, 'kernel_score': score(task),
                      'seconds': self.cost}
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

    def _hear(self, wait=0.0):
        if wait:
            self._engine.step()
        return super()._hear()


def score(task):
    return task.number / 7 + (100 if task.quick else 0)


@pytest.fixture
def simulate(monkeypatch):
    """Start a placement on a simulated service."""

    def simulate(service, **options):
        monkeypatch.setattr(trials_module, 'time', SimpleNamespace(monotonic=lambda: service.now))
        monkeypatch.setattr(experiment_module, 'rest', SimpleNamespace(put=lambda *arguments: None))
        placement = Simulated(**options)
        placement.start(tiny_scorer(), service)
        return placement

    return simulate


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


def test_each_candidate_gets_its_verdict(simulate):
    service = Service()
    verdicts = search(simulate(service), 300)
    assert {number: verdict.score for number, verdict in verdicts.items()} == {n: n / 7 for n in range(1, 301)}
    assert sorted(service.scored) == list(range(1, 301))


@pytest.mark.parametrize('window', [1, 5, 16])
def test_explorer_that_waits_for_results(simulate, window):
    """It gives no more candidates than so many ahead of the oldest that has no result yet."""
    service = Service(startup=6.0, cost=0.1)
    placement = simulate(service)
    known, oldest, number = set(), 1, 0
    while oldest <= 100:
        while number < min(100, oldest + window - 1):
            number += 1
            placement.put(Task(number, {'n': number}))
        if number == 100:
            placement.flush()
        known.update(task.number for task, _ in placement.get())
        while oldest in known:
            oldest += 1
    assert known == set(range(1, 101))
    assert len(service.sizes) <= 2 + 100 / max(1, window // 2)  # each trial gets its part of those there are


def test_few_candidates_are_not_spread_over_many_trials(simulate):
    """The first chunks are to measure; the rest is shared, so that both trials end at the same time."""
    service = Service(startup=6.0, cost=0.1)
    search(simulate(service), 300)
    assert service.sizes[:2] == [4, 4] and len(service.sizes) == 4
    assert service.sizes[2] == pytest.approx(service.sizes[3], abs=5)


@pytest.mark.parametrize('cost', [0.1, 3.0, 100.0])
def test_start_up_is_under_a_tenth_of_the_time(simulate, cost):
    service = Service(startup=6.0, cost=cost)
    search(simulate(service), int(2000 / cost) + 30)
    for size in service.sizes[2:-2]:  # without the first, which measure, and the last, which share the rest
        assert 6.0 / (6.0 + size * cost) < 0.11 and (size == 1 or size * cost < 9 * 6.0 + 2 * cost)
    assert len(service.sizes) * 6.0 / (sum(service.sizes) * cost) < 0.15


def test_last_candidates_are_shared(simulate):
    service = Service(concurrency=4, startup=6.0, cost=1.0)
    search(simulate(service), 500)
    ideal = 500 / 4
    assert service.now < ideal * 1.3


def test_few_seconds_of_work_stay_in_one_trial(simulate):
    """A second trial would not make it faster."""
    service = Service(concurrency=2, startup=6.0, cost=0.01)
    search(simulate(service), 108)
    assert service.sizes == [4, 4, 100]


def test_ahead_grows_with_the_chunks(simulate):
    placement = simulate(Service(concurrency=3, startup=6.0, cost=0.1))
    assert placement.ahead == 2 * 3 * Pace.FIRST
    search(placement, 100)
    assert placement.ahead == pytest.approx(2 * 3 * 9 * 60, rel=0.05)


def test_chunks_can_be_limited(simulate):
    service = Service()
    placement = simulate(service, chunk=10)
    search(placement, 100)
    assert placement.ahead == 40 and max(service.sizes) == 10


def test_chunks_stay_within_the_longest_trial(simulate):
    """NNI ends trials that take longer than max_trial_duration."""
    service = Service(startup=6.0, cost=1.0)
    service.config = SimpleNamespace(canonical_copy=lambda: SimpleNamespace(max_trial_duration='40s'))
    search(simulate(service), 200)
    assert max(service.sizes) <= 20


def test_no_more_trials_than_run(simulate):
    service = Service(concurrency=2)
    placement = simulate(service)
    for number in range(20):
        placement.put(Task(number, {'n': number}))
    assert service.sizes == [4, 4]


def test_a_flush_starts_what_waits(simulate):
    service = Service()
    placement = simulate(service)
    placement.put(Task(1, {'n': 1}))
    assert service.sizes == []
    placement.flush()
    assert service.sizes == [1]
    [(task, verdict)] = placement.get()
    assert task.number == 1 and verdict.score == 1 / 7


def test_get_starts_what_waits_where_nothing_else_will_come(simulate):
    placement = simulate(Service())
    placement.put(Task(1, {'n': 1}))
    assert placement.get()[0][0].number == 1


def test_a_dead_trial_loses_only_what_it_had_not_reported(simulate):
    died = []

    def dies(chunk, number):
        if number == 33 and not died:
            died.append(chunk)
            return True
        return False

    service = Service(dies=dies)
    verdicts = search(simulate(service), 60)
    assert all(verdicts[n].score == n / 7 for n in range(1, 61))
    assert sorted(service.scored) == list(range(1, 61))
    assert [33] in [[task.number for task in chunk.tasks] for chunk in service.chunks]  # it was tried again alone


def test_a_candidate_that_kills_twice_gets_no_score(simulate):
    service = Service(dies=lambda chunk, number: number in (5, 6, 7, 33))
    verdicts = search(simulate(service), 60)
    for number, verdict in verdicts.items():
        if number in (5, 6, 7, 33):
            assert verdict.score is None and verdict.reason == 'the trials that scored it died twice'
        else:
            assert verdict.score == number / 7
    assert len(service.scored) == 56


def test_a_trial_that_succeeds_without_all_its_reports(simulate):
    service = Service()
    run = service._run

    def forgetful(model, chunk):
        if chunk.number == 1:
            chunk.tasks = chunk.tasks[:2]
        run(model, chunk)

    service._run = forgetful
    assert len(search(simulate(service), 20)) == 20


def test_trials_that_cannot_start(simulate):
    service = Service(dies=lambda chunk, number: True)
    with pytest.raises(RuntimeError, match=r'3 trials in a row ended before they had scored a candidate: .*log'):
        search(simulate(service), 60)


def test_a_trial_that_cannot_start_now_and_then(simulate):
    service = Service(dies=lambda chunk, number: number is None and chunk.number % 3 != 0)
    assert len(search(simulate(service), 60)) == 60


def test_a_report_that_comes_after_the_end(simulate):
    """NNI stores a report before it passes it on, and may see the end of the trial meanwhile."""
    service = Service()
    run = service._run

    def late(model, chunk):
        run(model, chunk)
        if chunk.number == 1:
            last = max(entry for entry in service._agenda if isinstance(entry[2], IntermediateMetricEvent)
                       and entry[2].model is model)
            service._agenda.remove(last)
            heapq.heapify(service._agenda)
            service._at(service.now + service.startup + 1.0, last[2])

    service._run = late
    verdicts = search(simulate(service), 40)
    assert all(verdicts[n].score == n / 7 for n in range(1, 41))


def test_trials_of_the_scoring_do_not_count(simulate):
    service = Service(limit=5)
    search(simulate(service), 100)
    assert service.profile['params']['maxTrialNumber'] == 5 + len(service.sizes)


def test_concurrency_changed_in_the_portal(simulate):
    service = Service(concurrency=2)
    placement = simulate(service)
    search(placement, 50)
    service.profile['params']['trialConcurrency'] = 4
    service.workers += 2
    search(placement, 50, first=51)
    assert placement.ahead == 2 * 4 * placement.pace.full()


def test_budget_that_ends(simulate):
    service = Service()
    placement = simulate(service)
    placement.put(Task(1, {'n': 1}))
    service.status, service.workers = 'DONE', 0
    assert placement.get() == []


def test_taken_over_after_a_restart(simulate):
    before = Service()
    first = simulate(before)
    search(first, 10)
    chunks = [nni.dump(Chunk(chunk.number, chunk.tasks, '', kernel=chunk.kernel)) for chunk in before.chunks]
    service = Service()
    service.jobs = [SimpleNamespace(trialJobId=f't{n}', status='SUCCEEDED', logPath='there', hyperParameters=[
        SimpleNamespace(parameters=json.loads(chunk))]) for n, chunk in enumerate(chunks)]
    reports = [{'default': 0}, {'default': 1, 'candidate': 3, 'kernel_score': 3 / 7, 'seconds': 0.5},
               {'default': 2, 'candidate': 4, 'kernel_score': None, 'reason': 'broken', 'seconds': 0.5}]
    service.metrics = {'t0': [SimpleNamespace(data=report) for report in reports]}
    verdicts = {}
    placement = simulate(service)
    for number in range(1, 11):
        placement.put(Task(number + 20, {'n': number}))
    for task, verdict in placement.get():
        verdicts[task.sample['n']] = verdict
    assert verdicts == {3: Verdict(3 / 7, None, 0.5), 4: Verdict(None, 'broken', 0.5)}
    placement.flush()
    assert sorted(task.sample['n'] for chunk in service.chunks for task in chunk.tasks) != []
    assert all(task.sample['n'] not in (3, 4) for chunk in service.chunks for task in chunk.tasks)
    assert service.chunks[0].number == len(before.chunks) + 1


# Scored quickly at first, and then in full.


def test_each_candidate_gets_a_quick_and_a_full_verdict(simulate):
    service = Service()
    placement = simulate(service)
    for quick in (True, False):
        verdicts = search(placement, 100, quick=quick)
        assert {n: verdict.score for n, verdict in verdicts.items()} == {n: score(Task(n, {}, quick)) for n in range(1, 101)}
    assert all(len({task.quick for task in chunk.tasks}) == 1 for chunk in service.chunks)


def test_full_chunks_stay_within_the_longest_trial(simulate):
    """What quick scores cost says nothing of full ones."""
    service = Service(startup=6.0, cost=0.05)
    service.config = SimpleNamespace(canonical_copy=lambda: SimpleNamespace(max_trial_duration='40s'))
    placement = simulate(service)
    search(placement, 1000, quick=True)
    assert max(service.sizes) > 100
    service.cost, service.sizes = 1.0, []
    search(placement, 200)
    assert max(service.sizes) <= 20


def test_a_quick_report_that_comes_late_is_not_a_full_score(simulate):
    service, held = Service(), []
    run = service._run

    def late(model, chunk):
        run(model, chunk)
        if chunk.number == 1:
            held.append(max(entry for entry in service._agenda if isinstance(entry[2], IntermediateMetricEvent)
                            and entry[2].model is model))
            service._agenda.remove(held[0])
            heapq.heapify(service._agenda)

    service._run = late
    placement = simulate(service)
    search(placement, 40, quick=True)
    assert held[0][2].metric['candidate'] == 4
    service._at(service.now + 1.0, held[0][2])
    verdicts = search(placement, 40)
    assert all(verdicts[n].score == n / 7 for n in range(1, 41))


def test_a_quick_task_that_is_left_over_is_not_taken_for_a_full_one(simulate):
    """Its trial ends without a report, so that it waits for another one; then the report comes, late."""
    service = Service(concurrency=1)
    placement = simulate(service)
    for number in range(1, 5):
        placement.put(Task(number, {'n': number}, True))
    [chunk] = placement._chunks
    placement._on_event(TrainingEndEvent(chunk, ModelStatus.Failed))
    for number in range(1, 5):
        report = {'default': number, 'candidate': number, 'kernel_score': 1.0, 'seconds': 0.1}
        placement._on_event(IntermediateMetricEvent(chunk, report))
    assert [task.quick for task, _ in placement.get()] == [True] * 4
    service.workers, service._agenda = 1, []
    for number in range(1, 7):
        placement.put(Task(number, {'n': number}))
    placement.flush()
    assert [task.quick for task in service.chunks[-1].tasks] == [False] * len(service.chunks[-1].tasks)
    verdicts = {}
    while len(verdicts) < 6:
        verdicts.update({task.number: verdict.score for task, verdict in placement.get()})
    assert verdicts == {n: n / 7 for n in range(1, 7)}


def test_a_trial_that_dies_over_a_candidate_once_in_each_phase(simulate):
    died = set()

    def dies(chunk, number):
        if number != 5 or chunk.quick in died:
            return False
        died.add(chunk.quick)
        return True

    placement = simulate(Service(dies=dies))
    assert search(placement, 40, quick=True)[5].score == 5 / 7 + 100
    assert search(placement, 40)[5].score == 5 / 7
    assert died == {True, False}


def test_quick_and_full_scores_are_taken_over_after_a_restart(simulate):
    before = Service()
    first = simulate(before)
    for quick in (True, False):
        search(first, 4, quick=quick)
    service = Service()
    service.jobs = [SimpleNamespace(trialJobId=f't{chunk.number}', status='SUCCEEDED', logPath='there', hyperParameters=[
        SimpleNamespace(parameters=json.loads(nni.dump(Chunk(chunk.number, chunk.tasks, '', kernel=chunk.kernel))))])
        for chunk in before.chunks]
    quick_chunk, full_chunk = (next(chunk for chunk in before.chunks if chunk.quick == quick) for quick in (True, False))
    for chunk, numbers in ((quick_chunk, (2, 3)), (full_chunk, (3, 4))):
        service.metrics[f't{chunk.number}'] = [SimpleNamespace(data={
            'default': 1, 'candidate': number, 'kernel_score': score(Task(number, {}, chunk.quick)), 'seconds': 0.5})
            for number in numbers]
    placement = simulate(service)
    known = {}
    for quick in (True, False):
        for number in range(1, 5):
            placement.put(Task(number, {'n': number}, quick))
        known.update({(task.number, task.quick): verdict.score for task, verdict in placement.get()})
        while len(known) % 4:
            known.update({(task.number, task.quick): verdict.score for task, verdict in placement.get()})
    assert known == {(n, quick): score(Task(n, {}, quick)) for n in range(1, 5) for quick in (True, False)}
    asked = [(task.number, task.quick) for chunk in service.chunks for task in chunk.tasks]
    assert sorted(asked) == [(1, False), (1, True), (2, False), (4, True)]


def test_adaptive_effort_in_trials(simulate):
    """However large the chunks of quick scores, no more are scored in full than has to be."""
    service, record = Service(), Record(None)
    placement = simulate(service)
    placement.start = lambda scorer, engine: None  # it has been started
    scorer = Scorer(tiny_kernel(), SimplifiedModelSpace.from_model(Digits()))
    engine = ScoringEngine(scorer, record, 150, placement, quick=True)
    engine.elastic = True
    state = np.random.RandomState(0)
    with engine.opened(service):
        while engine.budget_available():
            engine.submit_models(scorer.space.random(random_state=state))
        engine.wait_models()
        assert [candidate.quick for candidate in record.explored()] == [n / 7 + 100 for n in range(1, 151)]
        assert placement.ahead > 150
        engine.finish(10)
    assert {candidate.id: candidate.score for candidate in record.best(16)} == {n: n / 7 for n in range(135, 151)}
    assert record.count('scored') == 16
    assert all(len({task.quick for task in chunk.tasks}) == 1 for chunk in service.chunks)


def test_a_chunk_of_quick_scores_in_its_trial(monkeypatch):
    scorer = tiny_scorer()
    samples = [scorer.space.random(random_state=np.random.RandomState(seed)).sample for seed in range(3)]
    reports = []
    monkeypatch.setattr(nni, 'report_intermediate_result', reports.append)
    chunk = Chunk(7, [Task(n, sample, True) for n, sample in enumerate(samples)], trials_module._packed(scorer))
    travelled = nni.load(nni.dump(chunk))
    assert travelled.tasks == chunk.tasks and travelled.quick
    travelled.execute()
    scores = [scorer.score(sample, True).score for sample in samples]
    assert [report.get('kernel_score') for report in reports] == [None, *scores]
    assert not set(scores) & {scorer.score(sample).score for sample in samples}


def test_a_chunk_in_its_trial(monkeypatch):
    """It scores what it brings along, and reports each score when it is known."""
    scorer = tiny_scorer()
    samples = [scorer.space.random(random_state=np.random.RandomState(seed)).sample for seed in range(3)]
    reports = []
    monkeypatch.setattr(nni, 'report_intermediate_result', reports.append)
    chunk = Chunk(7, [Task(n, sample) for n, sample in enumerate(samples, start=11)], trials_module._packed(scorer))
    text = nni.dump(chunk)
    assert len(text) < 20_000
    nni.load(text).execute()
    scores = [scorer.score(sample).score for sample in samples]
    assert [report.get('kernel_score') for report in reports] == [None, *scores]
    assert [report['default'] for report in reports] == [0, 1, 2, 3]
    assert reports[-1]['best_kernel_score'] == max(scores)
    assert [report['candidate'] for report in reports[1:]] == [11, 12, 13]


def test_a_trial_that_nni_starts_again_scores_nothing(monkeypatch):
    reports = []
    monkeypatch.setattr(nni, 'report_intermediate_result', reports.append)
    monkeypatch.setattr(nni.trial, '_params', {'parameter_source': 'resumed'})
    Chunk(1, [Task(1, {})], 'never read').execute()
    assert reports == []


def test_samples_travel_unchanged():
    sample = {'a': (1, 2), 'b': [1, 2], 'c': None, 'd': True, 'e': 'C# at //host'}
    [task] = nni.load(nni.dump(Chunk(1, [Task(5, sample)], ''))).tasks
    assert task == Task(5, sample) and encode_sample(task.sample) == encode_sample(sample)


def test_an_engine_without_trials():
    with pytest.raises(ValueError, match='needs an experiment with a training service'):
        Trials().start(tiny_scorer(), SequentialExecutionEngine())


@pytest.mark.parametrize('chunk', [0, 1.5, True])
def test_bad_chunk(chunk):
    with pytest.raises(ValueError, match='number of candidates, 1 or more'):
        Trials(chunk)


def test_stop_before_start():
    Trials().stop()


# With NNI's own local service.


def make(folder: Path, identity: str | None = None, engine: str = 'ts', **options) -> NasExperiment:
    """A search in trials, two at a time; the file "may score" says how many candidates are scored before it is gone."""
    kernel = tiny_kernel(score=LoggedMGM(str(folder / 'scored'), gate=folder / 'may score'))
    strategy = KNAS(kernel, **{'top_k': 0, 'placement': 'trials', **options})
    config = NasExperimentConfig(engine, 'simplified', 'local')
    config.trial_concurrency = 2 if engine == 'ts' else 1
    config.max_trial_number = 1
    config.experiment_working_directory = str(folder)
    return NasExperiment(TinySpace(), FunctionalEvaluator(train, log=str(folder / 'trained')), strategy, config, id=identity)


def scoring_processes(folder: Path) -> list[psutil.Process]:
    """The processes of trials of the experiments in a folder, whoever has started them."""
    return [process for process in psutil.process_iter() if trial_of(process).get('NNI_SYS_DIR', '').startswith(str(folder))]


def trial_of(process: psutil.Process) -> dict[str, str]:
    """What NNI tells the process of a trial; nothing for other processes."""
    with contextlib.suppress(psutil.Error):
        if process.name().startswith('python') and 'nni.nas.execution.training_service' in process.cmdline():
            return process.environ()
    return {}


def meanwhile(action):
    """Do something while an experiment runs; what went wrong with it comes out of ``join``."""
    errors = []

    def guarded():
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()

    def join():
        thread.join()
        if errors:
            raise errors[0]

    return join


def check_scores(scores, count):
    """Those of this process, to the last bit."""
    scorer = tiny_scorer(score='mgm')
    assert len(scores) == count
    assert [scorer.score(sample).score for sample in scores.architecture] == list(scores.score)


def evolution():
    explorer = RegularizedEvolution(population_size=8, sample_size=3)
    explorer._random_state.seed(5)
    return explorer


class Searched(NamedTuple):
    """A search that has ended, while its experiment is still there; and what the portal has shown of it while it ran."""

    experiment: NasExperiment
    folder: Path
    rows: list[dict[str, str]]


@pytest.fixture(scope='class')
def searched(request, tmp_path_factory):
    """One of the first two trials is killed over a candidate, before the other has ended."""
    browser = request.getfixturevalue('browser') if portal.executables() else None
    folder = tmp_path_factory.mktemp('searched')
    (folder / 'may score').write_text('2')
    search = make(folder, candidates=12, top_k=1, ahead=8, explorer=evolution())
    port, rows = free_port(), []

    def disturb():
        wait_until(lambda: len(lines(folder / 'scored')) >= 2)
        wait_until(lambda: max(map(len, search.get_job_metrics().values()), default=0) >= 2)
        if browser:
            rows.extend(rows_of(browser, port))
        reports = search.get_job_metrics()
        [killed] = [process for process in scoring_processes(folder)
                    if trial_of(process)['NNI_TRIAL_JOB_ID'] == max(reports, key=lambda trial: len(reports[trial]))]
        killed.kill()
        (folder / 'may score').unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HELPERS)  # trials import from here
        try:
            join = meanwhile(disturb)
            search.run(port)
            join()
            yield Searched(search, folder, rows)
        finally:
            search.stop()
    assert not scoring_processes(folder)


def rows_of(browser, port):
    browser.get(f'http://127.0.0.1:{port}/logs/knas.html')
    wait_until(lambda: len(portal.table(browser)) >= 2)
    return portal.table(browser)


@pytest.mark.slow
class TestSearch:
    def test_scores_are_those_of_any_other_placement(self, searched):
        scores = searched.experiment.strategy.scores()
        check_scores(scores, 12)
        assert scores.status.value_counts().to_dict() == {'scored': 11, 'trained': 1}

    def test_what_a_killed_trial_has_reported_is_not_scored_again(self, searched):
        """Nor what any other has. It may have been killed before its last report."""
        [killed] = [job for job in searched.experiment.list_trial_jobs() if job.status != 'SUCCEEDED']
        assert killed.status in experiment_module.UNSUCCESSFUL
        different = len({str(sample) for sample in searched.experiment.strategy.scores().architecture})
        assert different <= len(lines(searched.folder / 'scored')) <= different + 1

    def test_max_trial_number_counts_the_trained_models_alone(self, searched):
        jobs = searched.experiment.list_trial_jobs()
        chunks = [job for job in jobs if 'knas_chunk' in job.hyperParameters[0].parameters]
        assert len(jobs) == len(chunks) + 1
        assert not any(job.finalMetricData for job in chunks)
        assert searched.experiment.get_experiment_profile()['params']['maxTrialNumber'] == len(jobs)

    def test_an_explorer_that_learns(self, searched, tmp_path):
        """It is as far ahead of the scores as on any other placement, so it goes the same way."""
        other = make(tmp_path, engine='sequential', candidates=12, ahead=8, explorer=evolution(), placement='process')
        other.run()
        other.stop()
        ways = [search.strategy.scores().sort_values('candidate') for search in (searched.experiment, other)]
        assert list(ways[0].architecture) == list(ways[1].architecture)

    def test_the_portal_shows_it_while_it_runs(self, searched, browser):
        assert any(row['latestAccuracy'].endswith('(LATEST)') and 'candidates' in row['space/scoring']
                   for row in searched.rows)

    def test_the_portal_shows_it_all(self, searched, browser):
        """The best trials are trained models alone; the parameters of a chunk are readable; its progress is a curve."""
        port = searched.experiment.port
        browser.get(f'http://127.0.0.1:{port}/oview')
        wait_until(lambda: len(browser.find_elements('css selector', '[data-automationid="DetailsRow"]')) == 1)
        browser.get(f'http://127.0.0.1:{port}/logs/knas.html')
        wait_until(lambda: len(portal.table(browser)) >= 4)
        browser.execute_script('document.querySelector(\'#tableList [data-automation-key="_expand"] i\').click()')
        wait_until(lambda: browser.find_elements('css selector', '.openRow .bgHyper'))
        parameters = browser.find_element('css selector', '.openRow .bgHyper').text
        assert '4 candidates, 1 to 4' in parameters and 'first_candidate' in parameters and 'scorer' not in parameters


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Make an experiment; it is stopped when the test ends, and has left no process then."""
    monkeypatch.chdir(HELPERS)
    made = []

    def experiment(**options):
        made.append(make(tmp_path, **options))
        return made[-1]

    yield experiment
    for each in made:
        each.stop()
    assert not scoring_processes(tmp_path)


@pytest.mark.slow
def test_trials_that_fail(experiment):
    """The error says what the trial said, and where the rest is."""
    search = experiment(candidates=18)
    search.config._trial_command_params = {'python': f'{sys.executable} -c "import nowhere" #'}
    with pytest.raises(RuntimeError, match=r"3 trials in a row .*: ModuleNotFoundError: .*'nowhere' .*/trials/"):
        search.run(free_port())


def work(action: str, folder: Path) -> None:
    """Run or resume a search, and stop the experiment."""
    search = make(folder, 'killed', candidates=10)
    getattr(search, action)(free_port())
    search.stop()


@pytest.mark.slow
def test_killed_search(tmp_path):
    """NNI's manager and its trials outlive the process that is killed. What they scored since is not scored again."""
    gate = tmp_path / 'may score'
    gate.write_text('3')
    process = Forked(work, 'run', tmp_path)
    wait_until(lambda: len(lines(tmp_path / 'scored')) >= 3)
    process.kill()
    before = len(lines(tmp_path / 'scored'))
    gate.write_text(str(before + 2))
    wait_until(lambda: len(lines(tmp_path / 'scored')) >= before + 2)
    trials = scoring_processes(tmp_path)
    process = Forked(work, 'resume', tmp_path)
    psutil.wait_procs(trials, 600)
    gate.unlink()
    assert process.wait() == 0
    scores = open_run(tmp_path / 'killed').scores()
    check_scores(scores, 10)
    # One in each of two trials may have been in work when they were stopped.
    assert len(lines(tmp_path / 'scored')) <= len({str(sample) for sample in scores.architecture}) + 2
    assert not scoring_processes(tmp_path)


@pytest.mark.slow
def test_remote_machine(experiment, tmp_path):
    """Over SSH, with another home folder: nothing of this machine's is needed there but the installation."""
    home = tmp_path / 'home'
    home.mkdir()
    with ssh_server(home) as server:
        search = experiment(top_k=1, candidates=8)
        machine = RemoteMachineConfig(host='127.0.0.1', port=server.port, user=server.user, ssh_key_file=str(server.key),
                                      python_path=str(Path(sys.executable).parent))
        search.config.training_service = RemoteConfig(machine_list=[machine])
        search.config.nni_manager_ip = '127.0.0.1'  # what the machine calls this one
        search.run(free_port())
        scores = search.strategy.scores()
        check_scores(scores, 8)
        assert scores.status.iloc[0] == 'trained'
        assert all(job.logPath.startswith('127.0.0.1:') for job in search.list_trial_jobs())
        assert list(home.glob('nni-experiments/*/environments/remote-worker1/trials/*'))
        search.stop()
    assert not [process for process in psutil.process_iter(['cmdline'])
                if any(str(home) in word for word in process.info['cmdline'] or [])]
