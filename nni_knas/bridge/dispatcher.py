"""What a tuner can know of the experiment whose dispatcher it runs in. Nothing heavy is imported here."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests
from nni.runtime.env_vars import dispatcher_env_vars
from nni.runtime.msg_dispatcher import MsgDispatcher

from nni_knas.bridge import fields
from nni_knas.bridge.callers import caller
from nni_knas.bridge.portal import PORTAL_PAGE
from nni_knas.bridge.trial_errors import last_line_of_candidate

__all__ = [
    'calling_dispatcher',
    'experiment_config',
    'experiment_directory',
    'is_resumed',
    'last_words_of_training',
    'manager_process',
    'portal_page_address',
    'show_search_space',
    'trial_concurrency',
    'unfinished_trials',
]


def calling_dispatcher() -> MsgDispatcher | None:
    """The dispatcher that calls the calling function; NNI does not introduce it to its tuners."""
    return caller(MsgDispatcher)


def experiment_directory() -> Path:
    """The experiment's own directory, which its id is the name of."""
    if not dispatcher_env_vars.NNI_LOG_DIRECTORY:
        raise RuntimeError("the tuner KNAS runs in NNI's dispatcher: start it with nnictl create")
    return Path(dispatcher_env_vars.NNI_LOG_DIRECTORY).parent


def experiment_config() -> dict[str, Any]:
    """The experiment's configuration but for its search space, as NNI's manager passes it on to its dispatcher."""
    for name, value in zip(sys.argv, sys.argv[1:]):
        if name == '--exp_params':
            config: dict[str, Any] = json.loads(base64.b64decode(value))
            return config
    return {}


def manager_process(identity: str) -> psutil.Process | None:
    """The manager of an experiment, which this process and all trials descend from; ``None`` where it is not above."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().parents():
            if identity in process.cmdline():
                return process
    return None


def is_resumed() -> bool:
    """Whether the experiment was there before."""
    return bool(dispatcher_env_vars.NNI_MODE == 'resume')


def show_search_space(search_space: dict[str, Any]) -> None:
    """Have the manager show this search space in its portal. It passes it on to the tuner, too."""
    profile = requests.get(_manager_url('/experiment'), timeout=20).json()
    profile['params']['searchSpace'] = search_space
    requests.put(_manager_url('/experiment?update_type=SEARCH_SPACE'), json=profile, timeout=20).raise_for_status()


def unfinished_trials() -> dict[int, str]:
    """The status of the last trial of each candidate that has had one, where that has not succeeded."""
    trials: dict[int, str] = {}
    for job in requests.get(_manager_url('/trial-jobs'), timeout=20).json():
        for text in job.get('hyperParameters') or ():
            parameters = json.loads(text).get('parameters')
            if isinstance(parameters, dict) and isinstance(parameters.get(fields.KNAS_CANDIDATE), int):
                trials[parameters[fields.KNAS_CANDIDATE]] = job['status']
    return {candidate: status for candidate, status in trials.items() if status != 'SUCCEEDED'}


def trial_concurrency() -> int | None:
    """How many trials the manager has run at a time, which a person may have changed; ``None`` where it does not say."""
    with contextlib.suppress(requests.RequestException, KeyError, ValueError):
        profile = requests.get(_manager_url('/experiment'), timeout=20).json()
        count: int = profile['params']['trialConcurrency']
        return count
    return None


def last_words_of_training(candidate: int) -> str:
    """The last line of the error output of the trial that trained a candidate; empty where there is none."""
    return last_line_of_candidate(_manager_url(''), candidate) if 'NNI_TUNER_COMMAND_CHANNEL' in os.environ else ''


def portal_page_address() -> str:
    """The address of our page in the manager's portal, as far as it is known here."""
    if 'NNI_TUNER_COMMAND_CHANNEL' not in os.environ:
        return f'/logs/{PORTAL_PAGE} of the portal'
    return f'{_manager_url("").removesuffix("/api/v1/nni")}/logs/{PORTAL_PAGE}'


def _manager_url(path: str) -> str:
    """Address of the manager's REST API, which is where its command channel is."""
    channel = urlsplit(os.environ['NNI_TUNER_COMMAND_CHANNEL'])
    return f'http://{channel.netloc}{channel.path.removesuffix("/tuner")}/api/v1/nni{path}'
