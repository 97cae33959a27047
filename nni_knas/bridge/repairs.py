"""Repairs of NNI 3.0, which is no longer developed, for what a KNAS run needs on a current stack.

Each names what breaks and why. They are applied to NNI's modules as these are imported, or at once where they are
there before ``nni_knas`` (:mod:`nni_knas.bridge.arrivals`), and change nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

from nni_knas.basics.cores import sharing_cores
from nni_knas.basics.files import private_folder
from nni_knas.bridge.leftovers import end_leftovers
from nni_knas.bridge.listening import address_of, reachable_only
from nni_knas.bridge.registry import manager_address

__all__ = ['REPAIRS', 'repair']

_logger = logging.getLogger(__name__)


def repair(module: ModuleType) -> None:
    """Repair one of NNI's modules that :data:`REPAIRS` names, once."""
    if not hasattr(module, '_repaired_by_knas'):
        module._repaired_by_knas = True  # type: ignore[attr-defined]
        REPAIRS[module.__name__](module)


def _repair_launcher(launcher: Any) -> None:
    launcher._start_rest_server = _with_repaired_manager(launcher._start_rest_server)
    logging.getLogger('nni.experiment').addFilter(reachable_only)
    launcher._check_rest_server = _await_manager


def _repair_experiment(module: Any) -> None:
    module.Experiment._start_nni_manager = _without_leftovers(module.Experiment._start_nni_manager)


def _repair_nas_experiment(module: Any) -> None:
    module.NasExperiment.start = _with_checked_strategy(module.NasExperiment.start)
    module.NasExperiment.save_checkpoint = _in_private(module.NasExperiment.save_checkpoint)
    module.NasExperiment.stop = _unless_refused(module.NasExperiment.stop)


def _repair_engine(module: Any) -> None:
    engine = module.TrainingServiceExecutionEngine
    engine.wait_models = _unless_all_have_ended(engine.wait_models)


def _repair_serializer(module: Any) -> None:
    module.TorchSerializer.load = _load_checkpoint


def _repair_tracing(module: Any) -> None:
    module._make_class_traceable = _with_honest_attributes(module._make_class_traceable)


def _repair_trial_channel(module: Any) -> None:
    channel = module.TrialCommandChannelV3
    channel.receive_parameter = _receive_own_parameter(channel.receive_parameter)


def _repair_tuner_channel(module: Any) -> None:
    module.TunerCommandChannel._receive = _skip_unknown(module.TunerCommandChannel._receive)


REPAIRS: dict[str, Callable[[Any], None]] = {
    'nni.common.serializer': _repair_tracing,
    'nni.experiment.launcher': _repair_launcher,
    'nni.experiment.experiment': _repair_experiment,
    'nni.nas.execution.training_service': _repair_engine,
    'nni.nas.experiment.experiment': _repair_nas_experiment,
    'nni.nas.utils.serializer': _repair_serializer,
    'nni.runtime.trial_command_channel.v3': _repair_trial_channel,
    'nni.runtime.tuner_command_channel.channel': _repair_tuner_channel,
}
"""What repairs each module. They replace attributes of modules and classes, which reach whoever has imported them before."""


def _await_manager(port: int, retry: int = 600, url_prefix: str | None = None) -> None:
    """NNI asks its manager every second whether it is up, three times.

    On a busy machine that is too short: the experiment then fails with "Create experiment failed", and the manager that came
    up late stays. On others half a second is waited in vain.
    """
    from nni.experiment import rest

    for left in reversed(range(retry)):
        try:
            rest.get(port, '/check-status', url_prefix)
            return
        except requests.RequestException:
            if not left:
                raise
            time.sleep(0.1)


def _with_repaired_manager(start: Any) -> Any:
    """The manager is started with ``repairs.js``.

    It listened to anybody, mixed up the parameters of trials that start at about the same time, and did not survive the
    press of its TensorBoard button where there was no such command.
    """

    @functools.wraps(start)
    def start_repaired(asked: Any, *arguments: Any, **keywords: Any) -> Any:
        address = address_of(asked.mode, asked.port)
        own = os.environ.get('NODE_OPTIONS')
        repair = f'--require {json.dumps(str(Path(__file__).with_name("repairs.js")))}'  # quoted, for paths with spaces
        options = f'{own} {repair}' if own else repair
        os.environ.update(NODE_OPTIONS=options, NNI_KNAS_NODE_OPTIONS=own or '', NNI_KNAS_LISTEN=address)
        try:
            return start(asked, *arguments, **keywords)
        finally:
            for name in ('NODE_OPTIONS', 'NNI_KNAS_NODE_OPTIONS', 'NNI_KNAS_LISTEN'):
                del os.environ[name]
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

    manager = manager_address(trial_env_vars.NNI_EXP_ID)
    if manager is None or trial_env_vars.NNI_TRIAL_JOB_ID is None:
        return None
    url = f'{manager}/trial-jobs/{trial_env_vars.NNI_TRIAL_JOB_ID}'
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


