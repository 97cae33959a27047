"""What tests of trials share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from simulated_service import Simulated, tiny_scorer

import nni_knas.bridge.experiment as experiment_module
import nni_knas.engine.trials as trials_module


@pytest.fixture
def simulate(monkeypatch):
    """Start a placement on a simulated service."""

    def simulate(service, **options):
        monkeypatch.setattr(trials_module, 'time', SimpleNamespace(monotonic=lambda: service.now))
        monkeypatch.setattr(experiment_module, 'rest', SimpleNamespace(put=lambda *arguments: None))
        placement = Simulated(**options)
        placement.start(tiny_scorer(), service)
        return placement

    return simulate
