"""Help, the version and the list of runs come without what searches import."""

from __future__ import annotations

import compileall
import json
import os
import resource
import subprocess
import sys

import pytest
from places import REPOSITORY

HEAVY = ('torch', 'nni', 'numpy', 'pandas', 'scipy', 'pytorch_lightning')
COMMANDS = (
    *(
        'search',
        'score',
        'benchmark',
        'list',
        'show',
        'resume',
        'export',
        'report',
        'compare',
        'register',
        'schema',
        'doctor',
    ),
)
QUICK = [['--help'], ['--version'], ['list'], [], ['nothing'], *([command, '--help'] for command in COMMANDS)]

MANY = f"""
import json, sys
from nni_knas.cli import main
for arguments in {QUICK!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


def test_nothing_heavy_is_imported():
    result = subprocess.run([sys.executable, '-c', MANY], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == []


def cpu_seconds(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], capture_output=True, check=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize('arguments', [['--help'], ['list']], ids=lambda arguments: arguments[0])
def test_it_takes_little_more_than_python(arguments):
    """Half a second would be ten times what Python itself takes on most machines."""
    compileall.compile_dir(REPOSITORY / 'nni_knas', quiet=2)
    plain = min(cpu_seconds('-c', 'import argparse, sqlite3, json') for _ in range(3))
    assert min(cpu_seconds('-m', 'nni_knas', *arguments) for _ in range(3)) < 8 * plain + 0.1
