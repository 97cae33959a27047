"""Repairs of NNI 3.0, which is no longer developed, for what a KNAS run needs on a current stack.

Each names what breaks and why. They are applied when ``nni_knas`` is imported, and change nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import requests

__all__ = ['quiet_imports', 'repair']

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Import NNI without its noise: nothing comes of it, and a user can do nothing about it.

    NNI warns of names in ``torch.nn`` that are newer than it and no layers; gym, for NNI's PolicyBasedRL, that it is old.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        yield


def repair() -> None:
    """Apply all repairs, once."""
    from nni.experiment import launcher
    from nni.nas.experiment import NasExperiment
    from nni.nas.utils.serializer import TorchSerializer
    from nni.runtime.trial_command_channel.v3 import TrialCommandChannelV3
    from nni.runtime.tuner_command_channel import TunerCommandChannel

    if hasattr(NasExperiment, '_repaired_by_knas'):
        return
    NasExperiment._repaired_by_knas = True
    launcher._start_rest_server = _with_repaired_manager(launcher._start_rest_server)
    launcher._check_rest_server = functools.partial(launcher._check_rest_server, retry=60)
    TunerCommandChannel._receive = _skip_unknown(TunerCommandChannel._receive)
    TorchSerializer.load = _load_checkpoint
    TrialCommandChannelV3.receive_parameter = _receive_own_parameter(TrialCommandChannelV3.receive_parameter)
    NasExperiment._start_nni_manager = _without_orphan(NasExperiment._start_nni_manager)


# NNI gives its manager three seconds to start, which on a busy machine is too short: the experiment then fails with
# "Create experiment failed", and the manager that came up late stays. With more patience it starts as soon as it can.


def _with_repaired_manager(start: Any) -> Any:
    """The manager mixed up the parameters of trials that start at about the same time, and did not survive the press of its
    TensorBoard button where there was no such command; see ``repairs.js``."""

    @functools.wraps(start)
    def start_repaired(*arguments: Any, **keywords: Any) -> Any:
        own = os.environ.get('NODE_OPTIONS')
        repair = f'--require {json.dumps(str(Path(__file__).with_name("repairs.js")))}'  # quoted, for paths with spaces
        os.environ.update(NODE_OPTIONS=f'{own} {repair}' if own else repair, NNI_KNAS_NODE_OPTIONS=own or '')
        try:
            return start(*arguments, **keywords)
        finally:
            del os.environ['NNI_KNAS_NODE_OPTIONS'], os.environ['NODE_OPTIONS']
            if own is not None:
                os.environ['NODE_OPTIONS'] = own

    return start_repaired


def _receive_own_parameter(receive: Any) -> Any:
    """The same confusion, mended in the trial: for experiments whose manager was started without the repair above.

    What a manager handed out may be meant for another trial. It knows better what it meant for this one.
    """

    @functools.wraps(receive)
    def receive_own(self: Any) -> Any:
        received = receive(self)
        try:
            meant = _meant_for_this_trial()
        except (requests.RequestException, OSError) as error:  # on another machine the manager may be out of reach
            _logger.debug('The manager does not say which parameters are meant for this trial: %s', error)
            meant = None
        return received if meant is None else meant

    return receive_own


def _meant_for_this_trial() -> Any:
    import nni
    from nni.runtime.env_vars import trial_env_vars
    from nni.tools.nnictl.config_utils import Experiments

    manager = Experiments().get_all_experiments().get(trial_env_vars.NNI_EXP_ID)
    if not manager or trial_env_vars.NNI_TRIAL_JOB_ID is None:
        return None
    prefix = f'{manager["prefixUrl"]}/' if manager.get('prefixUrl') else ''
    url = f'http://localhost:{manager["port"]}/{prefix}api/v1/nni/trial-jobs/{trial_env_vars.NNI_TRIAL_JOB_ID}'
    for _ in range(10):  # a manager that has just started a trial may not have written down yet for what
        answer = requests.get(url, timeout=20)
        parameters = answer.json().get('hyperParameters') if answer.ok and answer.text else None
        if parameters:
            return nni.load(parameters[0])
        time.sleep(0.5)
    return None


def _skip_unknown(receive: Any) -> Any:
    """When an experiment is resumed, its manager sends commands for tuners, which NAS experiments have not.

    NNI raises an error on them, in the thread that listens for results; no result arrives after that.
    """
    from nni.runtime.tuner_command_channel.command_type import TunerIncomingCommand

    known = {command.command_type for command in TunerIncomingCommand.__subclasses__()}

    @functools.wraps(receive)
    def receive_known(self: Any) -> Any:
        while True:
            command, content = receive(self)
            if command is None or command in known:
                return command, content
            _logger.debug('Command of no use to a NAS experiment: %s', command)

    return receive_known


def _load_checkpoint(self: Any, path: Path) -> Any:
    """torch 2.6 and later load tensors only unless told otherwise; NNI's checkpoints hold numpy's random states, too."""
    import torch
    from nni.nas.utils.serializer import _find_path_with_prefix

    return torch.load(str(_find_path_with_prefix(path, self.suffix)), map_location=self._map_location, weights_only=False)


def _without_orphan(start: Any) -> Any:
    """When the process of an experiment was killed, NNI's manager lives on, and so do its trials.

    Resumed next to it, both managers write to one database and run the same trials. So the old one is stopped first.
    """

    @functools.wraps(start)
    def start_alone(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if self._action == 'resume':
            _stop_manager(self.id)
        return start(self, *arguments, **keywords)

    return start_alone


def _stop_manager(experiment_id: str) -> None:
    """Stop the manager of an experiment, with its trials, if it is still running."""
    from nni.tools.nnictl.config_utils import Experiments

    pid = Experiments().get_all_experiments().get(experiment_id, {}).get('pid')
    try:
        manager = psutil.Process(pid) if isinstance(pid, int) else None
        if manager is None or experiment_id not in manager.cmdline():  # the number belongs to another process by now
            return
        _logger.warning('Stopping the manager that was left from the interrupted run (process %d).', pid)
        family = [manager, *manager.children(recursive=True)]
        manager.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
    except psutil.NoSuchProcess:
        return
