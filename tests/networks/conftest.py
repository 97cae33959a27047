"""What tests of exports share."""

from __future__ import annotations

from pathlib import Path

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from spaces import TinySpace, tiny_kernel, train

from nni_knas import KNAS, open_run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run that has trained two."""
    config = NasExperimentConfig('sequential', 'simplified')
    config.experiment_working_directory = str(tmp_path_factory.mktemp('runs'))
    experiment = NasExperiment(TinySpace(), FunctionalEvaluator(train), KNAS(tiny_kernel(), 8, 2), config)
    experiment.run()
    experiment.stop()
    folder = Path(config.experiment_working_directory) / experiment.id
    return open_run(folder)
