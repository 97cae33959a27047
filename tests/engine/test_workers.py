"""Scoring in worker processes: the same scores as in this one, whatever happens to the workers."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading

import cloudpickle
import pandas as pd
import psutil
import pytest
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from nni.nas.strategy import TPE, RegularizedEvolution
from servers import wait_until
from spaces import FaultySpace, LoggedMGM, TinySpace, lines, tiny_kernel, write_line
from torch import nn

from nni_knas import KNAS, GradientKernelEvaluator
from nni_knas.basics.names import COSTS
from nni_knas.engine import Scorer, Task, Workers, gpus, workers
from nni_knas.gradients import Minibatch
from nni_knas.record import Record
from nni_knas.scores import MGM


class BoundSpace(ModelSpace):
    """Its layers do to the process what they are called."""

    def __init__(self, log: str = os.devnull) -> None:
        super().__init__()
        self.first = LayerChoice(
            {f'{what} {i}': Deed(what, log) for what in ('good', 'kills', 'exits', 'prints') for i in range(4)},
            label='first',
        )
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.first(x))


class Deed(nn.Module):
    def __init__(self, what: str, log: str) -> None:
        super().__init__()
        self.what, self.log = what, log

    def forward(self, x):
        if os.environ.get('OMP_NUM_THREADS') != '1' or os.getppid() == 1:
            raise RuntimeError('not in a worker of one thread')
        if self.what == 'kills':
            write_line(self.log, 'kills')
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == 'exits':
            sys.exit(3)
        if self.what == 'prints':
            print('noise' * 1000, flush=True)
            os.write(1, b'\x80\x05noise')
            print('noise', file=sys.stderr)
            assert sys.stdin.read() == ''
        return x


def children():
    """The processes that this one has started, but for those of the browser that tests share, which come and go."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and not child.name().startswith('chrom')
    ]


@pytest.fixture(autouse=True)
def nothing_is_left(fork_server):
    before = len(children())
    yield
    assert len(children()) == before


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a busy machine, a worker may take its time to end."""
    kill = workers._Worker.kill
    monkeypatch.setattr(workers._Worker, 'kill', lambda worker, patience=0.0: kill(worker, 100 * patience))


def run(space, candidates, **options):
    kernel = options.pop('kernel', None) or tiny_kernel()
    strategy = KNAS(kernel, candidates, 0, **options)
    strategy(space if hasattr(space, 'evaluator') else SimplifiedModelSpace.from_model(space), SequentialExecutionEngine())
    costs = ['seconds', *COSTS]  # which are measured as far as the time suffices
    return strategy.scores(all=True, panel=True).drop(columns=costs)


def scorer(space, kernel=None):
    return Scorer(kernel or tiny_kernel(), SimplifiedModelSpace.from_model(space))


def verdicts_of(placement, tasks):
    for task in tasks:
        placement.put(task)
    placement.flush()
    verdicts = {}
    while len(verdicts) < len(tasks):
        for task, verdict in placement.get():
            assert task.number not in verdicts
            verdicts[task.number] = verdict
    return verdicts


@pytest.fixture
def bound(tmp_path, forked_workers):
    """A worker pool on the space whose layers do things, and the log of the deeds."""
    placement = Workers(2)
    placement.start(scorer(BoundSpace(str(tmp_path / 'log'))), SequentialExecutionEngine())
    yield placement, tmp_path / 'log'
    placement.stop()


@pytest.mark.usefixtures('forked_workers')
class TestSameResult:
    @pytest.mark.parametrize(
        'space, explorer',
        [
            (TinySpace, lambda: RegularizedEvolution(population_size=5, sample_size=3, mutation_prob=0.3, seed=1)),
            (FaultySpace, lambda: TPE(seed=1)),
        ],
    )
    def test_as_in_this_process(self, space, explorer):
        """Scores to the last bit, ids, ranking, and what an explorer that learns makes of them."""
        here, there = (run(space(), 14, explorer=explorer(), **options) for options in ({}, {'workers': 2}))
        pd.testing.assert_frame_equal(here, there, check_exact=True)
        assert here.score.nunique() > 3

    def test_nasbench201(self):
        kernel = GradientKernelEvaluator(
            (torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)), batch_size=8
        )
        space = NasBench201(num_labels=10, stem_out_channels=4, num_modules_per_stack=1)
        here, there = (run(space, 8, kernel=kernel, **options) for options in ({}, {'placement': Workers(2)}))
        pd.testing.assert_frame_equal(here, there, check_exact=True)

    def test_raw_format_and_numerics(self):
        """torch's settings go along."""
        torch.set_default_dtype(torch.float64)
        try:
            here, there = (run(RawFormatModelSpace(TinySpace(), None), 4, **options) for options in ({}, {'workers': 1}))
        finally:
            torch.set_default_dtype(torch.float32)
        pd.testing.assert_frame_equal(here, there, check_exact=True)
        assert not here.score.equals(run(TinySpace(), 4).score)


