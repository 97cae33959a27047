"""The footprint: what is metered is what was used, each part has its share, and the estimate is what it says it is."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clocks import Clock, Constant
from hypothesis import given
from hypothesis import strategies as st
from interrupted import idle
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.space import SimplifiedModelSpace
from places import HELPERS
from processes import Forked
from scipy import stats
from servers import free_port, wait_until
from spaces import TinySpace, lines, tiny_kernel, train

from nni_knas import KNAS, open_run
from nni_knas.footprint import Meter, energy_within, footprint_of, meter
from nni_knas.footprint.summary import estimate_of
from nni_knas.record import Energy, Record, Stop, record_path, set_stop
from nni_knas.runs.sessions import session


def interval(
    stage='fine', started=0.0, seconds=10.0, cpu=0.01, gpu=0.0, memory=0.002, intensity=0.4, busy=20.0, own=20.0, trials=1
):
    return Energy(stage, started, seconds, cpu, gpu, memory, intensity, busy, own, trials)


# The meter.


@pytest.fixture
def constant(monkeypatch):
    """A meter in a time of its own, and a function that opens its source; the meter reads when it is told to."""

    @contextlib.contextmanager
    def use(own=1.0):
        clock, opens, times = Clock().rules(monkeypatch, meter), threading.Event(), [0.0]
        monkeypatch.setattr(meter, 'power_source', lambda country: opens.wait() and Constant(clock))
        monkeypatch.setattr(meter, 'repeated', lambda *work, **often: contextlib.nullcontext())

        def busy():
            times[0] += 1
            return times[0]

        monkeypatch.setattr(meter, 'busy_seconds', busy)  # a second between any two readings
        monkeypatch.setattr(meter, 'cpu_seconds', lambda root: own * times[0])
        record = Record(None)
        with Meter(record, record.begin_session({})) as metered:

            def ready():
                opens.set()
                metered._opened.wait()

            yield SimpleNamespace(clock=clock, record=record, meter=metered, ready=ready)

    return use


@pytest.mark.parametrize('ready', [0.0, 0.4, 1.0])
def test_energy_of_stages(constant, ready):
    """What was used before the source was ready is in proportion to what was used thereafter."""
    with constant() as run:
        clock = run.clock
        if not ready:
            run.ready()
        start = clock.now
        with run.meter.stage('coarse'):
            clock.sleep(ready)
            run.ready()
            clock.sleep(1.0 - ready)
        coarse = clock.now - start
        clock.sleep(0.5)  # nobody's
        start = clock.now
        with run.meter.stage('fine'):
            clock.sleep(0.7)
        fine = clock.now - start
    stages = footprint_of(run.record).stages
    assert [coarse, fine] == pytest.approx([1.0 if ready < 1 else 1.0 + Meter.least_covered, 0.7])
    assert stages.seconds.tolist() == pytest.approx([coarse, fine])
    assert stages.kwh.to_numpy() == pytest.approx(0.001 * stages.seconds.to_numpy())
    assert stages.cpu_kwh.to_numpy() == pytest.approx(0.5 * stages.kwh.to_numpy())
    assert stages.gpu_kwh.to_numpy() == pytest.approx(0.3 * stages.kwh.to_numpy())
    assert stages.co2_kg.to_numpy() == pytest.approx(0.5 * stages.kwh.to_numpy())


def test_a_run_has_its_share_of_a_machine_that_others_use(constant):
    with constant(own=0.25) as run, run.meter.stage('coarse'):
        run.ready()
        run.clock.sleep(0.3)
    footprint = footprint_of(run.record)
    # A quarter of CPU and memory, and all of the GPU.
    assert footprint.stages.kwh['coarse'] == pytest.approx((0.25 * 0.7 + 0.3) * 0.0003)
    assert '25% of the CPU time' in footprint.methods['share']
    assert footprint.methods['cpu'] == 'measured (a test)'


def test_long_runs_have_few_intervals(constant, monkeypatch):
    monkeypatch.setattr(Meter, 'interval', 0.01)
    monkeypatch.setattr(Meter, 'growth', 0.2)
    with constant() as run, run.meter.stage('coarse'):
        run.ready()
        for _ in range(150):
            run.clock.sleep(0.01)
            run.meter.tick()
    intervals = run.record.energies()
    assert 5 < len(intervals) < 40
    assert max(each.seconds for each in intervals) > 0.2
    ends = [each.started + each.seconds for each in intervals]
    assert [each.started for each in intervals[1:]] == pytest.approx(ends[:-1], abs=1e-6)  # without gaps
    assert footprint_of(run.record).seconds == pytest.approx(1.5)


def test_a_mark_ends_an_interval(constant):
    with constant() as run, run.meter.stage('fine'):
        run.ready()
        for trials in (1, 2, 1):
            run.meter.mark()
            run.meter.trials = trials
            run.clock.sleep(0.1)
    assert [each.trials for each in run.record.energies() if each.seconds > 0.05] == [1, 2, 1]


def test_a_source_that_fails_fails_nothing(monkeypatch, caplog):
    def fail(country):
        raise OSError('no counter')

    monkeypatch.setattr(meter, 'power_source', fail)
    record = Record(None)
    with Meter(record, record.begin_session({})) as metered, metered.stage('coarse'):
        pass
    footprint = footprint_of(record)
    assert footprint.kwh == 0 and footprint.methods == {}
    assert 'The energy of this machine cannot be read' in caplog.text


def test_a_kill_loses_no_more_than_an_interval(tmp_path):
    path, log = tmp_path / 'record.sqlite', tmp_path / 'log'
    process = Forked(idle, path, log, interval=0.2)
    wait_until(lambda: len(lines(log)) >= 6)
    process.kill()
    record, begun = Record(path, readonly=True), [float(line) for line in lines(log)]
    [session], energies = record.sessions(), record.energies()
    # What was used until the last reading is known: these are the times at which readings began.
    assert energies[-1].started + energies[-1].seconds >= begun[-1] and session.heard >= begun[-1]
    assert sum(each.seconds for each in energies) >= begun[-1] - begun[0] >= 5 * 0.2
    assert not session.ended and footprint_of(record).kwh > 0


def test_sessions_end(tmp_path):
    record = Record(None)
    with pytest.raises(KeyError), session(record, {'score': 'mgm'}, name='mine'):
        raise KeyError
    with session(record, {}):
        [first, second] = record.sessions()
    assert first.ended and not second.ended
    assert first.about['asked'] == {'score': 'mgm'} and first.about['name'] == 'mine'
    assert first.about['pid'] == os.getpid() and first.about['versions']['python'] in sys.version


def test_metering_takes_less_than_a_percent(monkeypatch):
    """Of one core, once it has begun; measurements/footprint.py measures the beginning, too."""
    monkeypatch.setattr(meter, 'repeated', lambda *work, **often: contextlib.nullcontext())
    record, costs = Record(None), []
    with Meter(record, record.begin_session({})) as metered, metered.stage('coarse'):
        metered.mark()
        children = sum(os.times()[2:4])
        for _ in range(20):
            before = time.thread_time()
            metered.tick()
            costs.append(time.thread_time() - before)
        children = sum(os.times()[2:4]) - children
    assert (np.median(costs) + children / len(costs)) / Meter.interval < 0.01


# A trial's part.


@st.composite
def intervals(draw):
    """Intervals one after another."""
    positive = st.floats(0.01, 10)
    found, now = [], 0.0
    for _ in range(draw(st.integers(1, 5))):
        seconds, busy = draw(positive), draw(positive)
        found.append(
            interval(
                started=now,
                seconds=seconds,
                cpu=draw(positive),
                gpu=draw(positive),
                memory=draw(positive),
                busy=busy,
                own=draw(st.floats(0, 1)) * busy,
                trials=draw(st.integers(0, 3)),
            )
        )
        now += seconds
    return found


@given(intervals(), st.floats(0.05, 0.45), st.floats(0.55, 0.95), st.one_of(st.none(), st.floats(0, 20)))
def test_energy_of_a_trial_by_small_steps(energies, first, last, cpu):
    end_of_all = energies[-1].started + energies[-1].seconds
    start, end = first * end_of_all, last * end_of_all
    machine = busy = gpu = equal = 0.0
    steps = 20_000
    moments = np.linspace(start, end, steps, endpoint=False) + (end - start) / steps / 2
    counts = np.bincount(
        np.searchsorted([each.started + each.seconds for each in energies], moments, side='right'), minlength=len(energies)
    )
    for each, count in zip(energies, counts, strict=True):
        part = count * (end - start) / steps / each.seconds
        machine += part * (each.cpu_kwh + each.memory_kwh)
        busy += part * each.busy
        gpu += part * each.gpu_kwh / max(each.trials, 1)
        equal += part * (each.cpu_kwh + each.memory_kwh) * each.own / each.busy / max(each.trials, 1)
    expected = gpu + (equal if cpu is None else machine * min(1, cpu / busy))
    assert energy_within(energies, start, end, cpu) == pytest.approx(expected, rel=1e-2)


def test_parts_of_trials_add_up():
    """Two trials at a time, and the search itself, share what was used by their CPU times."""
    energies = [interval(started=0, seconds=10, cpu=0.01, memory=0.002, gpu=0.004, busy=20, own=20, trials=2)]
    parts = [energy_within(energies, 0, 10, cpu) for cpu in (12, 7)]
    assert sum(parts) == pytest.approx(0.004 + 0.012 * 19 / 20)
    assert parts[0] - parts[1] == pytest.approx(0.012 * 5 / 20)


def test_a_trial_that_was_not_metered():
    energies = [interval(started=0, seconds=10)]
    assert energy_within(energies, 6, 30, 5) is None
    assert energy_within([], 0, 10, 5) is None
    assert energy_within(energies, 0, 10, 100) == pytest.approx(0.012)  # never more than all
    assert energy_within(energies, 0, 16, 16) == pytest.approx(0.012 / 10 * 16 * 16 / 32)  # a part, in proportion


# The estimate.


def test_estimate():
    kwh, n = [0.01, 0.014, 0.012], 300
    estimate = estimate_of(kwh, [60.0, 80.0, 70.0], n, 0.4)
    assert estimate.kwh == pytest.approx(0.012 * n)
    assert estimate.seconds == pytest.approx(70 * n) and estimate.co2_kg == pytest.approx(0.4 * 0.012 * n)
    margin = stats.t.ppf(0.975, 2) * 0.002 * math.sqrt(297 + 297**2 / 3)
    assert (estimate.low, estimate.high) == pytest.approx((0.036 + 297 * 0.012 - margin, 0.036 + 297 * 0.012 + margin))


def test_estimate_of_few():
    assert estimate_of([], [], 10) is None
    one = estimate_of([0.5], [3.0], 10)
    assert one.kwh == 5 and math.isnan(one.low) and math.isnan(one.high)
    every = estimate_of([0.5, 0.7], [3.0, 3.0], 2)
    assert every[:3] == pytest.approx((1.2, 1.2, 1.2))  # all were trained: nothing is uncertain
    assert estimate_of([0.001, 1.0], [1.0, 1.0], 3).low == pytest.approx(1.001)  # what is known was used


@pytest.mark.parametrize('k', [3, 8])
def test_interval_holds_what_it_says(k):
    """Of many runs whose trials are alike, the interval has the sum over all candidates in 95 of 100."""
    rng, n, hits = np.random.default_rng(k), 60, 0
    for _ in range(1500):
        kwh = rng.normal(1, 0.1, n)
        estimate = estimate_of(kwh[:k], [1.0] * k, n)
        hits += estimate.low <= kwh.sum() <= estimate.high
    assert 0.93 < hits / 1500 < 0.97


# Runs.


def work_and_train(network, seconds):
    """Use so much CPU time, which is told in hundredths of a second."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    train(network)


