"""A session: the time in which a process works on a run. The record keeps who it was, and that it is alive."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from nni_knas.footprint import Meter, footprint_of, processor_name
from nni_knas.record import Record, keys
from nni_knas.runs.state import is_alive

__all__ = ['check_idle', 'session', 'worked_seconds']

_PACKAGES = ('nni-knas', 'nni', 'torch', 'torchvision', 'pytorch-lightning', 'numpy', 'transformers', 'codecarbon')


@contextlib.contextmanager
def session(
    record: Record,
    asked: Mapping[str, Any],
    *,
    name: str | None = None,
    country: str | None = None,
    command: str | None = None,
    root: psutil.Process | None = None,
) -> Iterator[Meter]:
    """Work on a run, which is metered while the context lasts.

    Parameters
    ----------
    record
        The record of the run.
    asked
        What the run was asked for, by name.
    name
        The run's name, where it has one. Default: the file of the script that runs.
    country
        The country that the energy comes from; see :func:`~nni_knas.footprint.power.power_source`.
    command
        What was typed to start it. Default: the command of this process.
    root
        The process that all processes of the run descend from. Default: this one.

    Yields
    ------
    Meter
        The meter, to be told of stages and trials.
    """
    process = psutil.Process()
    about = {
        'pid': process.pid,
        'created': process.create_time(),
        'host': platform.node(),
        'name': name or script_name(),
        'command': command or command_of(sys.orig_argv),
        'directory': os.getcwd(),
        'asked': dict(asked),
        'versions': versions(),
        'machine': machine(),
    }
    number = record.begin_session(about)
    for key in (keys.COMPLETE, keys.FAILURE, keys.LIMIT):
        record.set_meta(key, 0 if key == keys.COMPLETE else '')
    try:
        with Meter(record, number, country, root) as meter:
            yield meter
    finally:
        record.set_meta(keys.STATEMENT, footprint_of(record).statement)
        record.keep_session(number, ended=True)


def check_idle(path: Path) -> None:
    """Check that nobody is at work on a run, before it is taken up: two searches of one run would damage it.

    Parameters
    ----------
    path
        The run's record, which need not be there yet.

    Raises
    ------
    ValueError
        If a process is at work on it, which is named; or if the record is damaged.
    """
    if not path.exists():
        return
    with contextlib.closing(Record(path, readonly=True)) as record:
        busy = next(filter(is_alive, record.sessions()), None)
    if busy is not None:
        command = busy.about.get('command')
        raise ValueError(
            f'the run {path.parent.parent.name} is being searched by process {busy.about["pid"]}'
            f'{f" ({command})" if command else ""}: stop that first, or let it finish'
        )


def worked_seconds(record: Record) -> float:
    """How long a run has been at work by the clock, up to the last signs of life of its sessions."""
    return sum(max(0.0, each.heard - each.started) for each in record.sessions())


def command_of(arguments: list[str]) -> str | None:
    """What a user types to start a process of these arguments; ``None`` for that of a notebook."""
    if any('ipykernel' in argument for argument in arguments[:4]):
        return None
    for i, argument in enumerate(arguments[1:3], start=1):
        if Path(argument).name == 'nni-knas' or (argument == 'nni_knas' and arguments[i - 1] == '-m'):
            return shlex.join(['nni-knas', *arguments[i + 1 :]])
    return shlex.join(['python', *arguments[1:]])


def script_name() -> str | None:
    """The file of the user's script that runs in this process; ``None`` where it is a program, a module or a notebook."""
    name = Path(sys.argv[0]).name if sys.argv else ''
    return name if name.endswith('.py') and name != '__main__.py' and not hasattr(sys, 'ps1') else None


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a run depends on."""
    known = {'python': platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[package] = importlib.metadata.version(package)
    return known


def machine() -> dict[str, str]:
    """What this machine is."""
    import torch

    about = {
        'system': platform.platform(),
        'processor': processor_name() or platform.processor() or platform.machine(),
        'cores': str(os.cpu_count()),
        'memory': f'{psutil.virtual_memory().total / 2**30:.1f} GiB',
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        about['GPUs'] = ', '.join(names)
    return about
