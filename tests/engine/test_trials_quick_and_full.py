"""The placement in NNI's trials where candidates are scored quickly at first, and then in full."""

from __future__ import annotations

import heapq
import json
from types import SimpleNamespace

import nni
import numpy as np
from nni.nas.execution.event import IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from simulated_service import Service, score, search, tiny_scorer
from spaces import Digits, tiny_kernel

import nni_knas.engine.trials as trials_module
from nni_knas.engine import ScoringEngine
from nni_knas.engine.placement import Task
from nni_knas.engine.scorer import Scorer
from nni_knas.engine.trials import Chunk
from nni_knas.record import Record


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
            held.append(
                max(
                    entry
                    for entry in service._agenda
                    if isinstance(entry[2], IntermediateMetricEvent) and entry[2].model is model
                )
            )
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
    service.jobs = [
        SimpleNamespace(
            trialJobId=f't{chunk.number}',
            status='SUCCEEDED',
            logPath='there',
            hyperParameters=[
                SimpleNamespace(parameters=json.loads(nni.dump(Chunk(chunk.number, chunk.tasks, '', kernel=chunk.kernel))))
            ],
        )
        for chunk in before.chunks
    ]
    quick_chunk, full_chunk = (next(chunk for chunk in before.chunks if chunk.quick == quick) for quick in (True, False))
    for chunk, numbers in ((quick_chunk, (2, 3)), (full_chunk, (3, 4))):
        service.metrics[f't{chunk.number}'] = [
            SimpleNamespace(
                data={
                    'default': 1,
                    'candidate': number,
                    'kernel_score': score(Task(number, {}, chunk.quick)),
                    'seconds': 0.5,
                }
            )
            for number in numbers
        ]
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
    chunk = Chunk(7, [Task(n, sample, True) for n, sample in enumerate(samples)], trials_module._packed_scorer(scorer))
    travelled = nni.load(nni.dump(chunk))
    assert travelled.tasks == chunk.tasks and travelled.quick
    travelled.execute()
    scores = [scorer.score(sample, True).score for sample in samples]
    assert [report.get('kernel_score') for report in reports] == [None, *scores]
    assert not set(scores) & {scorer.score(sample).score for sample in samples}