def search(folder, trials=3, **options):
    strategy = KNAS(tiny_kernel(), 12, trials, record=record_path(folder), **options)
    space = SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(work_and_train, seconds=0.1))
    strategy(space, SequentialExecutionEngine())
    return strategy.open_run()


def test_a_run(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger='nni')
    run = search(tmp_path, country='FRA')
    footprint, ranking = run.footprint(), run.ranking(all=True)
    assert (ranking.training_kwh > 0).all()
    # A trial that lies in two intervals has its part of their sum, the stage has its part of each: they differ a little.
    assert ranking.training_kwh.sum() <= footprint.stages.kwh['fine'] * 1.05
    assert footprint.stages.seconds['fine'] >= 3 * 0.1 and footprint.stages.seconds['coarse'] > 0
    assert footprint.estimate.kwh == pytest.approx(12 * ranking.training_kwh.mean())
    assert footprint.statement.startswith('scored 12 candidates and trained 3 for ')
    assert ' training all 12 would have taken' in footprint.statement
    assert 'France' in footprint.methods['co2']
    assert run.record.get_meta('statement') == footprint.statement  # in the record
    assert f'Energy: {footprint.statement}.' in caplog.text  # and at the end of the run
    assert run.status == 'finished' and run.process is None


def test_nothing_trained(tmp_path):
    run = search(tmp_path, trials=0)
    assert run.footprint().estimate is None
    assert run.footprint().statement.endswith(
        '; what training all 12 would have taken cannot be told, since none was trained'
    )


