"""The tuner in experiments that nnictl starts, as a user types it, and the web portal as a user sees it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
import torch
import yaml
from nni.tools.nnictl.config_utils import Experiments
from portal import open_browser, table
from servers import free_port, wait_until

from nni_knas import open_run
from nni_knas.tuner import meta_file

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent
BIN = Path(sys.executable).parent


class Nnictl:
    """nnictl as a subprocess, with a folder of its own for experiments and for what is registered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, 'NNI_CONFIG_DIR': str(folder / 'nni'), 'PATH': f'{BIN}:{os.environ["PATH"]}',
                            'OMP_NUM_THREADS': '1', 'KNAS_TEST_LOG': str(folder / 'log')}
        self.experiments: list[str] = []
        self.port = 0

    def __call__(self, *arguments: str, check: bool = True) -> str:
        result = subprocess.run([BIN / 'nnictl', *arguments], capture_output=True, text=True, env=self.environment,
                                cwd=self.folder)
        assert result.returncode == 0 or not check, result.stdout + result.stderr
        return re.sub(r'\x1b\[\d*m', '', result.stdout + result.stderr)

    def knas(self, *arguments: str) -> str:
        """nni-knas as a subprocess."""
        result = subprocess.run([sys.executable, '-m', 'nni_knas', *arguments], capture_output=True, text=True,
                                env=self.environment, cwd=self.folder)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def create(self, class_args: dict, **config) -> str:
        """Start an experiment; gives its id."""
        content = {'searchSpace': {}, 'trialCommand': 'python -m nni_knas.trial', 'trialCodeDirectory': str(TESTS),
                   'trialConcurrency': 2, 'experimentWorkingDirectory': str(self.folder), 'trainingService':
                   {'platform': 'local'}, 'tuner': {'name': 'KNAS', 'classArgs': class_args}, **config}
        path = self.folder / 'config.yml'
        path.write_text(yaml.safe_dump(content))
        self.port = free_port()
        output = self('create', '--config', str(path), '--port', str(self.port))
        [identity] = re.findall(r'Experiment ID: (\w+)', output)
        self.experiments.append(identity)
        return identity

    def resume(self, identity: str) -> None:
        self.port = free_port()
        self('resume', identity, '--port', str(self.port), '--experiment_dir', str(self.folder))

    def get(self, path: str):
        return requests.get(f'http://127.0.0.1:{self.port}/api/v1/nni{path}', timeout=10).json()

    def status(self) -> str:
        return self.get('/check-status')['status']

    def trials(self) -> list[dict]:
        """Of each trial: its parameters, its final metrics, and its status."""
        return [{'parameters': json.loads(job['hyperParameters'][0])['parameters'], 'status': job['status'],
                 'final': json.loads(json.loads(job['finalMetricData'][-1]['data'])) if job.get('finalMetricData') else None}
                for job in self.get('/trial-jobs')]

    def log(self, identity: str) -> str:
        return ''.join(path.read_text() for path in (self.folder / identity / 'log').glob('*.log'))

    def end(self, identity: str) -> None:
        """Stop an experiment that is still there, by its process."""
        pid = Experiments().get_all_experiments().get(identity, {}).get('pid')
        if isinstance(pid, int) and psutil.pid_exists(pid) and identity in psutil.Process(pid).cmdline():
            manager = psutil.Process(pid)
            family = [manager, *manager.children(recursive=True)]
            manager.terminate()
            for process in psutil.wait_procs(family, timeout=30)[1]:
                process.kill()


@pytest.fixture(scope='module')
def registered(tmp_path_factory):
    """Folder in which NNI keeps what is registered; the tuner is."""
    nnictl = Nnictl(tmp_path_factory.mktemp('registered'))
    nnictl('algo', 'register', '--meta', str(meta_file()))
    return nnictl.environment['NNI_CONFIG_DIR']


@pytest.fixture
def nnictl(tmp_path, registered):
    nnictl = Nnictl(tmp_path)
    nnictl.environment['NNI_CONFIG_DIR'] = registered
    yield nnictl
    for identity in nnictl.experiments:
        nnictl.end(identity)


