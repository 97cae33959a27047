"""Processes that begin with everything imported, since importing takes most of the time of a short search."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from places import HELPERS

from nni_knas.engine import workers

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
    [
        'pytest',
        'nni_knas',
        'nni_knas.cli',
        'nni.nas.evaluator.pytorch',
        'nni.nas.experiment',
        'nni.nas.strategy',
        'codecarbon',
        'cpuinfo',
        'pycountry',
    ]
)


class Forked:
    """A function in a process of its own, forked from one that has done nothing but import; it ends with the tests.

    Parameters
    ----------
    function
        Of a module that can be imported; it runs in the folder of the helpers.
    arguments, keywords
        For it.
    output, errors
        Where what it prints goes, if not to the tests' own output.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: Any,
        output: Path | None = None,
        errors: Path | None = None,
        **keywords: Any,
    ) -> None:
        self._process = _context.Process(target=_run, args=(function, arguments, keywords, output, errors), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, seconds: float = 600) -> int | None:
        """Wait for its end; gives the exit code, ``None`` if it goes on."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _run(function: Callable[..., object], arguments: tuple, keywords: dict, *streams: Path | None) -> None:
    import torch

    os.chdir(HELPERS)
    torch.set_num_threads(1)
    for number, path in enumerate(streams, start=1):
        if path is not None:
            with path.open('w') as file:
                os.dup2(file.fileno(), number)
    function(*arguments, **keywords)


class Ran(NamedTuple):
    """Exit code, and what was printed."""

    returncode: int
    stdout: str
    stderr: str


def run_code(folder: Path, code: str, *arguments: str) -> Ran:
    """What ``python -c code arguments`` does in a folder, where modules are imported from, too; but forked."""
    with tempfile.TemporaryDirectory() as home:
        output, errors = Path(home, 'output'), Path(home, 'errors')
        returncode = Forked(_execute, folder, code, arguments, output=output, errors=errors).wait()
        return Ran(returncode, output.read_text(), errors.read_text())


def _execute(folder: Path, code: str, arguments: tuple[str, ...]) -> None:
    os.chdir(folder)
    sys.path.insert(0, '')
    sys.argv[:] = ['-c', *arguments]
    exec(compile(code, '<string>', 'exec'), {'__name__': '__main__'})


class ForkedWorker:
    """What :class:`subprocess.Popen` is to a worker of the package, of a process that has imported everything."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], start_new_session: bool, **pipes: int) -> None:
        assert start_new_session and pipes == {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
        (theirs, stdin), (stdout, others) = _context.Pipe(duplex=False), _context.Pipe(duplex=False)
        self._process = _context.Process(target=_serve, args=(theirs, others, dict(env), command[-1]), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        self.stdin, self.stdout = (os.fdopen(os.dup(pipe.fileno()), mode) for pipe, mode in ((stdin, 'wb'), (stdout, 'rb')))
        for pipe in (theirs, stdin, stdout, others):
            pipe.close()
        assert self.stdout.read(1) == b'!'  # it has a session of its own

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired('worker', timeout)
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def _serve(tasks: Connection, verdicts: Connection, environment: dict[str, str], path: str) -> None:
    os.setsid()
    os.environ.update(environment)
    sys.path[:] = json.loads(path)
    for number, pipe in enumerate((tasks, verdicts)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.write(1, b'!')
    workers.serve()


@pytest.fixture(scope='module')
def fork_server() -> None:
    """The process that others are forked from is there."""
    Forked(int).wait()


@pytest.fixture
def forked_workers(fork_server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers need not import anything, which takes most of their time."""
    monkeypatch.setattr(workers, 'subprocess', SimpleNamespace(**{**vars(subprocess), 'Popen': ForkedWorker}))