def test_a_run_that_is_taken_up_adds_up(tmp_path):
    before = search(tmp_path, trials=2).footprint()
    run = search(tmp_path, trials=3)
    after = run.footprint()
    assert len(run.sessions()) == 2 and run.status == 'finished'
    assert after.kwh > before.kwh and after.seconds > before.seconds
    assert after.statement.startswith('scored 12 candidates and trained 3 for ')


def test_a_record_of_before_there_were_footprints(tmp_path):
    record = Record(tmp_path / 'record.sqlite')
    record.add_scored({'a': 1}, 'x', 1.0, 0.1)
    for table in ('energy', 'sessions', 'steps'):
        record._write(f'DROP TABLE {table}')
    record._write('ALTER TABLE candidates DROP COLUMN training_kwh')
    record.close()
    old = Record(tmp_path / 'record.sqlite', readonly=True)
    assert footprint_of(old).statement == '' and old.sessions() == [] and not len(old.steps())
    assert old.frame().training_kwh.isna().all()


@pytest.mark.slow
def test_trial_processes_are_included(tmp_path, monkeypatch):
    """On NNI's training service each trial tells its own CPU time, and the run's is no less than all of theirs."""
    monkeypatch.chdir(HELPERS)
    log = tmp_path / 'log'
    experiment = NasExperiment(TinySpace(), FunctionalEvaluator(train, log=str(log), seconds=0.2), KNAS(tiny_kernel(), 8, 2))
    experiment.config.trial_concurrency = 2
    experiment.config.experiment_working_directory = str(tmp_path)
    try:
        experiment.run(free_port())
    finally:
        experiment.stop()
    assert lines(log)
    run = open_run(tmp_path / experiment.id)
    results = [json.loads(path.read_text()) for path in (run.folder / 'knas' / 'results').glob('*.json')]
    assert len(results) == 2 and all(result['cpu'] > 1 for result in results)  # to import torch takes some
    assert all(result['ended'] - result['started'] > result['seconds'] > 0.2 for result in results)
    own = sum(each.own for each in run.record.energies() if each.stage == 'fine')
    assert own >= 0.9 * sum(result['cpu'] for result in results)
    ranking, fine = run.ranking(all=True), run.footprint().stages.kwh['fine']
    assert (ranking.training_kwh > 0).all() and 0.3 * fine < ranking.training_kwh.sum() <= 1.05 * fine
    assert 2 in {each.trials for each in run.record.energies()}
    # The learning curves are the same, whether by the engine's events or by the manager's database.
    from nni_knas.bridge.experiment import reported_steps

    steps = run.record.steps()
    assert reported_steps(run.folder).sort_values('candidate').to_dict('list') == steps.to_dict('list')
    assert set(run.curves()['rank']) == set(ranking.index)
    assert Path(run.sessions()[0].about['directory']) == Path.cwd()


