"""Score in worker processes on this machine.

A worker is a Python process of its own, not a fork of this one, which is unsafe with torch's threads, nor one that imports
the user's script, which may have no ``if __name__ == '__main__'``. It reads candidates from its standard input and writes
verdicts to its standard output; what a network prints goes to the standard error. It ends when its input does, and so
outlives this process in no case.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import torch
from nni.nas.execution import ExecutionEngine

from nni_knas.basics.checks import check_count
from nni_knas.basics.cores import available_cores
from nni_knas.engine.placement import Placement, Task, check_scored_alone
from nni_knas.engine.scorer import Scorer, Verdict
from nni_knas.record import reason_of

__all__ = ['Workers', 'gpus', 'serve']

_logger = logging.getLogger(__name__)

_BOOT = """
import json, pickle, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    from nni_knas.engine.workers import serve
except BaseException as error:
    pickle.dump(('failed', f'{type(error).__name__}: {error}'), sys.stdout.buffer)
    sys.exit(1)
serve()
"""


class Workers(Placement):
    """Score in several processes on this machine.

    A worker that dies is replaced, and its candidates are scored again. A candidate that was in work when a worker died
    for the second time gets no score.

    Parameters
    ----------
    workers
        Number of processes. Default: one for each device, or for each CPU core that this process may use.
    threads
        Number of CPU threads that each uses; the kernel's by default.
    devices
        The devices that they score on, one for each worker; the kernel's device by default.

    Raises
    ------
    ValueError
        If a number is less than 1, or if there is not one device for each worker.
    """

    fed = 2
    """Candidates that a worker is given at a time, so that it never waits for the next."""

    patience = 3
    """How many workers in a row may die before they are ready."""

    def __init__(
        self, workers: int | None = None, threads: int | None = None, devices: Sequence[str | torch.device] | None = None
    ) -> None:
        if devices is not None and not len(devices):
            raise ValueError('devices is empty: name one device for each worker, such as ["cuda:0", "cuda:1"]')
        if workers is None:
            workers = len(devices) if devices is not None else available_cores()
        check_count('workers', workers)
        if threads is not None:
            check_count('threads', threads)
        if devices is not None and len(devices) != workers:
            raise ValueError(f'there are {workers} workers and {len(devices)} devices: name one device for each worker')
        self.workers = workers
        self.threads = threads
        self.devices = [str(device) for device in devices] if devices is not None else None
        self._setting: _Setting | None = None
        self._pool: list[_Worker] = []
        self._events: queue.SimpleQueue[_Event] | None = None  # made at the start: it cannot be copied
        self._waiting: deque[Task] = deque()
        self._verdicts: list[tuple[Task, Verdict]] = []  # not given out yet
        self._deaths: Counter[int] = Counter()  # by the number of the candidate that was in work
        self._failed_starts = 0

    def __repr__(self) -> str:
        return f'Workers(workers={self.workers}, threads={self.threads}, devices={self.devices})'

    @property
    def ahead(self) -> int:  # type: ignore[override]
        return self.fed * self.workers

    def start(self, scorer: Scorer, engine: ExecutionEngine) -> None:
        check_scored_alone(scorer)
        self._setting = _Setting(scorer.dumps(), self.threads or scorer.kernel.threads)
        self._pool = []
        self._events = queue.SimpleQueue()  # none of an earlier run
        for place in range(self.workers):
            self._pool.append(self._start_worker(place))

    def put(self, task: Task) -> None:
        self._waiting.append(task)
        self._receive_events()

    def get(self) -> list[tuple[Task, Verdict]]:
        self._receive_events()
        while not self._verdicts:
            self._handle_event(self._next_event())
            self._receive_events()
        return self.poll()

    def poll(self) -> list[tuple[Task, Verdict]]:
        self._receive_events()
        verdicts, self._verdicts = self._verdicts, []
        return verdicts

    def stop(self) -> None:
        for worker in self._pool:
            worker.kill()
        self._pool = []
        self._waiting.clear()
        self._verdicts.clear()
        self._deaths.clear()
        self._failed_starts = 0

    def _start_worker(self, place: int) -> _Worker:
        assert self._events is not None and self._setting is not None
        device = self.devices[place] if self.devices is not None else None
        return _Worker(place, self._setting._replace(device=device), self._events)

    def _next_event(self) -> _Event:
        assert self._events is not None
        while True:
            try:
                return self._events.get(timeout=2)
            except queue.Empty:  # where a dead worker has left a child, the child holds its pipe open
                for worker in self._pool:
                    worker.bury()

    def _receive_events(self) -> None:
        """Take in what has happened, and see to it that all workers have work."""
        assert self._events is not None
        while not self._events.empty():
            self._handle_event(self._events.get())
        self._feed_workers()

    def _feed_workers(self) -> None:
        """Give waiting candidates to the workers that have the fewest."""
        while self._waiting:
            worker = min((each for each in self._pool if each.ready), key=lambda each: len(each.tasks), default=None)
            if worker is None or len(worker.tasks) >= self.fed:
                return
            worker.give(self._waiting.popleft())

    def _handle_event(self, event: _Event) -> None:
        worker, kind, content = event
        if worker is not self._pool[worker.place]:
            return
        if kind == 'failed':
            raise RuntimeError(f'a worker process cannot start: {content}')
        if kind == 'ready':
            worker.ready = True
            self._failed_starts = 0
        elif kind == 'verdict':
            task = worker.tasks.popleft()
            self._deaths.pop(task.number, None)  # it may come again, to be scored in full
            self._verdicts.append((task, content))
        else:
            how = worker.kill(patience=5)
            if kind == 'end':
                self._handle_death(worker, how)
            self._waiting.extendleft(reversed(worker.tasks))
            self._pool[worker.place] = self._start_worker(worker.place)

    def _handle_death(self, worker: _Worker, how: str) -> None:
        """A worker has died: the candidate in work is suspect, and at the second time the cause."""
        _logger.warning('A worker process ended with %s; another one takes its place.', how)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == self.patience:
                raise RuntimeError(f'a worker process cannot start: {self._failed_starts} in a row ended with {how}')
        elif worker.tasks:
            number = worker.tasks[0].number
            self._deaths[number] += 1
            if self._deaths[number] == 2:
                del self._deaths[number]
                reason = f'it killed two worker processes ({how})'
                self._verdicts.append((worker.tasks.popleft(), Verdict(None, reason, 0.0)))


def gpus() -> Workers:
    """A worker for each CUDA device.

    Raises
    ------
    ValueError
        If there is none.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ValueError('placement="gpus" needs a CUDA device, and torch sees none: take "workers" or "process"')
    return Workers(devices=[f'cuda:{i}' for i in range(count)])