ARGUMENTS = {'space': 'nnictl_models:SlowSpace', 'data': 'nnictl_models:data', 'evaluator': 'nnictl_models:evaluator',
             'candidates': 10, 'top_k': 3, 'batch_size': 8}


def over(nnictl: Nnictl, trials: int) -> bool:
    """Whether the experiment has had so many trials and wants no more."""
    statuses = [trial['status'] for trial in nnictl.trials()]
    return nnictl.status() == 'TUNER_NO_MORE_TRIAL' and statuses == ['SUCCEEDED'] * trials


def test_search(nnictl):
    """From one YAML file to the portal."""
    assert 'KNAS' in nnictl('algo', 'list')
    nnictl.environment['KNAS_TEST_PAUSE'] = '1'
    identity = nnictl.create(ARGUMENTS, trialConcurrency=3)  # all start together

    # While it scores, everything responds: no request waits for the dispatcher.
    wait_until(lambda: 'candidates scored' in nnictl.log(identity))
    for path in ('/check-status', '/trial-jobs', '/experiment', '/metric-data'):
        start = time.monotonic()
        nnictl.get(path)
        assert time.monotonic() - start < 2
    assert nnictl.status() == 'RUNNING' and nnictl.trials() == []
    assert identity in nnictl('experiment', 'list', '--all')

    wait_until(lambda: over(nnictl, 3))
    scores = open_run(nnictl.folder / identity).scores()
    assert list(scores.status) == ['trained'] * 3 + ['scored'] * 7
    trials = sorted(nnictl.trials(), key=lambda trial: trial['parameters']['kernel_rank'])
    for (rank, row), trial in zip(scores.iloc[:3].iterrows(), trials, strict=True):
        architecture = {label: trial['parameters'][label] for label in ('width', 'inner', 'outer')}
        assert architecture == row.architecture and trial['parameters']['kernel_rank'] == rank
        assert trial['final'] == {'default': row.metric, 'kernel_score': row.score, 'kernel_rank': rank}
    if shutil.which('chromium') and shutil.which('chromedriver'):
        check_portal(nnictl.port, scores.iloc[:3])

    nnictl('experiment', 'export', identity, '--filename', str(nnictl.folder / 'export.json'), '--type', 'json')
    exported = json.loads((nnictl.folder / 'export.json').read_text())
    assert sorted(entry['parameter']['kernel_rank'] for entry in exported) == [1, 2, 3]
    run = open_run(nnictl.folder / identity)
    nnictl.knas('export', str(run.folder), '--to', str(nnictl.folder / 'winner'), '--formats', 'state-dict')
    weights = torch.load(nnictl.folder / 'winner' / 'winner.pt', weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in run.network().state_dict().items())
    assert run.metric == scores.metric.max() and run.network()(run_inputs()).shape == (20, 3)

    check_energy(nnictl, run)
    scores = run.scores()  # the report has measured what networks cost

    # Nothing is done again when it is resumed.
    nnictl('stop', identity)
    assert run.status == 'finished'
    nnictl.resume(identity)
    wait_until(lambda: over(nnictl, 3))
    assert len(nnictl.trials()) == 3
    assert open_run(nnictl.folder / identity).scores().equals(scores)


def check_energy(nnictl: Nnictl, run) -> None:
    """What is said of a run beside a dispatcher: energy, learning curves, how to start it again."""
    footprint, ranking = run.footprint(), run.ranking()
    assert run.status == 'running'
    results = [json.loads(path.read_text()) for path in (run.folder / 'knas' / 'results').glob('*.json')]
    own = sum(each.own for each in run.record.energies() if each.stage == 'fine')
    assert own >= 0.9 * sum(result['cpu'] for result in results) > 0
    assert (ranking.training_kwh > 0).all() and ranking.training_kwh.sum() <= 1.05 * footprint.stages.kwh['fine']
    assert footprint.statement.startswith('scored 10 candidates and trained 3 for ')
    assert f'KNAS: {footprint.statement}.' in nnictl.log(run.folder.name)
    curves = run.curves()
    assert sorted(curves['rank']) == [1, 2, 3] and set(curves.metric) == set(ranking.metric)  # it reports its loss twice
    nnictl.knas('report', run.folder.name, '--to', str(nnictl.folder / 'page.html'))
    page = (nnictl.folder / 'page.html').read_text()
    assert footprint.statement.split(';')[0] in page and 'class="network"' in page
    [session] = run.sessions()
    assert session.about['command'] in page
    path = Path(session.about['command'].split()[-1])
    assert yaml.safe_load(path.read_text())['tuner']['classArgs'] == ARGUMENTS


