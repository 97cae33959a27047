"""A trial of the tuner on another machine: what it keeps is in its own folder."""

from __future__ import annotations

from types import SimpleNamespace

import nni
import pytest

import nni_knas.runs.ranked as ranked_module
import nni_knas.trial as trial_module
from nni_knas.record import Record, record_path, result_path, weights_path

PARAMETERS = {'width': 4, 'bias': True, 'knas_candidate': 5, 'kernel_score': 0.5, 'kernel_rank': 2}


@pytest.mark.parametrize('here', [True, False], ids=['here', 'elsewhere'])
def test_what_a_trial_keeps(here, tmp_path, monkeypatch):
    """NNI makes a folder of the experiment's name on each machine: the one that has the record is the experiment's."""
    experiment, own = tmp_path / 'ab12', tmp_path / 'own'
    experiment.mkdir()
    if here:
        Record(record_path(experiment)).close()
    monkeypatch.setattr(trial_module, 'trial_env_vars', SimpleNamespace(NNI_EXP_ID=str(experiment)))
    monkeypatch.setattr(ranked_module, 'trial_folder', lambda: own)
    monkeypatch.setattr(nni, 'get_next_parameter', lambda: PARAMETERS)
    words = {'--network': 'config_models:build', '--data': 'config_models:data', '--evaluator': 'config_models:evaluator'}
    assert trial_module.main([word for pair in words.items() for word in pair]) == 0
    kept = experiment if here else own
    assert weights_path(kept, 5).exists() and result_path(kept, 5).exists()
    assert not weights_path(own if here else experiment, 5).exists()
    assert here or not any(experiment.iterdir())