class _Event(NamedTuple):
    """What came from a worker.

    That it is ``ready``, a ``verdict``, why it ``failed`` to start, that it has ``retired``, or its ``end``.
    """

    worker: _Worker
    kind: str
    content: Any = None


class _Setting(NamedTuple):
    """What a worker is told at first.

    Attributes
    ----------
    scorer
        The bytes that :meth:`Scorer.dumps` gave.
    threads
        Number of CPU threads.
    device
        The device to score on, if it is not the kernel's.
    """

    scorer: bytes
    threads: int
    device: str | None = None


class _Worker:
    """A worker process, seen from the process that wants the scores.

    Parameters
    ----------
    place
        Which of the workers it is.
    setting
        What it is told at first.
    events
        The queue that takes what comes from the worker.
    """

    def __init__(self, place: int, setting: _Setting, events: queue.SimpleQueue[_Event]) -> None:
        self.place = place
        self.ready = False
        self.tasks: deque[Task] = deque()  # the first is in work
        threads = str(setting.threads)
        environment = {**os.environ, 'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads}
        # In a session of its own, a Ctrl-C meant for this process does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, '-c', _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._pass_on_messages, args=(setting, events), daemon=True)
        self._listener.start()

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        with contextlib.suppress(OSError):  # it has just died; its end is among the events
            _send(self._process.stdin, task)

    def kill(self, patience: float = 0.0) -> str:
        """End it, if it does not end by itself in so many seconds; tells how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        if hasattr(os, 'killpg'):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with its children
        else:
            self._process.kill()
        code = self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        return f'signal {-code}' if code < 0 else f'exit code {code}'

    def bury(self) -> None:
        """If it is dead, end what it has left, so that its pipe ends, too."""
        if self._process.poll() is not None and hasattr(os, 'killpg'):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _pass_on_messages(self, setting: _Setting, events: queue.SimpleQueue[_Event]) -> None:
        """In a thread: tell the worker what it needs, then pass on what it says until it ends."""
        with contextlib.suppress(OSError):
            _send(self._process.stdin, setting)
        assert self._process.stdout is not None
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                events.put(_Event(self, *pickle.load(self._process.stdout)))
        events.put(_Event(self, 'end'))


def _send(pipe: Any, message: Any) -> None:
    pickle.dump(message, pipe)
    pipe.flush()


# In the worker.


def serve() -> None:
    """Be a worker: score what comes in until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks, verdicts = _claim_standard_pipes()
    setting: _Setting = pickle.load(tasks)
    try:
        torch.set_num_threads(setting.threads)
        scorer = Scorer.loads(setting.scorer, setting.device)
        scorer.kernel.threads = setting.threads
    except BaseException as error:
        _send(verdicts, ('failed', reason_of(error) if isinstance(error, Exception) else repr(error)))
        return
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(tasks, waiting), daemon=True).start()
    _send(verdicts, ('ready', None))
    while True:
        task = waiting.get()
        verdict = scorer.score(task.sample, task.quick, task.measured)
        _send(verdicts, ('verdict', verdict))
        if any('CUDA error' in said for said in (verdict.reason, verdict.panel) if isinstance(said, str)):
            # no later one could be scored in this process
            _send(verdicts, ('retired', None))
            return


def _claim_standard_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for this module alone; what others print goes to the standard error."""
    tasks, verdicts = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'wb')
    sys.stdout.flush()
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return tasks, verdicts


def _read_tasks(tasks: BinaryIO, waiting: queue.SimpleQueue[Task]) -> None:
    """In a thread: when the input ends, the process that wants the scores has ended, and so does this one, at once."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            waiting.put(pickle.load(tasks))
    os._exit(0)
