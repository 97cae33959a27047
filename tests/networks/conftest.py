"""What tests of exports share."""

from __future__ import annotations

import pytest
from searches import search
from spaces import tiny_kernel

from nni_knas import KNAS, open_run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run that has trained two."""
    folder = tmp_path_factory.mktemp('runs')
    return open_run(folder / search(KNAS(tiny_kernel(), 8, 2), folder).id)
