"""The placement in NNI's trials, on NNI's own services."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import portal
import psutil
import pytest
from nni.experiment.config import RemoteConfig, RemoteMachineConfig
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import RegularizedEvolution
from panels import check_panels
from places import HELPERS
from processes import Forked
from servers import free_port, wait_until
from simulated_service import tiny_scorer
from spaces import LoggedMGM, TinySpace, lines, tiny_kernel, train
from sshd import ssh_server

import nni_knas.bridge.experiment as experiment_module
from nni_knas import KNAS, open_run


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


def check_scores(source, count):
    """Scores and panels are those of this process, to the last bit; gives the table of a strategy or a run."""
    scorer, scores = tiny_scorer(score='mgm'), source.scores(all=True)
    assert len(scores) == count
    assert [scorer.score(sample).score for sample in scores.architecture] == list(scores.score)
    check_panels(source, scorer.kernel, TinySpace())
    return scores


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
        [killed] = [
            process
            for process in scoring_processes(folder)
            if trial_of(process)['NNI_TRIAL_JOB_ID'] == max(reports, key=lambda trial: len(reports[trial]))
        ]
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
    browser.get(f'http://127.0.0.1:{port}/logs/knas.html#trials')
    wait_until(lambda: len(portal.table(browser)) >= 2)
    return portal.table(browser)


@pytest.mark.slow
class TestSearch:
    def test_scores_are_those_of_any_other_placement(self, searched):
        scores = check_scores(searched.experiment.strategy, 12)
        assert scores.status.value_counts().to_dict() == {'scored': 11, 'trained': 1}

    def test_what_a_killed_trial_has_reported_is_not_scored_again(self, searched):
        """Nor what any other has. It may have been killed before its last report."""
        [killed] = [job for job in searched.experiment.list_trial_jobs() if job.status != 'SUCCEEDED']
        assert killed.status in experiment_module.UNSUCCESSFUL
        different = len({str(sample) for sample in searched.experiment.strategy.scores(all=True).architecture})
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
        ways = [search.strategy.scores(all=True).sort_values('candidate') for search in (searched.experiment, other)]
        assert list(ways[0].architecture) == list(ways[1].architecture)

    def test_the_portal_shows_it_while_it_runs(self, searched, browser):
        assert any(
            row['latestAccuracy'].endswith('(LATEST)') and 'candidates' in row['space/scoring'] for row in searched.rows
        )

    def test_the_portal_shows_it_all(self, searched, browser):
        """The best trials are trained models alone; the parameters of a chunk are readable; its progress is a curve."""
        port = searched.experiment.port
        browser.get(f'http://127.0.0.1:{port}/oview')
        wait_until(lambda: len(browser.find_elements('css selector', '[data-automationid="DetailsRow"]')) == 1)
        browser.get(f'http://127.0.0.1:{port}/logs/knas.html#trials')
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
    scores = check_scores(open_run(tmp_path / 'killed'), 10)
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
        machine = RemoteMachineConfig(
            host='127.0.0.1',
            port=server.port,
            user=server.user,
            ssh_key_file=str(server.key),
            python_path=str(Path(sys.executable).parent),
        )
        search.config.training_service = RemoteConfig(machine_list=[machine])
        search.config.nni_manager_ip = '127.0.0.1'  # what the machine calls this one
        search.run(free_port())
        scores = check_scores(search.strategy, 8)
        assert scores.status.iloc[0] == 'trained'
        assert all(job.logPath.startswith('127.0.0.1:') for job in search.list_trial_jobs())
        assert list(home.glob('nni-experiments/*/environments/remote-worker1/trials/*'))
        search.stop()
    assert not [
        process
        for process in psutil.process_iter(['cmdline'])
        if any(str(home) in word for word in process.info['cmdline'] or [])
    ]
