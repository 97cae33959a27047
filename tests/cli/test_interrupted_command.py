"""What Ctrl-C leaves of a search of the command line."""

from __future__ import annotations

import pytest
from config_models import config_file
from nni.nas.experiment import NasExperiment

from nni_knas.bridge.experiment import experiment_folder
from nni_knas.cli import main
from nni_knas.record import Record, keys, record_path


@pytest.fixture(params=['interrupted', 'finished'])
def end(request, monkeypatch):
    """An experiment that is interrupted as it begins, before its end or after it; NNI's ``run`` tells neither."""

    def start(experiment, *arguments, **keywords):
        record = Record(record_path(experiment_folder(experiment)))
        if request.param == 'finished':
            record.set_meta(keys.COMPLETE, True)
        record.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(NasExperiment, 'start', start)
    monkeypatch.setattr(NasExperiment, 'stop', lambda experiment: None)
    return request.param


def test_exit_status_and_how_it_goes_on(tmp_path, capsys, end):
    status = main(['search', '--config', str(config_file(tmp_path))])
    said = capsys.readouterr()
    assert 'Scored 0 candidates' in said.out
    if end == 'finished':
        assert status == 0 and 'Go on' not in said.out
        return
    folder = next((tmp_path / 'runs').iterdir())
    assert status == 130 and said.err.splitlines()[-1] == 'nni-knas: interrupted'
    assert said.out.splitlines()[-1] == f'Go on: nni-knas resume {folder}'
