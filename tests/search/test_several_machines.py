"""A search over several machines, two of which are lost: one in each stage."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from image_searches import without_times
from nni.experiment.config import RemoteConfig
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from places import HELPERS
from servers import free_port, wait_until
from spaces import LoggedMGM, TinySpace, lines, tiny_kernel, train
from sshd import ssh_server

from nni_knas import KNAS, open_run
from nni_knas.cli import main
from nni_knas.record import weights_path

CANDIDATES = 8


def make(folder, machines=()):
    """A search on these machines, or here; a file each holds up its scoring and its training."""
    gates = [folder / 'may score', folder / 'may train'] if machines else [None, None]
    kernel = tiny_kernel(score=LoggedMGM(str(folder / 'scored'), gate=gates[0]))
    placement = 'trials' if machines else 'process'
    strategy = KNAS(kernel, candidates=CANDIDATES, top_k=2, choose='rank', placement=placement)
    config = NasExperimentConfig('ts' if machines else 'sequential', 'simplified', 'remote' if machines else 'local')
    config.experiment_working_directory = str(folder)
    config.max_trial_number = 2
    if machines:
        config.trial_concurrency = 2
        config.training_service = RemoteConfig(machine_list=[each.machine() for each in machines])
        config.nni_manager_ip = '127.0.0.1'
        for gate in gates:
            gate.write_text('0')
    evaluator = FunctionalEvaluator(train, log=str(folder / 'trained'), gate=str(gates[1]) if machines else None)
    return NasExperiment(TinySpace(), evaluator, strategy, config)


def hosts_at_work(search):
    """The machines that run trials now."""
    running = [job.logPath for job in search.list_trial_jobs() if job.status == 'RUNNING' and job.logPath]
    return [path.partition(':')[0] for path in running]


def lose(search, machines, log, count):
    """Switch a machine off when two are at work, and the log has so many lines."""
    wait_until(lambda: len(lines(log)) >= count and len(set(hosts_at_work(search))) == 2)
    lost = next(machine for machine in machines if machine.address == hosts_at_work(search)[-1])
    lost.die()
    return lost


def lose_two(search, machines, folder):
    """Machines are switched off over a candidate that is scored, and over one that is trained."""
    (folder / 'may score').write_text('1')
    yield lose(search, machines, folder / 'scored', 1)
    (folder / 'may score').unlink()
    yield lose(search, machines, folder / 'trained', 2)
    (folder / 'may train').unlink()


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    """The search, its folder, the machines, and those of them that were lost."""
    home = tmp_path_factory.mktemp('several')
    with contextlib.ExitStack() as stack:
        machines = []
        for number in (2, 3, 4):
            (home / f'machine{number}').mkdir()
            machines.append(stack.enter_context(ssh_server(home / f'machine{number}', f'127.0.0.{number}')))
        stack.enter_context(pytest.MonkeyPatch.context()).chdir(HELPERS)  # trials import from here
        search, lost = make(home, machines), []
        stack.callback(search.stop)
        thread = threading.Thread(target=lambda: lost.extend(lose_two(search, machines, home)), daemon=True)
        thread.start()
        search.run(free_port())
        thread.join(10)
        yield search, home, machines, lost
    wait_until(lambda: not any(machine.processes() for machine in machines), 60)


@pytest.mark.slow
class TestSeveralMachines:
    def test_nothing_is_lost_with_a_machine(self, searched, tmp_path):
        """Scores and panels are those of a search in one process, to the last bit, and so are the ones that are trained."""
        search, _, _, lost = searched
        assert len({machine.address for machine in lost}) == 2
        here = make(tmp_path)
        here.run()
        here.stop()
        of_both = [without_times(each.strategy).drop(columns='metric') for each in (search, here)]
        assert of_both[0].equals(of_both[1])
        assert of_both[0].status.value_counts().to_dict() == {'scored': CANDIDATES - 2, 'trained': 2}
        assert search.strategy.scores(all=True).reason.isna().all()

    def test_trials_of_a_lost_machine_have_failed(self, searched):
        search, _, _, lost = searched
        hosts = [machine.address for machine in lost]
        failed = [job.logPath.partition(':')[0] for job in search.list_trial_jobs() if job.status != 'SUCCEEDED']
        assert failed == hosts
        told = (open_run(search.id).folder / 'log' / 'machines.log').read_text().splitlines()
        assert [sentence.partition(':')[0] for sentence in told] == [f'The machine {host} was lost' for host in hosts]

    def test_trained_weights_come_back(self, searched, tmp_path, capsys):
        search, home, _, _ = searched
        run = open_run(search.id)
        network = run.network()
        there = list(home.glob(f'machine*/nni-experiments/{search.id}/**/{int(run.winner.candidate)}.pt'))
        assert [path.read_bytes() for path in there] == [weights_path(run.folder, int(run.winner.candidate)).read_bytes()]
        assert all(map(torch.equal, network.state_dict().values(), torch.load(there[0]).values()))
        command = ['export', str(run.folder), '--to', str(tmp_path / 'exported'), '--formats', 'state-dict']
        assert main(command) == 0, capsys.readouterr()
        assert list((tmp_path / 'exported').glob('*.json'))
