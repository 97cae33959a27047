"""Experiments of the tuner."""

from __future__ import annotations

import pytest
from nni.runtime import msg_dispatcher
from places import HELPERS
from tuners import Experiment

from nni_knas.tuner import background, tuner


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start an experiment; with the same folder again, it is resumed."""
    monkeypatch.chdir(HELPERS)
    monkeypatch.setattr(tuner, 'experiment_directory', lambda: tmp_path)
    monkeypatch.setattr(tuner, 'experiment_config', dict)
    monkeypatch.setattr(background, 'show_search_space', lambda shown: None)
    monkeypatch.setattr(background, 'unfinished_trials', dict)
    experiments = []

    def start(search_space: dict | None = None, resumed: bool = False, **arguments) -> Experiment:
        monkeypatch.setattr(msg_dispatcher, '_next_parameter_id', 100 * len(experiments))
        monkeypatch.setattr(tuner, 'is_resumed', lambda: resumed)
        experiment = Experiment(tmp_path, **arguments)
        experiments.append(experiment)
        experiment.dispatcher.handle_initialize(search_space or {})
        return experiment

    yield start
    for experiment in experiments:
        experiment.exit()