def run_inputs():
    from spaces import vectors

    return vectors()[0]


def check_portal(port: int, best) -> None:
    """What a person sees: the trials with metric, score and rank, and the search space."""
    browser = open_browser()
    try:
        browser.get(f'http://127.0.0.1:{port}/logs/knas.html')
        wait_until(lambda: len(table(browser)) == 3 and all(row.get('metric/kernel_rank') for row in table(browser)))
        rows = {int(row['metric/kernel_rank']): row for row in table(browser)}
        assert sorted(rows) == [1, 2, 3]
        for rank, row in best.iterrows():
            assert float(rows[rank]['metric/kernel_score']) == pytest.approx(row.score, rel=1e-4)
            assert float(rows[rank]['latestAccuracy'].split()[0]) == pytest.approx(row.metric, rel=1e-3)
        assert 'kernel_score (metric)' in browser.find_element('id', 'tableList').text
        browser.get(f'http://127.0.0.1:{port}/oview')
        wait_until(lambda: 'TUNER_NO_MORE_TRIAL' in body(browser).replace('\n', '').replace(' ', ''))
        browser.find_element('xpath', '//div[text()="Search-space"]/..').click()
        wait_until(lambda: all(word in body(browser) for word in ('inner', 'outer', 'width', 'sigmoid')))
    finally:
        browser.quit()


def body(browser) -> str:
    return browser.find_element('tag name', 'body').text


def test_kill_and_resume(nnictl):
    """Killed while it scores, and again while it trains: nothing that was done is done again."""
    nnictl.environment['KNAS_TEST_PAUSE'] = '0.2'
    log = nnictl.folder / 'trained'
    identity = nnictl.create({**ARGUMENTS, 'evaluator_args': {'log': str(log), 'seconds': 3}}, trialConcurrency=1)
    folder = nnictl.folder / identity
    wait_until(lambda: (folder / 'knas').exists() and len(open_run(folder).scores()) > 2)
    kill(identity)
    before = open_run(folder).scores()
    assert len(before) < 10

    nnictl.resume(identity)
    wait_until(lambda: log.exists() and any(line.startswith('end') for line in log.read_text().splitlines()))
    after = open_run(folder).scores().set_index('candidate')
    assert after.loc[before.candidate, 'seconds'].tolist() == before.seconds.tolist()  # none was scored again
    kill(identity)

    # nni-knas finds the run, too, and takes it up.
    assert identity in nnictl.knas('list', '--directory', str(nnictl.folder))
    shown = nnictl.knas('show', str(folder))
    assert 'interrupted' in shown and 'nnictl_models:SlowSpace' in shown
    nnictl.knas('resume', str(folder), '--port', str(free_port()))
    wait_until(lambda: list(open_run(folder).scores().status) == ['trained'] * 3 + ['scored'] * 7)
    ends = [line for line in log.read_text().splitlines() if line.startswith('end')]
    assert len(ends) == 3


def kill(identity: str) -> None:
    manager = psutil.Process(Experiments().get_all_experiments()[identity]['pid'])
    family = [manager, *manager.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)


