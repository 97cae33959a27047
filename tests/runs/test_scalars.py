"""Scalars for TensorBoard: as TensorBoard itself reads them, they are what the record of the run says."""

from __future__ import annotations

import logging
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nni
import numpy as np
import psutil
import pytest
import requests
from counting import counted
from interrupted import kill, let, start
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment
from patient_curve import patient_curve
from placements import MadeUp
from places import HELPERS
from searches import explore, search
from servers import free_port, wait_until
from spaces import FaultySpace, LoggedMGM, TinySpace, lines, prefer_small, tiny_kernel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nni_knas import KNAS, open_run
from nni_knas.record import Record, record_path
from nni_knas.runs import fine_scalars, scalars
from nni_knas.runs.scalars import scalars_folder, search_scalars, trial_scalars

WRITER = 'tensorboard.summary.writer.record_writer'


def read(folder):
    """What TensorBoard shows of a folder: of each tag its steps and values."""
    if not folder.is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={'scalars': 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()['scalars']}


def shown(values):
    """TensorBoard keeps 32 bits."""
    return [(step, float(np.float32(value))) for step, value in values]


def check_search(folder, scores):
    """The search's scalars are those of the table of its candidates, and each step is there once."""
    scores = scores.sort_values('candidate')
    kinds = scores.status.where(scores.status.isin(['failed', 'filtered']), 'scored')
    best = scores.score.cummax().ffill()
    expected = {
        'search/seconds': scores.seconds,
        'search/score': scores.score.dropna(),
        'search/best_score': best.dropna(),
        **{f'search/{kind}': (kinds == kind).cumsum() for kind in ('scored', 'failed', 'filtered')},
    }
    found = read(scalars_folder(folder) / 'search')
    assert found.keys() == expected.keys()
    for tag, column in expected.items():
        assert found[tag] == shown(zip(scores.candidate[column.index], column)), tag


def new_record(folder, effort='full'):
    record = Record(record_path(folder))
    record.set_meta('effort', effort)
    return record


def add(record, *numbers):
    for number in numbers:
        record.add_scored({'n': number}, str(number), number * 1.1 % 1, 0.1, number)


@pytest.fixture
def often(monkeypatch):
    """Written every few milliseconds."""
    monkeypatch.setattr(scalars, 'INTERVAL', 0.005)


class TestSearch:
    @pytest.mark.parametrize('options', [{}, {'workers': 2}], ids=['process', 'workers'])
    def test_failed_candidates(self, options, tmp_path, often, forked_workers):
        strategy = KNAS(tiny_kernel(), 15, 1, **options)
        experiment = search(strategy, tmp_path, FaultySpace())
        scores = strategy.scores(all=True)
        assert {'failed', 'scored', 'trained'} <= set(scores.status)
        check_search(tmp_path / experiment.id, scores)

    def test_filtered_candidates(self, tmp_path):
        strategy = KNAS(tiny_kernel(), 10, 1, constraints={'parameters': 150})
        experiment = search(strategy, tmp_path)
        scores = strategy.scores(all=True)
        assert (scores.status == 'filtered').any()
        check_search(tmp_path / experiment.id, scores)

    def test_while_it_runs(self, tmp_path, often):
        seen = []

        class Peeking(LoggedMGM):
            def __call__(self, gradients):
                number = len(lines(tmp_path / 'log')) + 1
                if number == 9:
                    wait_until(lambda: number - 1 in [step for step, _ in shown_now()])
                seen.append(len(shown_now()))
                return super().__call__(gradients)

        def shown_now():
            return [
                each for path in tmp_path.glob('*/knas/tensorboard/search') for each in read(path).get('search/score', [])
            ]

        search(KNAS(tiny_kernel(score=Peeking(str(tmp_path / 'log'))), 12, 0), tmp_path)
        assert seen[8] == 8 and seen == sorted(seen)

    def test_in_the_order_of_exploration_where_workers_are_not(self, tmp_path):
        record = new_record(tmp_path)
        writer = scalars._SearchScalars(record.path, scalars_folder(tmp_path) / 'search')
        add(record, 1, 3, 4)
        writer.write()
        assert [step for step, _ in read(scalars_folder(tmp_path) / 'search')['search/score']] == [1]
        add(record, 2)
        writer.write()
        writer.close()
        check_search(tmp_path, record.frame())

    def test_a_candidate_that_is_given_up_holds_nothing_back_at_the_end(self, tmp_path):
        record = new_record(tmp_path)
        with search_scalars(record):
            add(record, 1, 2, 4, 5)
        check_search(tmp_path, record.frame())

    def test_nothing_where_the_record_is_not_in_an_experiment(self, tmp_path):
        for record in (Record(None), Record(tmp_path / 'record.sqlite')):
            with search_scalars(record):
                add(record, 1, 2)
        assert {path.name for path in tmp_path.iterdir()} == {'record.sqlite', 'record.sqlite-wal', 'record.sqlite-shm'}

    def test_costs_next_to_nothing(self, tmp_path):
        """A look once a second that finds nothing new, and one that finds more candidates than a second ever brings."""
        record = new_record(tmp_path)
        with record.transaction():
            add(record, *range(1, 2001))
        writer = scalars._SearchScalars(record.path, scalars_folder(tmp_path) / 'search')
        (_, first), (_, again) = counted(writer.write), counted(writer.write)
        assert 2000 <= first < 200 * 2000 and 0 < again < 50
        writer.close()