def _unless_all_have_ended(wait: Any) -> Any:
    """When a strategy has ended, NNI waits another seven seconds for models that its manager may not know of yet.

    Where the manager has heard of all that were submitted, and none is in training, there are none.
    """

    @functools.wraps(wait)
    def wait_models(self: Any, *models: Any) -> None:
        if models or self._stopped or not _all_have_ended(self):
            wait(self, *models)

    return wait_models


def _all_have_ended(engine: Any) -> bool:
    if engine._current_parameter_id is None or engine._submitted_cache:
        return False
    under_way = {'WAITING', 'RUNNING', 'UNKNOWN'}
    return not any(each['trialJobStatus'] in under_way for each in engine.nodejs_binding.get_job_statistics())


def _with_honest_attributes(make_traceable: Any) -> Any:
    """Other objects of a traced object's class are not taken for traced.

    When a traced function returns an object, NNI adds attributes to the class of it, which other objects of the class had as
    well, but which raised ``KeyError``: NNI took these objects for traced, and failed.
    """

    def only_of_traced(name: str, get: Any) -> property:
        def value(self: Any) -> Any:
            if f'_nni_{name}' not in self.__dict__:
                raise AttributeError(f'this {type(self).__name__} is not traced')
            return get.fget(self)

        return property(value, get.fset)

    @functools.wraps(make_traceable)
    def make(cls: Any, create_wrapper: bool = False) -> Any:
        made = make_traceable(cls, create_wrapper)
        for name in ('symbol', 'args', 'kwargs'):
            setattr(made, f'trace_{name}', only_of_traced(name, made.__dict__[f'trace_{name}']))
        return made

    return make


def _load_checkpoint(self: Any, path: Path) -> Any:
    """From 2.6 on torch loads tensors only unless told otherwise; NNI's checkpoints hold numpy's random states, too.

    One that was being written when the process was killed is none.
    """
    import torch
    from nni.nas.utils.serializer import _find_path_with_prefix

    found = _find_path_with_prefix(path, self.suffix)
    try:
        return torch.load(str(found), map_location=self._map_location, weights_only=False)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise FileNotFoundError(f'{found} is incomplete') from error


def _without_leftovers(start: Any) -> Any:
    """When the process of an experiment was killed, NNI's manager lives on, and so do its trials.

    Resumed next to it, both managers write to one database and run the same trials. So the old one is stopped first.
    """

    @functools.wraps(start)
    def start_alone(self: Any, *arguments: Any, **keywords: Any) -> Any:
        folder = _folder_of(self)
        if self._action != 'view':
            end_leftovers(folder)
        for name in ('db', 'log'):  # both have the experiment's configuration, with passwords and keys
            private_folder(folder / name)
        service = self.config.training_service
        if getattr(service, 'platform', None) != 'local':
            return start(self, *arguments, **keywords)
        with sharing_cores(self.config.trial_concurrency):  # the manager's trials inherit it
            return start(self, *arguments, **keywords)

    return start_alone


def _with_checked_strategy(start: Any) -> Any:
    """NNI's strategies hear of an experiment when its manager runs already and the one before it has been stopped.

    One that cannot begin says so before: it may have a method ``check_start``, which is given the experiment's folder.
    """

    @functools.wraps(start)
    def start_checked(self: Any, *arguments: Any, **keywords: Any) -> Any:
        check = getattr(self.strategy, 'check_start', None)
        if check is not None and self._action != 'view':
            self._refused_by_knas = True
            check(_folder_of(self))
            self._refused_by_knas = False
        try:
            return start(self, *arguments, **keywords)
        except requests.ConnectionError as error:
            _check_machines(_folder_of(self), error)
            raise

    return start_checked


def _check_machines(folder: Path, error: Exception) -> None:
    """Raise what a manager that is gone has said of its machines: it ends where it can use none."""
    from nni_knas.bridge.machines import said_of_machines

    said = said_of_machines(folder)
    if said:
        raise RuntimeError(f'NNI has ended the experiment, since no machine can be used. {" ".join(said)}') from error


def _in_private(save: Any) -> Any:
    """A checkpoint has the experiment's configuration, with passwords and keys of training services, for all to read."""

    @functools.wraps(save)
    def save_in_private(self: Any) -> None:
        with contextlib.suppress(OSError):  # NNI logs what goes wrong
            private_folder(self._checkpoint_directory)
        save(self)

    return save_in_private


def _unless_refused(stop: Any) -> Any:
    """Scripts stop an experiment whatever has happened: one that was refused has nothing to write into another's folder."""

    @functools.wraps(stop)
    def stop_started(self: Any) -> None:
        if not getattr(self, '_refused_by_knas', False):
            stop(self)

    return stop_started


def _folder_of(experiment: Any) -> Path:
    return Path(experiment.config.canonical_copy().experiment_working_directory, experiment.id)
