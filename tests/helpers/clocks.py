"""A clock that goes on when a test says so, for what a module makes of time, and a power source that goes by it."""

from __future__ import annotations

import math
import threading
from types import ModuleType

import pytest

from nni_knas.footprint.power import PowerSource, Reading


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


class Constant(PowerSource):
    """3.6 kW by a clock, which makes 0.001 kWh a second, half of it in the CPU, and 0.5 kg a kWh."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.start = clock, clock.now

    def read(self) -> Reading:
        kwh = 0.001 * (self.clock.now - self.start)
        return Reading(0.5 * kwh, 0.3 * kwh, 0.2 * kwh, 0.5 * kwh)

    def methods(self) -> dict[str, str]:
        return {'cpu': 'measured (a test)'}

    def close(self) -> None:
        self.start = math.inf