class TestResumed:
    def test_killed(self, tmp_path):
        """Killed after some of its candidates were written, and before others were."""
        let(tmp_path, score=7)
        process = start('run', tmp_path)
        folder = tmp_path / 'killed'
        wait_until(lambda: read(scalars_folder(folder) / 'search').get('search/score'))
        wait_until(lambda: len(lines(tmp_path / 'scored')) == 7)
        kill(process)
        written = len(read(scalars_folder(folder) / 'search')['search/score'])
        assert 0 < written < 15
        let(tmp_path)
        assert start('resume', tmp_path).wait() == 0
        scores = open_run(folder).scores(all=True)
        assert len(scores) == 15
        check_search(folder, scores)
        assert len(list(scalars_folder(folder).glob('search/*'))) == 2

    @pytest.mark.parametrize('lost', [1, 20, 200, 10_000])
    def test_what_a_kill_left_half_written(self, lost, tmp_path):
        record = new_record(tmp_path)
        add(record, *range(1, 11))
        with search_scalars(record):
            pass
        [path] = scalars_folder(tmp_path).glob('search/*')
        os.truncate(path, max(0, path.stat().st_size - lost))
        with search_scalars(record):
            add(record, *range(11, 15))
        check_search(tmp_path, record.frame())

    def test_a_gap_that_an_interrupted_run_left_is_filled(self, tmp_path):
        record = new_record(tmp_path)
        with pytest.raises(KeyboardInterrupt), search_scalars(record):
            add(record, 1, 2, 4, 5)
            raise KeyboardInterrupt
        assert [step for step, _ in read(scalars_folder(tmp_path) / 'search')['search/score']] == [1, 2]
        with search_scalars(record):
            add(record, 3, 6)
        check_search(tmp_path, record.frame())

    def test_nothing_is_new(self, tmp_path):
        record = new_record(tmp_path)
        add(record, *range(1, 11))
        for _ in range(3):
            with search_scalars(record):
                pass
        check_search(tmp_path, record.frame())
        assert len(list(scalars_folder(tmp_path).glob('search/*'))) == 1


