"""Architectures that are scored in several processes: the same scores, and nothing that is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from servers import wait_until
from small_benchmarks import tiny
from spaces import tiny_kernel

from nni_knas.benchmark import Measurement, ScoreCache, measure
from nni_knas.benchmark.baselines import Parameters
from nni_knas.scores import MGM

ENDLESS = """
import os, time
from nni_knas.benchmark.processes import spread

def begin(piece):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == '__main__':
    list(spread(begin, range(2), 2))
"""


def test_scores_are_the_same():
    benchmark, kernel, scores = tiny(8), tiny_kernel(seed=2), [Parameters(), MGM()]
    architectures = list(benchmark.table.index)
    found = []
    for processes in (1, 2):
        cache = ScoreCache(None)
        measure(benchmark, kernel, architectures[: 8 // processes], scores, cache)  # one goes on where the other stopped
        measure(benchmark, kernel, architectures, scores, cache, processes)
        measurement = Measurement(benchmark, kernel, cache)
        found.append([measurement.values(score, architectures) for score in scores])
    np.testing.assert_array_equal(*found)
    assert np.isfinite(found).all()


@pytest.mark.slow
def test_none_outlives_the_command(tmp_path):
    script = tmp_path / 'endless.py'
    script.write_text(ENDLESS)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(signal.SIGKILL)
    for worker in workers:
        wait_until(lambda worker=worker: not is_alive(worker))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
