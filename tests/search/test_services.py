"""NNI's local training service and its web portal, started as a user starts them."""

from __future__ import annotations

import threading

import nni
import pytest
from nni.experiment import rest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import Random
from places import HELPERS
from portal import table
from servers import free_port, wait_until
from spaces import TinySpace, lines, tiny_kernel, train, vector_dataset

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.networks.construction import build_network

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run an experiment on the local training service; it lives until the test ends."""
    monkeypatch.chdir(HELPERS)  # trials import from here
    experiments = []

    def run(evaluator, strategy, meanwhile=None, **config):
        experiment = NasExperiment(TinySpace(), evaluator, strategy)
        experiment.config.experiment_working_directory = str(tmp_path)
        for name, value in config.items():
            setattr(experiment.config, name, value)
        experiments.append(experiment)
        if meanwhile is not None:
            threading.Thread(target=meanwhile, args=(experiment,), daemon=True).start()
        experiment.run(free_port())
        return experiment

    yield run
    for experiment in experiments:
        experiment.stop()


def test_search_and_portal(run, tmp_path, browser_if_any):
    evaluator = FunctionalEvaluator(train, log=str(tmp_path / 'log'), learning_rate=nni.choice('learning_rate', [0.1, 0.2]))
    strategy = KNAS(tiny_kernel(), candidates=10, top_k=2, choose='rank')
    experiment = run(evaluator, strategy, trial_concurrency=2)
    scores = strategy.scores(all=True)
    assert scores.status.value_counts().to_dict() == {'scored': 8, 'trained': 2}

    # NNI knows score and rank of each trial.
    finals = sorted((job.finalMetricData[-1].data for job in experiment.list_trial_jobs()), key=lambda f: f['kernel_rank'])
    assert [final['kernel_rank'] for final in finals] == [1, 2]
    assert [final['kernel_score'] for final in finals] == list(scores.score.iloc[:2])
    assert [final['default'] for final in finals] == list(scores.metric.iloc[:2])

    if browser_if_any:
        check_portal(browser_if_any, experiment.port, scores)

    best = experiment.export_top_models(1)[0]
    experiment.stop()
    assert experiment.export_top_models(1)[0].sample == best.sample
    assert best.metric == scores.metric.max()


def check_portal(browser, port, scores):
    """What a person sees: a row a trial, with accuracy, score and rank."""
    browser.get(f'http://127.0.0.1:{port}/logs/knas.html#trials')
    rows = []

    def all_shown():
        rows[:] = table(browser)
        return len(rows) == 2 and all(row.get('metric/kernel_rank') for row in rows)

    wait_until(all_shown)
    assert browser.current_url.endswith('/detail')
    for row in rows:
        rank = int(row['metric/kernel_rank'])
        assert float(row['metric/kernel_score']) == pytest.approx(scores.score[rank], rel=1e-4)
        assert float(row['latestAccuracy'].split()[0]) == pytest.approx(scores.metric[rank], rel=1e-3)
    assert 'kernel_score (metric)' in browser.find_element('id', 'tableList').text

    browser.execute_script('document.querySelector(\'#tableList [data-automation-key="_expand"] i\').click()')
    wait_until(lambda: browser.find_elements('css selector', '.openRow .bgHyper'))
    parameters = browser.find_element('css selector', '.openRow .bgHyper').text
    assert all(word in parameters for word in ('width', 'inner', 'learning_rate', 'kernel_rank'))


def test_a_fine_stage_that_learns(run, browser_if_any):
    """The portal says of each trial why it was chosen, and what was expected of it."""
    strategy = KNAS(tiny_kernel(), candidates=27, top_k=5, choose='learn')
    experiment = run(FunctionalEvaluator(train), strategy, trial_concurrency=2)
    choices = strategy.open_run().choices()
    assert choices.status.tolist() == ['trained'] * 5 and choices.candidate.is_unique
    assert choices.predicted.notna().tolist()[3:] == [True] * 2  # two metrics are known by then
    jobs = {job.hyperParameters[0].parameters['knas_candidate']: job for job in experiment.list_trial_jobs()}
    for choice in choices.itertuples():
        job = jobs[choice.candidate]
        parameters, final = job.hyperParameters[0].parameters['mutation_summary'], job.finalMetricData[-1].data
        assert (parameters['knas_reason'], parameters['kernel_rank']) == (choice.reason, choice.rank)
        expected = pytest.approx(choice.predicted) if choice.predicted == choice.predicted else None
        assert parameters.get('predicted_metric') == final.get('predicted_metric') == expected
        assert final['default'] == choice.metric
    if browser_if_any:
        browser_if_any.get(f'http://127.0.0.1:{experiment.port}/logs/knas.html')
        wait_until(lambda: all(f' {reason} trained ' in _text_of_page(browser_if_any) for reason in choices.reason))


def _text_of_page(browser):
    return browser.find_element('id', 'table').text


def test_trials_that_start_together_get_their_own_parameters(run, tmp_path):
    gate, log = tmp_path / 'gate', tmp_path / 'log'
    gate.write_text('0')

    def let_go_when_all_have_started(experiment):
        wait_until(lambda: len(lines(log)) == 5)
        gate.unlink()

    strategy = KNAS(tiny_kernel(), candidates=10, top_k=5)
    experiment = run(
        FunctionalEvaluator(train, log=str(log), gate=str(gate)), strategy, let_go_when_all_have_started, trial_concurrency=5
    )
    jobs = experiment.list_trial_jobs()
    ranks = [
        (job.hyperParameters[0].parameters['mutation_summary']['kernel_rank'], job.finalMetricData[-1].data['kernel_rank'])
        for job in jobs
    ]
    assert len(ranks) == 5 and all(meant == ran for meant, ran in ranks)
    assert strategy.scores(all=True).metric.notna().sum() == 5


def test_budget_of_trials(run, tmp_path):
    """max_trial_number is NNI's manager's to keep: what it does not start is not waited for."""
    strategy = KNAS(tiny_kernel(), candidates=10, top_k=3)
    run(FunctionalEvaluator(train, log=str(tmp_path / 'log')), strategy, max_trial_number=1)
    assert list(strategy.scores(all=True).status.iloc[:3]) == ['trained', 'scored', 'scored']


def test_budget_of_time(run, tmp_path):
    """NNI lets trials that run when the time is over end, and starts no others; nothing waits for those."""
    gate, log = tmp_path / 'gate', tmp_path / 'log'
    gate.write_text('0')

    def end_of_time(experiment):
        wait_until(lambda: lines(log))
        profile = rest.get(experiment.port, '/experiment')
        profile['params']['maxExperimentDuration'] = '1s'
        rest.put(experiment.port, '/experiment?update_type=MAX_EXEC_DURATION', profile)
        wait_until(lambda: experiment.get_status() == 'NO_MORE_TRIAL')
        gate.unlink()

    strategy = KNAS(tiny_kernel(), candidates=10, top_k=4)
    run(FunctionalEvaluator(train, log=str(log), gate=str(gate)), strategy, end_of_time, max_experiment_duration='10h')
    assert list(strategy.scores(all=True).status.iloc[:4]) == ['trained', 'scored', 'scored', 'scored']


def test_trial_that_fails(run, tmp_path):
    strategy = KNAS(tiny_kernel(), candidates=5, top_k=1)
    with pytest.raises(RuntimeError, match=r'the trial ended as failed .*: RuntimeError: training is broken'):
        run(FunctionalEvaluator(train, log=str(tmp_path / 'log'), fails=True), strategy)
    assert strategy.scores(all=True).status.iloc[0] == 'training-failed'


def test_kernel_as_evaluator(run):
    """Without KNAS around it, in trials: the score is the same there."""
    kernel = GradientKernelEvaluator(nni.trace(vector_dataset)())
    experiment = run(kernel, Random(seed=0), max_trial_number=2, trial_concurrency=2)
    models = list(experiment.strategy.list_models())
    assert len(models) == 2
    space = SimplifiedModelSpace.from_model(TinySpace())
    for model in models:
        assert kernel.score(build_network(space.freeze(model.sample), seed=0)) == model.metric
