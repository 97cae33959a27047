"""Which experiments NNI knows, read from its own list: who only looks at runs need not wait until NNI is imported."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

__all__ = ['NNI_HOME', 'find_folder', 'known_experiments', 'manager_address', 'manager_lives']

NNI_HOME = Path('~/nni-experiments').expanduser()
"""Where NNI keeps experiments, and the list of them."""


def known_experiments() -> dict[str, dict[str, Any]]:
    """What NNI's list says of each experiment, by its id."""
    for _ in range(5):  # NNI writes it in place: who reads meanwhile sees the half
        try:
            content = json.loads((NNI_HOME / '.experiment').read_text(encoding='utf-8'))
        except OSError:
            return {}
        except ValueError:
            time.sleep(0.05)
        else:
            return content if isinstance(content, dict) else {}
    return {}


def find_folder(run: str | Path) -> Path:
    """The directory of an experiment, by the directory itself or by the experiment's id.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    folder = Path(run).expanduser()
    if folder.is_dir():
        return folder
    known = known_experiments().get(str(run))
    homes = [Path(known['logDir'])] if known else []
    for home in [*homes, NNI_HOME]:
        if (home / str(run)).is_dir():
            return home / str(run)
    raise FileNotFoundError(f"there is no experiment {str(run)!r}: give the id that NNI printed, or the experiment's folder")


def manager_address(identity: str | None) -> str | None:
    """The address of the REST API of an experiment's manager, where that is on this machine."""
    manager = known_experiments().get(identity or '')
    if not manager:
        return None
    prefix = f'{manager["prefixUrl"]}/' if manager.get('prefixUrl') else ''
    return f'http://localhost:{manager["port"]}/{prefix}api/v1/nni'


def manager_lives(identity: str) -> bool:
    """Whether NNI's manager of an experiment is there, with the trials that it runs."""
    import psutil

    pid = known_experiments().get(identity, {}).get('pid')
    with contextlib.suppress(psutil.Error):
        return isinstance(pid, int) and identity in psutil.Process(pid).cmdline()
    return False