class TestFaults:
    def test_networks_that_print(self, bound):
        placement, _ = bound
        verdicts = verdicts_of(placement, [Task(i + 1, {'first': f'prints {i}'}) for i in range(4)])
        assert all(verdict.score is not None for verdict in verdicts.values()), verdicts

    def test_candidates_that_kill_their_worker(self, bound):
        placement, log = bound
        names = ['good 0', 'kills 0', 'good 1', 'good 2', 'exits 1', 'good 3']
        verdicts = verdicts_of(placement, [Task(i + 1, {'first': name}) for i, name in enumerate(names)])
        assert verdicts[2][:2] == (None, 'it killed two worker processes (signal 9)')
        assert verdicts[5][:2] == (None, 'it killed two worker processes (exit code 3)')
        assert {verdicts[number].score is not None for number in (1, 3, 4, 6)} == {True}
        assert len(lines(log)) == 2

    def test_killed_workers_are_replaced(self, tmp_path, forked_workers):
        log, gate = str(tmp_path / 'log'), tmp_path / 'gate'
        gate.write_text('3')
        expected = run(TinySpace(), 12)
        placement = Workers(2)
        put = placement.put

        def put_and_kill(task):
            put(task)
            if task.number == 12:
                wait_until(lambda: placement._receive_events() or len(lines(log)) >= 3)
                for worker in list(placement._pool):
                    os.kill(worker._process.pid, signal.SIGKILL)
                gate.unlink()

        placement.put = put_and_kill
        found = run(TinySpace(), 12, kernel=tiny_kernel(score=LoggedMGM(log, gate=gate)), placement=placement, ahead=20)
        assert list(found.candidate.sort_values()) == list(range(1, 13))
        assert set(found.status) == {'scored'}
        assert set(found.architecture.map(str)) == set(expected.architecture.map(str))
        assert 12 <= len(lines(log)) <= 14

    def test_only_the_candidate_in_work_is_blamed(self):
        placement = Workers(1)

        class Dead:
            place, ready = 0, True

            def __init__(self, tasks):
                self.tasks = workers.deque(tasks)

            def kill(self, patience):
                return 'signal 9'

            def give(self, task):
                self.tasks.append(task)

        tasks = [Task(1, {}), Task(2, {})]
        placement._start_worker = lambda place: Dead([])
        placement._pool = [Dead(tasks)]
        for _ in range(2):
            placement._handle_event(workers._Event(placement._pool[0], 'end'))
            placement._feed_workers()
        assert [(task.number, verdict.reason) for task, verdict in placement._verdicts] == [
            (1, 'it killed two worker processes (signal 9)')
        ]
        assert list(placement._pool[0].tasks) == [tasks[1]]
        placement._handle_event(workers._Event(placement._pool[0], 'retired'))
        assert placement._deaths[2] == 0 and list(placement._waiting) == [tasks[1]]

    def test_a_worker_that_cannot_start(self, forked_workers):
        class Immovable(MGM):
            def __reduce__(self):
                return _fail, ()

        strategy = KNAS(tiny_kernel(score=Immovable()), 5, 0, workers=2)
        with pytest.raises(RuntimeError, match='a worker process cannot start: OSError: no such thing here'):
            strategy(SimplifiedModelSpace.from_model(TinySpace()), SequentialExecutionEngine())

    def test_a_worker_that_cannot_import(self, monkeypatch):
        monkeypatch.setattr(workers, '_BOOT', workers._BOOT.replace('nni_knas.engine.workers', 'nowhere'))
        strategy = KNAS(tiny_kernel(), 5, 0, workers=1)
        with pytest.raises(RuntimeError, match=r'cannot start: ModuleNotFoundError: .*nowhere'):
            strategy(SimplifiedModelSpace.from_model(TinySpace()), SequentialExecutionEngine())

    def test_workers_that_die_before_they_are_ready(self, monkeypatch):
        monkeypatch.setattr(workers, '_BOOT', 'import os; os.kill(os.getpid(), 9)')
        strategy = KNAS(tiny_kernel(), 5, 0, workers=1)
        with pytest.raises(RuntimeError, match='cannot start: 3 in a row ended with signal 9'):
            strategy(SimplifiedModelSpace.from_model(TinySpace()), SequentialExecutionEngine())

    def test_a_kernel_that_cannot_travel(self):
        lock = threading.Lock()
        kernel = tiny_kernel(loss=lambda outputs, targets: outputs.sum() if lock.locked() else outputs.mean())
        with pytest.raises(Exception) as of_pickle:
            cloudpickle.dumps(lock)
        with pytest.raises(ValueError, match='the kernel cannot be sent to another process') as error:
            scorer(TinySpace(), kernel).dumps()
        assert str(error.value).endswith(f'TypeError: {of_pickle.value}')

    def test_interrupted(self, tmp_path, forked_workers):
        """Those that are in work are given up at once."""
        (tmp_path / 'gate').write_text('0')  # no score would ever come
        kernel = tiny_kernel(score=LoggedMGM(str(tmp_path / 'log'), gate=tmp_path / 'gate'))
        placement = Workers(1)
        feed = placement._feed_workers

        def interrupted():
            feed()
            if placement._pool and placement._pool[0].tasks:
                raise KeyboardInterrupt

        placement._feed_workers = interrupted
        with pytest.raises(KeyboardInterrupt):
            run(TinySpace(), 12, kernel=kernel, placement=placement)


