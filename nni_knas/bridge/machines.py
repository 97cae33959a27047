"""The machines of NNI's remote service, as ``machines.js`` in its manager tells of them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from nni.nas.experiment import NasExperiment
from nni.runtime.env_vars import trial_env_vars

from nni_knas.bridge.experiment import experiment_folder

__all__ = ['MachineNews', 'is_fetched', 'lost_machine', 'said_of_machines', 'shared_folder', 'trial_folder']

_logger = logging.getLogger('nni.knas')  # as NNI's own log shows it


def is_fetched(experiment: NasExperiment | None) -> bool:
    """Whether what trials keep in their own folders comes here, over NNI's SSH connections or by its shared storage."""
    service = getattr(experiment.config, 'training_service', None) if experiment is not None else None
    by_ssh = getattr(service, 'platform', 'local') == 'remote' and not getattr(service, 'reuse_mode', False)
    return by_ssh or shared_folder(experiment) is not None


def shared_folder(experiment: NasExperiment | None) -> Path | None:
    """Where this machine sees the folders of an experiment's trials in NNI's shared storage, if there is one."""
    if experiment is None:
        return None
    service, storage = experiment.config.training_service, getattr(experiment.config, 'shared_storage', None)
    point = getattr(storage, 'local_mount_point', None)
    if point is None and getattr(getattr(service, 'storage', None), 'storage_type', None) == 'nfs' and service.reuse_mode:
        point = experiment_folder(experiment) / 'nfs-root'  # where NNI mounts what it shares with Kubernetes
    return Path(point).expanduser() / 'nni' / experiment.id / 'trials' if point else None


def trial_folder() -> Path | None:
    """The folder on its own machine that a trial keeps things in; ``None`` outside of trials."""
    folder = trial_env_vars.NNI_OUTPUT_DIR
    return Path(folder) if folder and trial_env_vars.NNI_TRIAL_JOB_ID else None


def lost_machine(line: str) -> str | None:
    """The machine that was lost while it ran a trial, by what the trial's error output says last."""
    found = re.search(r'nni_knas: the machine (\S+) was lost', line)
    return found[1] if found else None


def said_of_machines(folder: Path) -> list[str]:
    """The sentences that the manager of the experiment in a folder has said of its machines."""
    file = folder / 'log' / 'machines.log'
    return file.read_text().split('\n')[:-1] if file.exists() else []


class MachineNews:
    """Passes on what the manager of an experiment says of its machines, a sentence each, once.

    Parameters
    ----------
    folder
        The experiment's directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told = 0

    def tell(self) -> None:
        """Tell what is new."""
        sentences = said_of_machines(self._folder)
        for sentence in sentences[self._told :]:
            _logger.warning('%s', sentence)
        self._told = len(sentences)
