"""Nothing is lost or done twice when a search is killed: measurements/faults.py, with a kill."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import REPOSITORY


@pytest.mark.slow
def test_a_search_that_is_killed(tmp_path):
    command = [sys.executable, REPOSITORY / 'measurements' / 'faults.py', '--kills', '1', '--directory', tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert '1 kill' in result.stdout and 'resumes refused          0' in result.stdout
