"""CPU time, of processes and of the machine, by which a machine's energy is shared among what runs on it; and its CPU."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

__all__ = ['busy_seconds', 'cpu_seconds', 'processor_name']


def cpu_seconds(root: psutil.Process) -> float:
    """CPU time in seconds that a process and its descendants have used so far, those that have ended among them.

    A descendant that has ended is counted by its parent, once that has waited for it, on Linux; elsewhere it is lost.
    """
    seconds = 0.0
    processes = [root]
    with contextlib.suppress(psutil.Error):
        processes += root.children(recursive=True)
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended just now
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def busy_seconds() -> float:
    """CPU time in seconds that all cores of the machine together were at work since it was started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, 'iowait', 0.0)
    twice = getattr(times, 'guest', 0.0) + getattr(times, 'guest_nice', 0.0)  # on Linux these are in user and nice, too
    return sum(times) - twice - idle


def processor_name() -> str | None:
    """What the system calls its CPU; ``None`` where it does not say, which most do not but Linux on x86."""
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip() or None
    return None
