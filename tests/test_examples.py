"""Each example runs as it stands, on small sizes."""

from __future__ import annotations

import re
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


@pytest.mark.slow
def test_readme(tmp_path):
    """The Python of the README, with smaller numbers."""
    [code] = re.findall(r'```python\n(.*?)```', EXAMPLES.with_name('README.md').read_text(), re.DOTALL)
    for large, small in {
        "load_data('digits')": "load_data('digits', limit=60)",
        'max_epochs=3': 'max_epochs=1',
        'candidates=100': 'candidates=4',
        'num_labels=': 'num_modules_per_stack=1, num_labels=',
        'port=8080': f'port={free_port()}',
    }.items():
        assert large in code
        code = code.replace(large, small)
    result = subprocess.run(
        [sys.executable, '-c', code + '\nprint(type(network).__name__)'], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == 'NasBench201'


def test_all_are_tested():
    assert {path.name for path in EXAMPLES.glob('*.py')} == set(SMALL)
