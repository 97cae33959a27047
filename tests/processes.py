"""Processes that begin with everything imported, since importing takes most of the time of a short search."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(['pytest', 'nni_knas', 'nni_knas.cli', 'nni.nas.evaluator.pytorch', 'nni.nas.experiment',
                                 'nni.nas.strategy', 'codecarbon', 'cpuinfo', 'pycountry'])


class Forked:
    """A function in a process of its own, forked from one that has done nothing but import; it ends with the tests.

    Parameters
    ----------
    function
        Of a module that can be imported from the tests' folder, which is where the process runs.
    arguments, keywords
        For it.
    output, errors
        Where what it prints goes, if not to the tests' own output.
    """

    def __init__(self, function: Callable[..., object], *arguments: Any, output: Path | None = None,
                 errors: Path | None = None, **keywords: Any) -> None:
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

    os.chdir(Path(__file__).parent)
    torch.set_num_threads(1)
    for number, path in enumerate(streams, start=1):
        if path is not None:
            with path.open('w') as file:
                os.dup2(file.fileno(), number)
    function(*arguments, **keywords)