class TestAdaptiveEffort:
    """Quick scores by the candidates' numbers, full ones one after the other."""

    @pytest.mark.parametrize('stops', [[], [70], [155], [40, 115, 3, 17]])
    def test_search(self, stops, tmp_path, often):
        for i, stop in enumerate(stops):
            with pytest.raises(KeyboardInterrupt):
                explore(MadeUp(10 + i, dies_after=stop), record_path(tmp_path))
        scores = explore(MadeUp(20), record_path(tmp_path)).scores(all=True).sort_values('candidate')
        found = read(scalars_folder(tmp_path) / 'search')
        assert found['search/quick_score'] == shown(zip(scores.candidate, scores.quick))
        assert found['search/best_quick_score'] == shown(zip(scores.candidate, scores.quick.cummax()))
        assert found['search/scored'] == shown(zip(scores.candidate, scores.candidate))

        full = scores.set_index('candidate').score.dropna()
        steps, numbers = zip(*found['search/candidate'])
        assert steps == tuple(range(1, len(full) + 1)) and sorted(numbers) == list(full.index)
        in_order = full[list(numbers)]
        assert found['search/score'] == shown(zip(steps, in_order))
        assert found['search/best_score'] == shown(zip(steps, in_order.cummax()))

    def test_candidates_that_cannot_be_scored(self, tmp_path):
        """Those without a quick score count as failed, though they may have a full one in the end."""
        record = new_record(tmp_path, 'adaptive')
        with search_scalars(record):
            for number, quick in enumerate([0.5, None, 0.25], start=1):
                record.add_screened({'n': number}, str(number), quick, 0.1, number)
            record.add_filtered({'n': 4}, '4', 'too large', 0.1, 4)
            record.rate(2, 3.0, None, 0.1)
            record.rate(1, None, 'broken', 0.1)
        found = read(scalars_folder(tmp_path) / 'search')
        assert found['search/quick_score'] == [(1, 0.5), (3, 0.25)]
        assert found['search/best_quick_score'] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)]
        assert [found[f'search/{kind}'][-1] for kind in ('scored', 'failed', 'filtered')] == [(4, 2), (4, 1), (4, 1)]
        assert (found['search/candidate'], found['search/score'], found['search/best_score']) == (
            [(1, 2)],
            [(1, 3)],
            [(1, 3)],
        )


def curve(network):
    """A training with intermediate results, of several metrics each, and one that is no number."""
    for step in range(1, 5):
        nni.report_intermediate_result({'default': step / 8, 'loss': 1 / step, 'note': 'fine'})
    nni.report_final_result({'default': 0.75, 'loss': 0.2})


CURVE = {
    'trial/metric': [(step, step / 8) for step in range(1, 5)],
    'trial/loss': shown((n, 1 / n) for n in range(1, 5)),
    'trial/final_metric': [(4, 0.75)],
    'trial/final_loss': shown([(4, 0.2)]),
}


class TestTrials:
    def test_of_the_sequential_engine(self, tmp_path):
        strategy = KNAS(tiny_kernel(), 8, 3, choose='rank')
        experiment = search(strategy, tmp_path, evaluator=FunctionalEvaluator(curve))
        trained = strategy.scores(all=True).iloc[:3]
        folder = scalars_folder(tmp_path / experiment.id)
        trials = {f'trial-{number}' for number in trained.candidate}
        assert {path.name for path in folder.iterdir()} == {'search', 'fine', *trials}
        for rank, row in trained.iterrows():
            assert read(folder / f'trial-{row.candidate}') == {
                **CURVE,
                'trial/kernel_score': shown([(0, row.score)]),
                'trial/kernel_rank': [(0, rank)],
            }

    def test_of_the_fine_stage(self, tmp_path):
        sizes = FunctionalEvaluator(prefer_small)
        experiment = search(KNAS(tiny_kernel(), 27, 12, choose='learn'), tmp_path, evaluator=sizes)
        run = open_run(tmp_path / experiment.id)
        choices, found = run.choices(), read(scalars_folder(run.folder) / 'fine')
        assert found['fine/metric'] == [*choices.metric.items()] and found['fine/rank'] == [*choices['rank'].items()]
        assert found['fine/best_metric'] == [*choices.metric.cummax().items()]
        assert found['fine/predicted_metric'] == shown(choices.predicted.dropna().items())
        assert found['fine/rank_correlation'] == shown(choices.correlation.dropna().items())
        assert found['fine/failed'] == [(step, 0.0) for step in range(1, 13)]
        last = run.learner().weights().weight
        assert {name: found[f'fine/weight/{name}'][-1] for name in last.index} == {
            name: shown([(12, value)])[0] for name, value in last.items()
        }
        record = Record(record_path(run.folder))  # the run goes on
        with fine_scalars(record):
            record.add_result(run.scores(all=True).query('status == "scored"').candidate.iloc[-1].item(), -40.0)
        more = read(scalars_folder(run.folder) / 'fine')['fine/metric']
        assert more == [*found['fine/metric'], (13, -40.0)]

    def test_metrics_that_are_numbers(self, tmp_path):
        def trains(network):
            nni.report_intermediate_result(0.25)
            nni.report_final_result(0.5)

        strategy = KNAS(tiny_kernel(), 8, 1)
        experiment = search(strategy, tmp_path, evaluator=FunctionalEvaluator(trains))
        found = read(scalars_folder(tmp_path / experiment.id) / f'trial-{strategy.scores(all=True).candidate.iloc[0]}')
        assert found['trial/metric'] == [(1, 0.25)] and found['trial/final_metric'] == [(1, 0.5)]

    def test_a_training_that_begins_anew_replaces_what_there_was(self, tmp_path):
        for values in ([0.5, 0.75, 0.875], [0.25]):
            with trial_scalars(tmp_path, 7, kernel_score=2.0) as report:
                for value in values:
                    report(False, {'default': value})
        assert read(scalars_folder(tmp_path) / 'trial-7') == {'trial/kernel_score': [(0, 2.0)], 'trial/metric': [(1, 0.25)]}

    def test_while_it_runs(self, tmp_path, often):
        """Also where the same dict is reported again and again, with other numbers in it."""
        metric = {}
        with trial_scalars(tmp_path, 7, kernel_score=2.0) as report:
            for step in range(1, 4):
                metric['default'] = step / 4
                report(False, metric)
                metric['default'] = -1.0
                wait_until(lambda step=step: len(read(scalars_folder(tmp_path) / 'trial-7').get('trial/metric', ())) == step)
        assert read(scalars_folder(tmp_path) / 'trial-7')['trial/metric'] == [(1, 0.25), (2, 0.5), (3, 0.75)]

    def test_metrics_of_any_size(self, tmp_path):
        with trial_scalars(tmp_path, 7) as report:
            for value in (1e300, -math.inf, 0.5, True):
                report(False, {'default': value})
        values = [value for _, value in read(scalars_folder(tmp_path) / 'trial-7')['trial/metric']]
        assert values == [math.inf, -math.inf, 0.5, 1.0]

    def test_a_failing_training_keeps_what_it_reported(self, tmp_path):
        with pytest.raises(RuntimeError), trial_scalars(tmp_path, 7) as report:
            report(False, {'default': 0.25})
            raise RuntimeError('broken')
        assert read(scalars_folder(tmp_path) / 'trial-7')['trial/metric'] == [(1, 0.25)]

    @pytest.mark.parametrize('folder', [None, Path('/no/such/folder')], ids=['no folder', 'on another machine'])
    def test_nothing_without_the_experiments_folder(self, folder):
        with trial_scalars(folder, 7, kernel_score=2.0) as report:
            report(True, {'default': 0.5})
        assert not Path('/no').exists()