def _fail():
    raise OSError('no such thing here')


SCRIPT = """
import os, sys, time
from pathlib import Path

import nni, torch
import nni_knas
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import RegularizedEvolution
from nni_knas.scores import MGM

FOLDER, MAY_SCORE = Path(sys.argv[1]), int(sys.argv[2])
with open(FOLDER / 'started', 'a') as file:
    file.write('x')
WIDTHS = [4, 8, 16, 20, 24, 28]


class Space(ModelSpace):
    def __init__(self, inputs):
        super().__init__()
        width = nni.choice('width', WIDTHS)
        self.first = MutableLinear(inputs, width)
        self.middle = LayerChoice([torch.nn.ReLU(), torch.nn.Tanh(), Twice(), torch.nn.ELU()], label='middle')
        self.last = MutableLinear(width, 3)

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


class Twice(torch.nn.Module):
    def forward(self, x):
        return helper(x)


def helper(x):
    return 2 * x


class Slow(MGM):
    def __call__(self, gradients):
        with open(FOLDER / 'pids', 'a') as file:
            file.write(f'{os.getpid()}\\n')
        while len((FOLDER / 'pids').read_text().splitlines()) > MAY_SCORE:
            time.sleep(0.02)
        return super().__call__(gradients)


for argument in sys.argv[3:]:
    record, placement = argument.split('=')
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(10_000, 6), torch.arange(10_000) % 3)
    loss = lambda outputs, targets: outputs.square().sum(1).mean()
    kernel = nni_knas.GradientKernelEvaluator(data, score=Slow(), loss=loss)
    explorer = RegularizedEvolution(population_size=6, sample_size=3, mutation_prob=0.5, seed=1)
    strategy = nni_knas.KNAS(kernel, 18, 0, explorer, record=FOLDER / record, placement=placement)
    strategy(SimplifiedModelSpace.from_model(Space(6)), SequentialExecutionEngine())
"""


