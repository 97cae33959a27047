"""What a search that was killed leaves: NNI's managers, which live on, and the trials and dispatchers that they started."""

from __future__ import annotations

import contextlib
import logging
from itertools import pairwise
from pathlib import Path

import psutil

__all__ = ['end_leftovers', 'leftovers', 'managers']

_logger = logging.getLogger(__name__)

_FOLDERS = ('NNI_OUTPUT_DIR', 'NNI_SYS_DIR', 'NNI_LOG_DIRECTORY')
"""What NNI tells the processes that it starts: folders of theirs, inside the experiment's."""


def managers(folder: Path) -> list[psutil.Process]:
    """All of NNI's managers of the experiment in a folder: NNI itself knows the last one only."""
    return [process for process in psutil.process_iter() if _is_manager(process, folder.resolve())]


def leftovers(folder: Path) -> list[psutil.Process]:
    """All processes that NNI started for the experiment in a folder, with their children; without this one's ancestors."""
    folder = folder.resolve()
    own = {process.pid for process in [psutil.Process(), *psutil.Process().parents()]}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in own and (_is_manager(process, folder) or _is_inside(process, folder)):
            found[process.pid] = process
            with contextlib.suppress(psutil.Error):
                found.update((child.pid, child) for child in process.children(recursive=True))
    return [process for process in found.values() if process.pid not in own]


def end_leftovers(folder: Path) -> None:
    """End them: two managers of one experiment would write to one database, and run the same trials twice.

    A manager is asked to end first, so that it says goodbye to its trials and writes down that it has stopped.
    """
    family = leftovers(folder)
    asked = [process for process in family if _is_manager(process, folder.resolve())]
    for manager in asked:
        _logger.warning('Stopping the manager that was left from the interrupted run (process %d).', manager.pid)
        with contextlib.suppress(psutil.Error):
            manager.terminate()
    psutil.wait_procs(asked, timeout=15)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, timeout=5)


def _is_manager(process: psutil.Process, folder: Path) -> bool:
    """Whether it manages the experiment: an id alone may be that of another one, in another folder."""
    with contextlib.suppress(psutil.Error):
        said = dict(pairwise(process.cmdline()))
        home = said.get('--experiments-directory')
        return said.get('--experiment-id') == folder.name and home is not None and Path(home).resolve() == folder.parent
    return False


def _is_inside(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        environment = process.environ()
        return any(name in environment and Path(environment[name]).resolve().is_relative_to(folder) for name in _FOLDERS)
    return False