class Broken:
    """A module of a package that does not go with another one."""

    def __init__(self):
        self.tries = 0

    def __getattr__(self, name):
        if name != 'RecordWriter':
            raise AttributeError(name)
        self.tries += 1
        raise TypeError('Descriptors cannot be created directly')


class TestWithoutTensorBoard:
    """That nothing imports it before it is needed is among the tests of the report, beside the other extras."""

    @pytest.mark.parametrize('module', [None, Broken()], ids=['missing', 'broken'])
    def test_nothing_is_written_or_said(self, module, tmp_path, often, monkeypatch, caplog, capfd):
        monkeypatch.setitem(sys.modules, WRITER, module)
        strategy = KNAS(tiny_kernel(score=LoggedMGM(os.devnull, 0.02)), 8, 2, choose='rank')
        experiment = search(strategy, tmp_path, evaluator=FunctionalEvaluator(curve))
        assert list(strategy.scores(all=True).status) == ['trained'] * 2 + ['scored'] * 6
        assert not scalars_folder(tmp_path / experiment.id).exists()
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert 'tensorboard' not in ''.join(capfd.readouterr()).lower()
        assert module is None or module.tries == 4  # for the search, its fine stage, and each training


# In NNI's portal.


class Portal:
    """NNI's portal in a browser, and the REST API of its manager."""

    def __init__(self, browser, port):
        self.browser = browser
        self.address = f'http://127.0.0.1:{port}'

    def rest(self, path, method='get'):
        return requests.request(method, f'{self.address}/api/v1/nni{path}', timeout=600)

    def press_tensorboard(self):
        """Select all trials in the detail page's table, and press the button; gives the window that it opens."""
        browser = self.browser
        browser.get(f'{self.address}/logs/knas.html#trials')
        boxes = '#tableList [data-automation-key="_selected"] input'
        wait_until(lambda: len(browser.find_elements('css selector', boxes)) == 2)
        for number in range(2):
            browser.execute_script('document.querySelectorAll(arguments[0])[arguments[1]].click()', boxes, number)
        button = '//*[@id="tableList"]//button[.="TensorBoard"]'
        wait_until(lambda: browser.find_element('xpath', button).is_enabled())
        browser.find_element('xpath', button).click()
        confirm = '//*[contains(@class, "dialog")]//button[.="Ok"]'
        wait_until(lambda: browser.find_elements('xpath', confirm))
        assert 'You are starting a new TensorBoard with trials' in browser.find_element('css selector', '.dialog').text
        [task] = self.rest('/tensorboard-tasks').json()
        wait_until(lambda: answers(f'http://127.0.0.1:{task["port"]}'))
        browser.find_element('xpath', confirm).click()
        wait_until(lambda: len(browser.window_handles) == 2)
        browser.switch_to.window(browser.window_handles[-1])
        return task


