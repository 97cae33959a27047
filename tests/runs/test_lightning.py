"""Lightning prints nothing beside a search, and what the user asked of it stays."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import pytorch_lightning  # noqa: F401  it sets its level

from nni_knas.runs.lightning import quiet_lightning

INFO, WARNING = logging.INFO, logging.WARNING


def enabled(level, name='pytorch_lightning.utilities.rank_zero'):
    return logging.getLogger(name).isEnabledFor(level)


@pytest.fixture(autouse=True)
def level(monkeypatch):
    logger = logging.getLogger('pytorch_lightning')
    before = logger.level
    logger.setLevel(INFO)
    yield logger
    logger.setLevel(before)


def test_warnings_only_and_as_before_afterwards():
    with quiet_lightning(SimpleNamespace(trace_kwargs={})):
        assert enabled(WARNING) and not enabled(INFO) and not enabled(INFO, 'pytorch_lightning.callbacks.model_summary')
    assert enabled(INFO)


def test_the_summary_that_was_asked_for():
    with quiet_lightning(SimpleNamespace(trace_kwargs={'enable_model_summary': True})):
        assert enabled(INFO, 'pytorch_lightning.callbacks.model_summary') and not enabled(INFO)
    assert enabled(INFO)


def test_a_level_of_the_users(level):
    level.setLevel(logging.DEBUG)
    with quiet_lightning(None):
        assert enabled(logging.DEBUG)
