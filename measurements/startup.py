"""How long one waits for the first thing to be seen: help, the list of runs, and the first score of a search.

    python measurements/startup.py
    python measurements/startup.py --repeats 10

Each line is the median and the shortest of several times, in seconds: what has passed from the start of the command, and the
CPU time of its process and of those that it has waited for. A search is what ``make search`` runs, on digits, in a folder of
its own; it is interrupted when a candidate has a score in its record.
"""

import argparse
import contextlib
import resource
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nni_knas.record import Record, record_path

COMMAND = (sys.executable, '-m', 'nni_knas')


class Times(NamedTuple):
    """Of a command: seconds on the clock, and of the CPU."""

    clock: float
    cpu: float


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def whole(*arguments: str) -> Times:
    """A command that ends by itself."""
    start, cpu = time.perf_counter(), cpu_of_children()
    subprocess.run([*COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL)
    return Times(time.perf_counter() - start, cpu_of_children() - cpu)


def search() -> tuple[Times, float, float]:
    """A search until it is interrupted; and seconds until it has named its folder, and until the first score."""
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), cpu_of_children()
        arguments = ['search', '--directory', folder, '--port', str(free_port())]
        process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            run = Path(process.stdout.readline().rstrip().rpartition(' in ')[2])
            named = time.perf_counter() - start
            await_score(record_path(run), process)
            scored = time.perf_counter() - start
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()
        return Times(time.perf_counter() - start, cpu_of_children() - cpu), named, scored


def await_score(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait for the first score, quick or full, and look often, but not so often that it is in the way."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError, sqlite3.OperationalError):  # it is being made
            record = Record(path, readonly=True)
            while process.poll() is None:
                if record.scored():
                    return
                time.sleep(0.02)
        time.sleep(0.02)
    raise RuntimeError(f'the search has ended with {process.returncode}')


def free_port() -> int:
    """A port for NNI's manager."""
    with socket.socket() as probe:
        probe.bind(('', 0))
        return int(probe.getsockname()[1])


def line(name: str, seconds: Sequence[float]) -> None:
    print(f'{statistics.median(seconds):7.2f} {min(seconds):9.2f}  {name}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=5)
    options = parser.parse_args()
    print(' median  shortest  s')
    for arguments in (['--help'], ['list']):
        times = [whole(*arguments) for _ in range(options.repeats)]
        line(f'nni-knas {arguments[0]}', [each.clock for each in times])
        line(f'nni-knas {arguments[0]}, CPU time', [each.cpu for each in times])
    searches = [search() for _ in range(options.repeats)]
    line('nni-knas search, until its run has a folder', [named for _, named, _ in searches])
    line('nni-knas search, until the first score', [scored for _, _, scored in searches])
    line('nni-knas search, CPU time until it is interrupted', [each.cpu for each, _, _ in searches])


if __name__ == '__main__':
    main()
