"""A clock that goes on when a test says so, for what a module makes of time."""

from __future__ import annotations

import threading
from types import ModuleType

import pytest


class Clock:
    """Takes the place of the ``time`` module in other modules: whoever sleeps moves it, and nobody waits."""

    def __init__(self, now: float = 1e6) -> None:
        self.now = now
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    def time(self) -> float:
        return self.now

    monotonic = perf_counter = time

    def rules(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
        """Be the time of these modules while the test lasts."""
        for module in modules:
            monkeypatch.setattr(module, 'time', self)
        return self
