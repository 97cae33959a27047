"""What lacks is named by packages that an index knows."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement
from places import REPOSITORY

from nni_knas.basics.extras import how_to_install, installed, misfits, pip_install, required


def test_the_packages_of_an_extra():
    assert [each.name for each in required('rl')] == ['tianshou', 'gym']
    assert how_to_install('rl') == 'pip install "tianshou==0.5.1" "gym==0.26.2"'
    assert {'nni', 'torch'} <= {each.name for each in required()}
    assert not {'nni', 'torch'} & {each.name for each in required('rl')}


def test_a_lower_bound_comes_first():
    assert pip_install([Requirement('torch<3,>=2.12')]) == 'pip install "torch>=2.12,<3"'


def test_what_does_not_fit():
    ones = [Requirement('numpy>=1'), Requirement('numpy>=99'), Requirement('not-there-at-all')]
    assert misfits(ones) == ones[1:]
    assert installed('not-there-at-all') is None


def test_without_metadata(monkeypatch):
    """As where the package is only on Python's path."""

    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'requires', none)
    assert how_to_install('report') == "install nni-knas with its extra 'report'"


@pytest.mark.parametrize('folder', ['nni_knas', 'docs', 'examples'])
def test_no_index_is_said_to_have_the_package(folder):
    texts = [path for path in (REPOSITORY / folder).rglob('*') if path.suffix in ('.py', '.md', '.ipynb')]
    assert texts
    said = [path for path in texts if re.search(r'nni-knas\[|pip install nni-knas', path.read_text('utf-8'))]
    assert said == []
