"""Trials that score, and are lost with their machines."""

from __future__ import annotations

from simulated_service import Service, search

import nni_knas.engine.trials as trials_module


def lost(monkeypatch, said='nni_knas: the machine 10.0.0.5 was lost while it ran this trial'):
    monkeypatch.setattr(trials_module, 'last_line_of_chunk', lambda experiment, number: said)


def test_many_machines_may_be_lost_before_they_score(simulate, monkeypatch):
    """Three trials in a row that cannot begin end a search, but not where machines are what they lack."""
    lost(monkeypatch)
    before = iter(range(5))
    service = Service(dies=lambda chunk, number: number is None and next(before, None) is not None)
    verdicts = search(simulate(service), 20)
    assert all(verdicts[n].score == n / 7 for n in range(1, 21))


def test_a_candidate_that_two_machines_were_lost_over_says_so(simulate, monkeypatch):
    lost(monkeypatch)
    verdicts = search(simulate(Service(dies=lambda chunk, number: number == 5)), 20)
    assert verdicts[5].reason == 'the trials that scored it died twice, at last with the machine 10.0.0.5'
    assert all(verdicts[n].score == n / 7 for n in range(1, 21) if n != 5)