@pytest.mark.slow
class TestScript:
    """Space, score and loss are of a script that has no ``if __name__ == '__main__'``."""

    @staticmethod
    def start(folder, *searches, may_score=1000):
        """Records and placements of searches, one after the other; all candidates but the first so many wait for ever."""
        script = folder / 'script.py'
        script.write_text(SCRIPT)
        return subprocess.Popen(
            [sys.executable, str(script), str(folder), str(may_score), *searches],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            # What is started in the background of a shell would not hear Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @staticmethod
    def workers(folder):
        return {psutil.Process(int(line)) for line in lines(folder / 'pids')}

    @staticmethod
    def table(path):
        return [(c.id, c.sample, c.score, c.status) for c in Record(path, readonly=True).explored()]

    def test_killed_and_resumed(self, tmp_path):
        killed = self.start(tmp_path, 'record=workers', may_score=8)
        wait_until(lambda: len(lines(tmp_path / 'pids')) == 10 or killed.poll() is not None)
        workers = self.workers(tmp_path)
        assert killed.poll() is None and psutil.Process(killed.pid) not in workers
        wait_until(lambda: len(self.table(tmp_path / 'record')) == 8)
        killed.kill()
        killed.communicate()
        assert not psutil.wait_procs(workers, timeout=600)[1]
        known = self.table(tmp_path / 'record')
        assert len(known) == 8

        resumed = self.start(tmp_path, 'record=workers', 'whole=process')
        _, errors = resumed.communicate()
        assert resumed.returncode == 0, errors
        assert (tmp_path / 'started').read_text() == 'xx'  # no worker has run the script
        assert self.table(tmp_path / 'record') == self.table(tmp_path / 'whole')
        assert set(map(str, known)) <= set(map(str, self.table(tmp_path / 'record')))
        assert len(lines(tmp_path / 'pids')) <= 18 + 18 + 2  # those that were in work at the kill

    def test_interrupted(self, tmp_path):
        process = self.start(tmp_path, 'record=workers', may_score=0)
        wait_until(lambda: len(lines(tmp_path / 'pids')) == 2 or process.poll() is not None)
        workers = self.workers(tmp_path)
        assert len(workers) == 2
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
        assert not psutil.wait_procs(workers, timeout=600)[1]
        assert errors.count('Traceback (most recent call last)') == 1 and 'KeyboardInterrupt' in errors


class TestTravel:
    def test_without_the_dataset(self):
        data = torch.utils.data.TensorDataset(torch.randn(100_000, 6), torch.arange(100_000) % 3)
        sent = scorer(TinySpace(), GradientKernelEvaluator(data, batch_size=16))
        content = sent.dumps()
        assert len(content) < 20_000
        received = Scorer.loads(content)
        sample = {'width': 8, 'inner': 'relu', 'outer': 'tanh'}
        assert received.score(sample).score == sent.score(sample).score
        assert received.kernel.minibatch.digest() == sent.kernel.minibatch.digest()
        assert sent.kernel.dataset is data

    def test_a_kernel_of_ones_own(self):
        class Doubled(GradientKernelEvaluator):
            def score(self, network):
                return 2 * super().score(network)

        sample = {'width': 8, 'inner': 'relu', 'outer': 'tanh'}
        single, double = scorer(TinySpace()), scorer(TinySpace(), Doubled(tiny_kernel().dataset))
        assert Scorer.loads(double.dumps()).score(sample).score == 2 * single.score(sample).score


class TestArguments:
    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(workers=0), 'workers is 0'),
            (dict(workers=1.5), 'workers is 1.5'),
            (dict(threads=0), 'threads is 0'),
            (dict(devices=[]), 'devices is empty'),
            (dict(workers=3, devices=['cuda:0']), '3 workers and 1 devices'),
        ],
    )
    def test_that_cannot_be(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            Workers(**arguments)

    def test_defaults(self):
        assert Workers().workers == len(os.sched_getaffinity(0))
        assert Workers(devices=['cpu', 'cpu', 'cpu']).workers == 3
        assert Workers(20).ahead == 40

    @pytest.mark.skipif(torch.cuda.is_available(), reason='there are GPUs')
    def test_no_gpus(self):
        with pytest.raises(ValueError, match='needs a CUDA device'):
            KNAS(tiny_kernel(), placement='gpus')

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='there are no GPUs')
    def test_gpus(self):
        here, there = (
            run(TinySpace(), 8, kernel=tiny_kernel(device=device), placement=placement)
            for device, placement in (('cuda', 'process'), ('cpu', gpus()))
        )
        pd.testing.assert_frame_equal(here, there, check_exact=True)

    def test_can_be_copied(self):
        assert copy.deepcopy(KNAS(tiny_kernel(), workers=3)).placement.workers == 3


@pytest.mark.parametrize(('chosen', 'there'), [(None, 'cuda'), ('cpu', 'cpu')])
def test_a_scorer_takes_another_machines_device_unless_one_was_chosen(monkeypatch, chosen, there):
    scorer = Scorer(tiny_kernel(device=chosen), SimplifiedModelSpace.from_model(TinySpace()))
    data = scorer.dumps()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: None)
    monkeypatch.setattr(Minibatch, 'to', lambda minibatch, device, dtype=None: minibatch)
    assert Scorer.loads(data, elsewhere=True).kernel.device.type == there
    assert Scorer.loads(data).kernel.device.type == 'cpu'
