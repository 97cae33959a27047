"""The tuner in experiments that nnictl starts, as a user types it, and the web portal as a user sees it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import psutil
import pytest
import requests
import torch
import yaml
from nni.tools.nnictl.config_utils import Experiments
from panels import check_panels
from patient import ENVIRONMENT
from places import HELPERS
from portal import table
from servers import free_port, wait_until
from spaces import TinySpace, vector_dataset, vectors

from nni_knas import GradientKernelEvaluator, open_run
from nni_knas import nnictl as repaired
from nni_knas.cli import main
from nni_knas.tuner import meta_file

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


class Nnictl:
    """nnictl as a subprocess, with a folder of its own for experiments and for what is registered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            'NNI_CONFIG_DIR': str(folder / 'nni'),
            'PATH': f'{BIN}:{os.environ["PATH"]}',
            'OMP_NUM_THREADS': '1',
            'KNAS_TEST_LOG': str(folder / 'log'),
            'KNAS_TEST_GATE': str(folder / 'may score'),
            **ENVIRONMENT,
        }
        self.experiments: list[str] = []
        self.port = 0

    def __call__(self, *arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, HELPERS / 'patient.py', *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return re.sub(r'\x1b\[\d*m', '', result.stdout + result.stderr)

    def knas(self, *arguments: str) -> str:
        """A command of nni-knas."""
        output = io.StringIO()
        with mock.patch.dict(os.environ, self.environment), contextlib.redirect_stdout(output):
            assert main(arguments) == 0
        return output.getvalue()

    def create(self, class_args: dict, **config) -> str:
        """Start an experiment; gives its id."""
        content = {
            'searchSpace': {},
            'trialCommand': 'python -m nni_knas.trial',
            'trialCodeDirectory': str(HELPERS),
            'trialConcurrency': 2,
            'experimentWorkingDirectory': str(self.folder),
            'trainingService': {'platform': 'local'},
            'tuner': {'name': 'KNAS', 'classArgs': class_args},
            **config,
        }
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
        return requests.get(f'http://127.0.0.1:{self.port}/api/v1/nni{path}', timeout=600).json()

    def status(self) -> str:
        return self.get('/check-status')['status']

    def trials(self) -> list[dict]:
        """Of each trial: its parameters, its final metrics, and its status."""
        return [
            {
                'parameters': json.loads(job['hyperParameters'][0])['parameters'],
                'status': job['status'],
                'final': json.loads(json.loads(job['finalMetricData'][-1]['data'])) if job.get('finalMetricData') else None,
            }
            for job in self.get('/trial-jobs')
        ]

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


ARGUMENTS = {
    'space': 'nnictl_models:GatedSpace',
    'data': 'nnictl_models:data',
    'evaluator': 'nnictl_models:evaluator',
    'candidates': 10,
    'top_k': 3,
    'batch_size': 8,
}


def over(nnictl: Nnictl, trials: int) -> bool:
    """Whether the experiment has had so many trials and wants no more."""
    statuses = [trial['status'] for trial in nnictl.trials()]
    return nnictl.status() == 'TUNER_NO_MORE_TRIAL' and statuses == ['SUCCEEDED'] * trials


@pytest.fixture(scope='module')
def scoring(tmp_path_factory, registered) -> Iterator[SimpleNamespace]:
    """A search that is held while it scores."""
    nnictl = Nnictl(tmp_path_factory.mktemp('search'))
    nnictl.environment['NNI_CONFIG_DIR'] = registered
    (nnictl.folder / 'may score').write_text('5')
    arguments = {**ARGUMENTS, 'candidates': 27}
    identity = nnictl.create(arguments, trialConcurrency=3)  # all start together
    yield SimpleNamespace(nnictl=nnictl, identity=identity, folder=nnictl.folder / identity, arguments=arguments)
    nnictl.end(identity)


@pytest.fixture(scope='module')
def search(scoring) -> SimpleNamespace:
    """The same search when it has trained its best; the manager is there."""
    (scoring.nnictl.folder / 'may score').unlink(missing_ok=True)
    wait_until(lambda: over(scoring.nnictl, 3))
    wait_until(lambda: 'KNAS: scored 27 candidates and trained 3 for ' in scoring.nnictl.log(scoring.identity))
    return SimpleNamespace(**vars(scoring), run=open_run(scoring.folder))


class TestSearch:
    """From one YAML file to the portal: what is seen of one experiment, in this order."""

    def test_everything_responds_while_it_scores(self, scoring):
        """No request waits for the dispatcher."""
        nnictl = scoring.nnictl
        wait_until(lambda: 'candidates scored' in nnictl.log(scoring.identity))
        for path in ('/check-status', '/trial-jobs', '/experiment', '/metric-data'):
            nnictl.get(path)
        assert nnictl.status() == 'RUNNING' and nnictl.trials() == []
        assert scoring.identity in nnictl('experiment', 'list', '--all')
        assert len(open_run(scoring.folder).scores(all=True)) < 27

    def test_trials(self, search):
        scores = search.run.scores(all=True)
        check_panels(search.run, GradientKernelEvaluator(vector_dataset(), batch_size=8), TinySpace())
        assert list(scores.status) == ['trained'] * 3 + ['scored'] * 24
        trials = sorted(search.nnictl.trials(), key=lambda trial: trial['parameters']['kernel_rank'])
        for (rank, row), trial in zip(scores.iloc[:3].iterrows(), trials, strict=True):
            architecture = {label: trial['parameters'][label] for label in ('width', 'inner', 'outer')}
            assert architecture == row.architecture and trial['parameters']['kernel_rank'] == rank
            assert trial['final'] == {'default': row.metric, 'kernel_score': row.score, 'kernel_rank': rank}

    def test_portal(self, search, browser):
        """What a person sees: the trials with metric, score and rank, and the search space."""
        browser.get(f'http://127.0.0.1:{search.nnictl.port}/logs/knas.html#trials')
        wait_until(lambda: len(table(browser)) == 3 and all(row.get('metric/kernel_rank') for row in table(browser)))
        rows = {int(row['metric/kernel_rank']): row for row in table(browser)}
        assert sorted(rows) == [1, 2, 3]
        for rank, row in search.run.scores(all=True).iloc[:3].iterrows():
            assert float(rows[rank]['metric/kernel_score']) == pytest.approx(row.score, rel=1e-4)
            assert float(rows[rank]['latestAccuracy'].split()[0]) == pytest.approx(row.metric, rel=1e-3)
        assert 'kernel_score (metric)' in browser.find_element('id', 'tableList').text
        browser.get(f'http://127.0.0.1:{search.nnictl.port}/oview')
        wait_until(lambda: 'TUNER_NO_MORE_TRIAL' in body(browser).replace('\n', '').replace(' ', ''))
        browser.find_element('xpath', '//div[text()="Search-space"]/..').click()
        wait_until(lambda: all(word in body(browser) for word in ('inner', 'outer', 'width', 'sigmoid')))

    def test_export(self, search):
        nnictl, run = search.nnictl, search.run
        nnictl('experiment', 'export', search.identity, '--filename', str(nnictl.folder / 'export.json'), '--type', 'json')
        exported = json.loads((nnictl.folder / 'export.json').read_text())
        assert sorted(entry['parameter']['kernel_rank'] for entry in exported) == [1, 2, 3]
        nnictl.knas('export', str(run.folder), '--to', str(nnictl.folder / 'winner'), '--formats', 'state-dict')
        weights = torch.load(nnictl.folder / 'winner' / 'winner.pt', weights_only=True)
        assert all(torch.equal(weights[name], value) for name, value in run.network().state_dict().items())
        assert run.metric == run.scores(all=True).metric.max() and run.network()(vectors()[0]).shape == (20, 3)

    def test_energy(self, search):
        """What is said of a run beside a dispatcher: energy, learning curves, how to start it again."""
        nnictl, run = search.nnictl, search.run
        footprint, ranking = run.footprint(), run.ranking(all=True)
        assert run.status == 'running'
        results = [json.loads(path.read_text()) for path in (run.folder / 'knas' / 'results').glob('*.json')]
        own = sum(each.own for each in run.record.energies() if each.stage == 'fine')
        assert own >= 0.9 * sum(result['cpu'] for result in results) > 0
        assert (ranking.training_kwh > 0).all() and ranking.training_kwh.sum() <= 1.05 * footprint.stages.kwh['fine']
        assert footprint.statement.startswith('scored 27 candidates and trained 3 for ')
        assert f'KNAS: {footprint.statement}.' in nnictl.log(search.identity)
        curves = run.curves()
        # It reports its loss twice.
        assert sorted(curves['rank']) == [1, 2, 3] and set(curves.metric) == set(ranking.metric)
        nnictl.knas('report', run.folder.name, '--to', str(nnictl.folder / 'page.html'))
        page = (nnictl.folder / 'page.html').read_text()
        assert footprint.statement.split(';')[0] in page and 'class="network"' in page
        [session] = run.sessions()
        assert session.about['command'] in page
        path = Path(session.about['command'].split()[-1])
        assert yaml.safe_load(path.read_text())['tuner']['classArgs'] == search.arguments

    def test_import_and_new_search_space(self, search):
        """A result from elsewhere is not trained again; a new search space takes effect while the experiment runs."""
        nnictl, run = search.nnictl, search.run
        narrow = {'inner': {'_type': 'choice', '_value': ['relu']}, 'width': {'_type': 'choice', '_value': [4, 8]}}

        def inside():
            scores = run.scores(all=True)
            return scores[[sample['inner'] == 'relu' and sample['width'] < 16 for sample in scores.architecture]]

        *others, last = [row.architecture for _, row in inside().iloc[:3].iterrows() if row.status == 'scored']
        assert others and last
        (nnictl.folder / 'import.json').write_text(
            json.dumps([{'parameter': architecture, 'value': 0.75} for architecture in others])
        )
        nnictl('experiment', 'import', search.identity, '--filename', str(nnictl.folder / 'import.json'))
        wait_until(lambda: (run.scores(all=True).metric == 0.75).sum() == len(others))

        (nnictl.folder / 'space.json').write_text(json.dumps(narrow))
        nnictl('update', 'searchspace', search.identity, '--filename', str(nnictl.folder / 'space.json'))
        wait_until(lambda: set(inside().status.iloc[:3]) == {'trained'})
        assert len(nnictl.trials()) == 4  # none for what was imported
        scores = run.scores(all=True)
        assert len(scores) == 27  # all of the new space were known
        outside = scores[scores.status == 'outside']
        assert len(outside) and all(sample['inner'] != 'relu' or sample['width'] == 16 for sample in outside.architecture)

    def test_nothing_is_done_again_when_it_is_resumed(self, search):
        nnictl, run = search.nnictl, search.run
        count = len(nnictl.trials())
        wait_until(lambda: over(nnictl, count))
        before = run.scores(all=True)
        nnictl('stop', search.identity)
        wait_until(lambda: run.status == 'finished')
        nnictl.resume(search.identity)
        wait_until(lambda: over(nnictl, count))
        assert run.scores(all=True).equals(before)


def body(browser) -> str:
    return browser.find_element('tag name', 'body').text


def test_kill_and_resume(nnictl):
    """Killed while it scores, and again while it trains: nothing that was done is done again."""
    log, may_score, may_train = (nnictl.folder / name for name in ('trained', 'may score', 'may train'))
    may_score.write_text('6')
    may_train.write_text('1')
    identity = nnictl.create({**ARGUMENTS, 'evaluator_args': {'log': str(log), 'gate': str(may_train)}}, trialConcurrency=1)
    folder = nnictl.folder / identity
    wait_until(lambda: (folder / 'knas').exists() and len(open_run(folder).scores(all=True)) > 2)
    kill(identity)
    before = open_run(folder).scores(all=True)
    assert len(before) < 10

    may_score.unlink()
    nnictl.resume(identity)
    wait_until(lambda: 'trained' in open_run(folder).scores(all=True).status.values)
    after = open_run(folder).scores(all=True).set_index('candidate')
    assert after.loc[before.candidate, 'seconds'].tolist() == before.seconds.tolist()  # none was scored again
    kill(identity)

    # nni-knas finds the run, too, and takes it up.
    may_train.unlink()
    assert identity in nnictl.knas('list', '--directory', str(nnictl.folder))
    shown = nnictl.knas('show', str(folder))
    assert 'Status: killed; ' in shown and 'nnictl_models:GatedSpace' in shown
    nnictl.knas('resume', str(folder), '--port', str(free_port()))
    wait_until(lambda: sorted(open_run(folder).scores(all=True).status) == ['scored'] * 7 + ['trained'] * 3)
    assert len([line for line in log.read_text().splitlines() if line.startswith('end')]) == 3


def kill(identity: str) -> None:
    manager = psutil.Process(Experiments().get_all_experiments()[identity]['pid'])
    family = [manager, *manager.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=600)


def test_own_network_and_trial_command(nnictl):
    """A search space in JSON, a function, a trial command that knows nothing of KNAS, and a metric to be minimised.

    What is trained is chosen by what was learnt, and a trial is told why, and what is expected of it.
    """
    space = {'width': {'_type': 'choice', '_value': [4, 8, 16, 32]}, 'dropout': {'_type': 'uniform', '_value': [0.1, 0.5]}}
    (nnictl.folder / 'search_space.json').write_text(json.dumps(space))
    arguments = {
        'network': 'nnictl_models:build',
        'data': 'nnictl_models:data',
        'candidates': 8,
        'top_k': 4,
        'batch_size': 8,
        'optimize_mode': 'minimize',
        'choose': 'learn',
    }
    # Trials that start together may get one another's parameters where neither manager nor trial knows of KNAS.
    config = {
        'searchSpaceFile': str(nnictl.folder / 'search_space.json'),
        'trialCommand': 'python own_trial.py',
        'trialConcurrency': 1,
    }
    identity = nnictl.create(arguments, searchSpace=None, **config)
    wait_until(lambda: over(nnictl, 4))
    run = open_run(nnictl.folder / identity)
    wait_until(lambda: run.record.count('trained') == 4)
    widths = [architecture['width'] for architecture in run.ranking(all=True).architecture]
    assert widths == sorted(widths) and run.metric == widths[0]  # the trial command reports the width
    received = (nnictl.folder / 'log').read_text().splitlines()
    choices = run.choices()
    told = [['predicted_metric'] if expected == expected else [] for expected in choices.predicted]
    about = ['dropout', 'kernel_rank', 'kernel_score', 'knas_candidate', 'knas_reason']
    assert received == [repr([*about, *expected, 'width']) for expected in told]
    parameters = [trial['parameters'] for trial in nnictl.trials()]
    assert sorted((each['knas_candidate'], each['knas_reason'], each['kernel_rank']) for each in parameters) == sorted(
        zip(choices.candidate, choices.reason, choices['rank'])
    )


def test_mistake(nnictl):
    """The experiment ends with an error, and its log says why in a sentence, without a traceback."""
    identity = nnictl.create({**ARGUMENTS, 'candidats': 10})
    wait_until(lambda: nnictl.status() == 'ERROR')
    assert 'unknown field "candidats": did you mean "candidates"?' in nnictl.log(identity)
    assert 'Traceback' not in (nnictl.folder / identity / 'log' / 'dispatcher.log').read_text()


def test_registered(registered):
    """To nnictl as a user types it, and to that with repairs."""
    for command in ([BIN / 'nnictl'], [sys.executable, '-m', 'nni_knas.nnictl']):
        listed = subprocess.run(
            [*command, 'algo', 'list'], capture_output=True, text=True, env={**os.environ, 'NNI_CONFIG_DIR': registered}
        )
        assert listed.returncode == 0 and 'KNAS' in listed.stdout


def test_nnictl_with_repairs_checks_first(tmp_path, monkeypatch, capsys):
    """python -m nni_knas.nnictl: one sentence before anything is created."""
    path = tmp_path / 'config.yml'
    path.write_text(yaml.safe_dump({'tuner': {'name': 'KNAS', 'classArgs': {'candidats': 3}}}))
    monkeypatch.setattr(sys, 'argv', ['nnictl', 'create', '--config', str(path)])
    assert repaired.main() == 2
    assert capsys.readouterr().err == 'nni_knas.nnictl: unknown field "candidats": did you mean "candidates"?\n'
