"""Runs and pages that the tests of reports look at."""

from __future__ import annotations

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import SimplifiedModelSpace
from pages import Pages
from spaces import TinySpace, tiny_kernel, train

from nni_knas import KNAS
from nni_knas.record import record_path
from nni_knas.runs import Run


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """A real run, in this process."""
    folder = tmp_path_factory.mktemp('tiny')
    strategy = KNAS(tiny_kernel(), 20, 5, record=record_path(folder))
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(train)), SequentialExecutionEngine())
    return Run(folder)


@pytest.fixture(scope='session')
def pages(tmp_path_factory, tiny):
    return Pages(tmp_path_factory.mktemp('pages'), tiny)