@pytest.mark.parametrize(
    ('used', 'trained', 'said'),
    [
        (0.002, 1e-3, 'for 2 Wh (800 mg CO2e); training all 4 would have taken about 4 Wh (between 4 Wh and 4 Wh with'),
        (
            0.00021,
            2e-5,
            'for 210 mWh (84 mg CO2e), which is more than training all 4 would have taken: about 80 mWh (between 80 mWh',
        ),
        (3.2, 1e-3, 'for 3.2 kWh (1.28 kg CO2e), which is more than'),
    ],
)
def test_statement_says_what_the_search_was_worth(used, trained, said):
    record = Record(None)
    record.set_energy(record.begin_session({}), Energy('coarse', 0.0, 60.0, used, 0.0, 0.0, 0.4, 1.0, 1.0, 0))
    for i in range(4):
        record.add_scored({'n': i}, str(i), float(i), 0.1)
    for candidate in record.best(2):
        record.start_training(candidate.id)
        record.set_metric(candidate.id, 0.5)
        record.end_training(candidate.id, 10.0, kwh=trained)
    assert said in footprint_of(record).statement


@pytest.mark.parametrize(
    'stop, kwh, said',
    [
        (
            Stop(0.05, 0.03, 9),
            2e-5,
            'which saved 2 trainings, about 40 mWh and 20 s',
        ),
        (Stop(0.05, 0.03, 3), None, 'which saved 1 training, about 10 s'),
        (Stop(0.05, 0.03, 2), 2e-5, ''),
        (None, 2e-5, ''),
    ],
)
def test_what_was_saved_by_stopping(stop, kwh, said):
    """By the mean of those that were trained, for as many as were left: of the top_k, and of all that there are."""
    record = Record(None)
    record.set_energy(record.begin_session({}), Energy('coarse', 0.0, 60.0, 3e-6, 0.0, 0.0, 0.4, 1.0, 1.0, 0))
    for i in range(4):
        record.add_scored({'n': i}, str(i), float(i), 0.1)
    for candidate in record.best(2):
        record.start_training(candidate.id)
        record.set_metric(candidate.id, 0.5)
        record.end_training(candidate.id, 10.0, kwh=kwh)
    set_stop(record, stop)
    footprint = footprint_of(record)
    assert footprint.statement.partition('; it stopped when little was left to find, ')[2] == said
    assert (footprint.saved is None) == (said == '')