def answers(address):
    try:
        return requests.get(address, timeout=600).ok
    except requests.ConnectionError:
        return False


@pytest.mark.slow
def test_portals_button(browser, tmp_path, monkeypatch):
    """A person selects two trials that are being trained, presses the button, and sees these and the search."""
    monkeypatch.chdir(HELPERS)  # trials import from here
    strategy = KNAS(tiny_kernel(), candidates=10, top_k=2)
    experiment = NasExperiment(TinySpace(), FunctionalEvaluator(patient_curve, go=str(tmp_path / 'go')), strategy)
    experiment.config.experiment_working_directory = str(tmp_path)
    experiment.config.trial_concurrency = 2
    port, folder = free_port(), tmp_path / experiment.id

    def look():
        try:
            wait_until(lambda: len(list(scalars_folder(folder).glob('trial-*/*'))) == 2)
            return press_and_look(browser, port)
        finally:
            (tmp_path / 'go').touch()

    with ThreadPoolExecutor(1) as pool:
        try:
            looking = pool.submit(look)
            experiment.run(port)
            runs, processes = looking.result()
            scores = strategy.scores(all=True)
        finally:
            experiment.stop()
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    check_search(folder, scores)
    in_search = read(scalars_folder(folder) / 'search')
    assert len(runs) == 6
    for rank, row in scores.iloc[:2].iterrows():
        found = read(scalars_folder(folder) / f'trial-{row.candidate}')
        assert found['trial/kernel_rank'] == [(0, rank)] and found['trial/kernel_score'] == shown([(0, row.score)])
        assert found['trial/metric'] == CURVE['trial/metric'][:3] and found['trial/final_metric'] == [(3, 0.75)]
        live = {tag: values for tag, values in found.items() if tag != 'trial/final_metric'}
        [trial] = {run.split('/')[0] for run, tags in runs.items() if tags == live}
        assert runs[f'{trial}/search'] == in_search and runs[f'{trial}/own'] == {'mine': [(1, 0.25)]}


def press_and_look(browser, port):
    """What TensorBoard serves by the run and tag, and the processes that were started for it."""
    portal = Portal(browser, port)
    try:
        task = portal.press_tensorboard()
        data = f'http://127.0.0.1:{task["port"]}/data/plugin/scalars'
        wait_until(
            lambda: (
                sum(
                    'trial/metric' in tags or 'search/score' in tags or 'mine' in tags
                    for tags in requests.get(f'{data}/tags').json().values()
                )
                == 6
            )
        )
        assert {trial['status'] for trial in portal.rest('/trial-jobs').json()} == {'RUNNING'}
        runs = {
            run: {
                tag: [(step, value) for _, step, value in requests.get(f'{data}/scalars', {'run': run, 'tag': tag}).json()]
                for tag in tags
            }
            for run, tags in requests.get(f'{data}/tags').json().items()
        }
        browser.refresh()
        wait_until(lambda: all(run in browser.find_element('tag name', 'body').text for run in runs))
        processes = [
            process
            for process in psutil.process_iter(['cmdline'])
            if f'--port={task["port"]}' in (process.info['cmdline'] or ())
        ]
        assert processes
        assert portal.rest('/tensorboard-tasks', 'delete').ok
        psutil.wait_procs(processes, 600)
        return runs, processes
    finally:
        portal.rest('/tensorboard-tasks', 'delete')
