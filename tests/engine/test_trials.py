"""The placement in NNI's trials: its decisions, on a simulated training service; and what a trial does."""

from __future__ import annotations

import heapq
import json
from types import SimpleNamespace

import nni
import numpy as np
import pytest
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.execution.event import IntermediateMetricEvent
from simulated_service import Service, search, tiny_scorer

import nni_knas.engine.trials as trials_module
from nni_knas.engine.placement import Task
from nni_knas.engine.scorer import Verdict
from nni_knas.engine.trials import Chunk, Pace, Trials
from nni_knas.networks.candidates import encode_sample


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
            last = max(
                entry
                for entry in service._agenda
                if isinstance(entry[2], IntermediateMetricEvent) and entry[2].model is model
            )
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
    service.jobs = [
        SimpleNamespace(
            trialJobId=f't{n}',
            status='SUCCEEDED',
            logPath='there',
            hyperParameters=[SimpleNamespace(parameters=json.loads(chunk))],
        )
        for n, chunk in enumerate(chunks)
    ]
    reports = [
        {'default': 0},
        {'default': 1, 'candidate': 3, 'kernel_score': 3 / 7, 'seconds': 0.5},
        {'default': 2, 'candidate': 4, 'kernel_score': None, 'reason': 'broken', 'seconds': 0.5},
    ]
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


def test_a_chunk_in_its_trial(monkeypatch):
    """It scores what it brings along, and reports each score when it is known."""
    scorer = tiny_scorer()
    samples = [scorer.space.random(random_state=np.random.RandomState(seed)).sample for seed in range(3)]
    reports = []
    monkeypatch.setattr(nni, 'report_intermediate_result', reports.append)
    chunk = Chunk(7, [Task(n, sample) for n, sample in enumerate(samples, start=11)], trials_module._packed_scorer(scorer))
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
