"""A trial of ``nnictl`` takes its share of the cores: its manager was started without us, and left it all of them."""

from __future__ import annotations

import contextlib
import os

import requests

from nni_knas.basics.cores import THREADS, threads_beside
from nni_knas.bridge.registry import manager_address

__all__ = ['share_cores']


def share_cores() -> None:
    """Have torch compute with this trial's share of the cores, unless the user has said how many threads.

    On a machine that the manager is not on, other trials are not known, and nothing is changed.
    """
    from nni.runtime.env_vars import trial_env_vars

    manager = manager_address(trial_env_vars.NNI_EXP_ID)
    if THREADS in os.environ or manager is None:
        return
    with contextlib.suppress(requests.RequestException, ValueError, KeyError, TypeError):
        concurrency = requests.get(f'{manager}/experiment', timeout=20).json()['params']['trialConcurrency']
        os.environ[THREADS] = str(threads_beside(concurrency))  # for the workers of data loaders
        _compute_with(threads_beside(concurrency))


def _compute_with(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