def test_own_network_and_trial_command(nnictl):
    """A search space in JSON, a function, a trial command that knows nothing of KNAS, and a metric to be minimised."""
    space = {'width': {'_type': 'choice', '_value': [4, 8, 16, 32]}, 'dropout': {'_type': 'uniform', '_value': [0.1, 0.5]}}
    (nnictl.folder / 'search_space.json').write_text(json.dumps(space))
    arguments = {'network': 'nnictl_models:build', 'data': 'nnictl_models:data', 'candidates': 8, 'top_k': 4,
                 'batch_size': 8, 'optimize_mode': 'minimize'}
    config = {'searchSpaceFile': str(nnictl.folder / 'search_space.json'), 'trialCommand': 'python nnictl_models.py'}
    identity = nnictl.create(arguments, searchSpace=None, **config)
    wait_until(lambda: over(nnictl, 4))
    run = open_run(nnictl.folder / identity)
    widths = [architecture['width'] for architecture in run.ranking().architecture]
    assert widths == sorted(widths) and run.metric == widths[0]  # the trial command reports the width
    received = (nnictl.folder / 'log').read_text().splitlines()
    assert received == [repr(['dropout', 'kernel_rank', 'kernel_score', 'knas_candidate', 'width'])] * 4


def test_import_and_new_search_space(nnictl):
    """A result from elsewhere is not trained again; a new search space takes effect while the experiment runs."""
    identity = nnictl.create({**ARGUMENTS, 'candidates': 27, 'top_k': 2}, trialConcurrency=1)
    folder = nnictl.folder / identity
    wait_until(lambda: over(nnictl, 2))
    first = open_run(folder).scores()

    untrained = next(row for _, row in first.iterrows() if row.status == 'scored' and row.architecture['inner'] == 'relu')
    (nnictl.folder / 'import.json').write_text(json.dumps([{'parameter': untrained.architecture, 'value': 0.75}]))
    nnictl('experiment', 'import', identity, '--filename', str(nnictl.folder / 'import.json'))
    wait_until(lambda: open_run(folder).metric == 0.75)

    narrow = {'inner': {'_type': 'choice', '_value': ['relu']}, 'width': {'_type': 'choice', '_value': [4, 8]}}
    (nnictl.folder / 'space.json').write_text(json.dumps(narrow))
    nnictl('update', 'searchspace', identity, '--filename', str(nnictl.folder / 'space.json'))

    def best_of_the_new_space_are_trained():
        scores = open_run(folder).scores()
        inside = scores[[sample['inner'] == 'relu' and sample['width'] < 16 for sample in scores.architecture]]
        return set(inside.status.iloc[:2]) == {'trained'} and (scores.status == 'outside').sum() > 0

    wait_until(best_of_the_new_space_are_trained)
    scores = open_run(folder).scores()
    assert len(scores) == 27  # all of the new space were known
    outside = scores[scores.status == 'outside']
    assert all(sample['inner'] != 'relu' or sample['width'] == 16 for sample in outside.architecture)


def test_mistake(nnictl):
    """The experiment ends with an error, and its log says why in a sentence, without a traceback."""
    identity = nnictl.create({**ARGUMENTS, 'candidats': 10})
    wait_until(lambda: nnictl.status() == 'ERROR')
    assert 'unknown field "candidats": did you mean "candidates"?' in nnictl.log(identity)
    assert 'Traceback' not in (nnictl.folder / identity / 'log' / 'dispatcher.log').read_text()


def test_nnictl_with_repairs_checks_first(nnictl):
    """python -m nni_knas.nnictl: one sentence before anything is created."""
    path = nnictl.folder / 'config.yml'
    path.write_text(yaml.safe_dump({'tuner': {'name': 'KNAS', 'classArgs': {'candidats': 3}}}))
    result = subprocess.run([sys.executable, '-m', 'nni_knas.nnictl', 'create', '--config', str(path)], capture_output=True,
                            text=True, env=nnictl.environment)
    assert result.returncode == 2
    assert result.stderr == 'nni_knas.nnictl: unknown field "candidats": did you mean "candidates"?\n'
    listed = subprocess.run([sys.executable, '-m', 'nni_knas.nnictl', 'algo', 'list'], capture_output=True, text=True,
                            env=nnictl.environment)
    assert listed.returncode == 0 and 'KNAS' in listed.stdout
