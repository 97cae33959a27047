"""Trials on this machine share its cores, whoever started their manager."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import requests
from nni.runtime import env_vars

from nni_knas.basics import cores
from nni_knas.basics.cores import THREADS
from nni_knas.bridge import repairs, trial_threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(cores, 'available_cores', lambda: 8)
    monkeypatch.delenv(THREADS, raising=False)


@pytest.fixture
def trial(monkeypatch):
    """A trial of an experiment with two at a time; the list has the threads that torch is told."""
    told: list[int] = []
    monkeypatch.setattr(env_vars, 'trial_env_vars', SimpleNamespace(NNI_EXP_ID='here'))
    monkeypatch.setattr(trial_threads, '_compute_with', told.append)
    known = {'here': 'http://localhost:1/api'}
    monkeypatch.setattr(trial_threads, 'manager_address', known.get)
    answer = SimpleNamespace(json=lambda: {'params': {'trialConcurrency': 2}})
    monkeypatch.setattr(requests, 'get', lambda url, **_: answer if url == 'http://localhost:1/api/experiment' else None)
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    return told


def test_a_trial_of_nnictl_takes_its_share(trial):
    trial_threads.share_cores()
    assert trial == [4] and os.environ[THREADS] == '4'


def test_a_user_is_obeyed(trial):
    os.environ[THREADS] = '3'
    trial_threads.share_cores()
    assert trial == [] and os.environ[THREADS] == '3'


def test_on_another_machine_nothing_is_known(trial, monkeypatch):
    monkeypatch.setattr(trial_threads, 'manager_address', lambda _: None)
    trial_threads.share_cores()
    assert trial == []


def test_a_manager_that_does_not_answer_harms_nothing(trial, monkeypatch):
    def refuse(*_, **__):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, 'get', refuse)
    trial_threads.share_cores()
    assert trial == []


@pytest.mark.parametrize('platform, threads', [('local', '4'), ('remote', None)])
def test_a_manager_that_a_script_starts_hands_it_on(platform, threads, tmp_path):
    seen = []
    start = repairs._without_leftovers(lambda self: seen.append(os.environ.get(THREADS)))
    copy = SimpleNamespace(experiment_working_directory=str(tmp_path))
    config = SimpleNamespace(
        training_service=SimpleNamespace(platform=platform), trial_concurrency=2, canonical_copy=lambda: copy
    )
    start(SimpleNamespace(_action='create', id='new', config=config))
    assert seen == [threads] and THREADS not in os.environ
