"""Each example runs as it stands, on small sizes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import EXAMPLES
from servers import free_port

SMALL = {
    'own_space.py': ['--candidates', '8', '--top-k', '2', '--epochs', '1', '--images', '100'],
    'evolution.py': ['--candidates', '8', '--population', '4', '--cells', '1'],
    'nasbench201.py': ['--candidates', '5', '--top-k', '1', '--epochs', '1', '--images', '100', '--cells', '1'],
    'kernel_as_evaluator.py': ['--trials', '2', '--cells', '1'],
}
PORTAL = ('nasbench201.py', 'kernel_as_evaluator.py')
SHOWN = {
    'own_space.py': 'Winner: {',
    'evolution.py': 'evolution  best score',
    'nasbench201.py': 'Best architecture: {',
    'kernel_as_evaluator.py': "{'cell/0_1'",
}


@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow) if name in PORTAL else name for name in SMALL])
def test_example(name, tmp_path):
    port = ['--port', str(free_port())] if name in PORTAL else []
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *SMALL[name], *port], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert SHOWN[name] in result.stdout


def test_all_are_tested():
    assert {path.name for path in EXAMPLES.glob('*.py')} == set(SMALL)
