"""What all tests share: a home of their own, one thread for torch, and the data in the repository's neighbourhood."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

pytest.register_assert_rewrite('layers', 'panels', 'simulated_service', 'undisturbed')  # they say what differs

# NNI computes its folder for experiments from HOME when it is imported, so the tests' home has to stand before that.
HOME = Path(tempfile.mkdtemp(prefix='nni-knas-home-'))
os.environ['HOME'] = str(HOME)
os.environ['OMP_NUM_THREADS'] = '1'  # trials and other processes of tests that run side by side share few cores
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

import offline  # noqa: E402  before what looks at its environment when it is imported

offline.guard()

import nni_knas  # noqa: E402, F401, I001  first, since it silences what NNI's import prints
import hypothesis  # noqa: E402
import portal  # noqa: E402
import torch  # noqa: E402
from longest import longest_first  # noqa: E402
from places import REPOSITORY  # noqa: E402
from processes import fork_server, forked_workers  # noqa: E402, F401

torch.set_num_threads(1)
hypothesis.settings.register_profile('nni_knas', deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.load_profile('nni_knas')


def pytest_addoption(parser):
    parser.addoption('--write-mistakes', action='store_true', help='write docs/mistakes.md anew; see make mistakes')


def pytest_collection_modifyitems(config, items):
    measured_once(items)
    if hasattr(config, 'workerinput'):  # of pytest-xdist
        longest_first(items)


def measured_once(items):
    """Coverage makes code take twice as long: where arguments are networks and scores, it is measured of a test's first."""
    count = Counter()
    for item in items:
        count[name := item.nodeid.partition('[')[0]] += 1
        if count[name] > 3 and item.path.parent.name in ('gradients', 'kernel', 'networks', 'scores', 'spaces'):
            item.add_marker('no_cover')  # of pytest-cov


@pytest.fixture(scope='session')
def home() -> Path:
    """The home folder that tests run with; NNI keeps its experiments below it."""
    return HOME


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """Folder with the real data sets: NNI_KNAS_DATA, or shared/data next to the repository."""
    folder = Path(os.environ.get('NNI_KNAS_DATA') or REPOSITORY.parent / 'shared' / 'data')
    if not folder.is_dir():
        pytest.skip(f'no data: {folder} is not a folder; name another with NNI_KNAS_DATA')
    return folder


@pytest.fixture(autouse=True)
def nothing_leaves_the_machine():
    yield
    tried, offline.refused = offline.refused, []
    assert not tried, f'this test wanted {tried[0]}, which is not on this machine'


@pytest.fixture(scope='session')
def shared_browser():
    """The browser of this process's tests; it opens when the first one asks."""
    browser = portal.open_browser()
    yield browser
    browser.quit()


@pytest.fixture(scope='module')
def browser(request):
    """A browser for a module's tests, which are skipped where there is none; it may be left at any page."""
    if portal.executables() is None:
        pytest.skip(portal.NONE)
    browser = request.getfixturevalue('shared_browser')
    yield browser
    portal.tidy(browser)


@pytest.fixture
def browser_if_any(request):
    """A browser, or ``None`` where there is none, for tests that look at a page in passing."""
    return request.getfixturevalue('browser') if portal.executables() else None


@pytest.fixture
def frequent_checkpoints(monkeypatch):
    """A checkpoint of the exploration after each candidate."""
    from nni_knas.search.explorers import Checkpoints

    monkeypatch.setattr(Checkpoints, 'least', 1)
    monkeypatch.setattr(Checkpoints, 'growth', 1.0)
    monkeypatch.setattr(Checkpoints, 'cost', 1e9)
