"""What part of the cores a process has."""

from __future__ import annotations

import os

import pytest

from nni_knas.basics.cores import THREADS, available_cores, sharing_cores, threads_beside


@pytest.mark.parametrize('cores, processes, threads', [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 5, 1), (1, 1, 1), (8, 0, 8)])
def test_each_has_its_share_and_one_at_least(cores, processes, threads, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(cores)), raising=False)
    assert available_cores() == cores
    assert threads_beside(processes) == threads


def test_who_is_started_meanwhile_inherits_it(monkeypatch):
    monkeypatch.delenv(THREADS, raising=False)
    with sharing_cores(1000):
        assert os.environ[THREADS] == '1'
    assert THREADS not in os.environ


def test_a_user_is_obeyed(monkeypatch):
    monkeypatch.setenv(THREADS, '7')
    with sharing_cores(1000):
        assert os.environ[THREADS] == '7'
    assert os.environ[THREADS] == '7'
