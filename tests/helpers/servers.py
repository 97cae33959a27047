"""Free ports, and waiting with an end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('', 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], seconds: float = 600) -> None:
    """Wait for what is sure to come about: the end matters only where a test fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it took too long'
        time.sleep(0.05)
