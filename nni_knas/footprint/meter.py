"""Meters the energy of a run while it is at work, into its record."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator

import psutil

from nni_knas.basics.harmless import Harmless
from nni_knas.basics.periodic import repeated
from nni_knas.footprint.power import PowerSource, Reading, power_source
from nni_knas.footprint.usage import busy_seconds, cpu_seconds
from nni_knas.record import Energy, Record, keys

__all__ = ['Meter']


_logger = logging.getLogger(__name__)


class Meter:
    """Writes what the machine uses while a run is at work, and how much of its CPU time is the run's.

    A thread beside the run reads every few seconds, so a kill loses no more than these. Where reading takes long it is done
    more rarely: it never takes more than :attr:`share` of a core. Use as a context. A meter that fails says so once, and the
    run goes on: what could not be read is missing in its footprint.

    Parameters
    ----------
    record
        The record of the run.
    session
        The session's number in the record.
    country
        The country that the energy comes from, see :func:`~nni_knas.footprint.power.power_source`.
    root
        The process whose CPU time, with that of its descendants, is the run's. Default: this one.

    Attributes
    ----------
    trials
        How many trials are under way; to be followed by :meth:`mark` when it changes.
    """

    interval = 5.0
    """Seconds between two readings."""
    share = 0.005
    """The part of a core's time that readings may take."""
    growth = 0.002
    """Length of an interval in the record, as part of the time that has passed: long runs have long ones."""
    least_covered = 0.2
    """Seconds that the first reading covers at least."""

    def __init__(self, record: Record, session: int, country: str | None = None, root: psutil.Process | None = None) -> None:
        self.trials = 0
        self._record = record
        self._session = session
        self._root = root or psutil.Process()
        self._country = country
        self._source: PowerSource | None = None
        self._opened = threading.Event()
        self._stage: str | None = None
        self._lock = threading.RLock()
        self._begun = self._head = self._opened_at = time.monotonic()
        self._last = Reading(0.0, 0.0, 0.0, 0.0)  # at the head
        self._seen = (time.time(), 0.0, 0.0)  # at the head: the clock, the machine's CPU time, the run's
        self._methods: dict[str, str] = {}
        self._row: int | None = None
        self._interval: Energy | None = None
        self._harmless = Harmless(
            'The energy could not be metered: the run goes on, and its footprint is not known in full.'
        )

    def __enter__(self) -> Meter:
        self._begun = self._head = time.monotonic()
        with self._harmless():
            self._seen = self._clock_and_cpu_seconds()
        self._stack = contextlib.ExitStack()
        threading.Thread(target=self._open_source, name='KNAS energy', daemon=True).start()
        self._stack.enter_context(repeated(self.tick, self.interval, share=self.share))
        return self

    def __exit__(self, *error: object) -> None:
        self.tick()
        self._stack.close()
        with self._harmless():
            if self._opened.wait(30) and self._source is not None:
                self._source.close()

    def _open_source(self) -> None:
        """Make ready to read, which takes a second the first time, beside the run's own work."""
        try:
            self._source = power_source(self._country)
        except Exception:
            _logger.warning('The energy of this machine cannot be read.', exc_info=True)
        self._opened_at = time.monotonic()
        self._opened.set()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is used inside belongs to this stage; what is used in none is not the run's."""
        outer = self.enter(name)
        try:
            yield
        finally:
            self.enter(outer)

    def enter(self, stage: str | None) -> str | None:
        """What is used from now on belongs to this stage, or to none; gives the stage until now."""
        with self._lock:
            with self._harmless():
                self.mark()
            outer, self._stage = self._stage, stage
            return outer

    def mark(self) -> None:
        """End an interval of the record here."""
        with self._lock, self._harmless():
            if self._stage is not None:
                self.tick()
            else:  # what was used since is nobody's
                self._seen, self._head = self._clock_and_cpu_seconds(), time.monotonic()
                self._last = self._read_source() if self._opened.is_set() else self._last
            self._row = self._interval = None

    def tick(self) -> None:
        """Write what was used since the last time; also a sign of life of the session."""
        with self._lock:
            with self._harmless():
                if self._stage is not None:
                    self._write_interval(self._stage)
                    self._record_methods()
            with self._harmless():
                self._record.keep_session(self._session)

    def _write_interval(self, stage: str) -> None:
        used = self._used_since_last_time()
        before, now = self._seen, self._clock_and_cpu_seconds()
        self._seen = now
        seconds, busy, own = (max(0.0, new - old) for new, old in zip(now, before))
        energy = Energy(stage, before[0], seconds, *used[:3], used.co2 / (sum(used[:3]) or 1.0), busy, own, self.trials)
        if self._interval is not None:
            energy = _joined_intervals(self._interval, energy)
        self._row = self._record.set_energy(self._session, energy, self._row)
        self._interval = energy
        if energy.seconds >= max(self.interval, self.growth * (time.monotonic() - self._begun)):
            self._row = self._interval = None

    def _record_methods(self) -> None:
        methods = self._source.methods() if self._source is not None else {}
        if methods != self._methods:
            self._methods = methods
            self._record.set_meta(keys.METHODS, json.dumps(methods))

    def _clock_and_cpu_seconds(self) -> tuple[float, float, float]:
        return time.time(), busy_seconds(), cpu_seconds(self._root)

    def _read_source(self) -> Reading:
        return self._source.read() if self._source is not None else self._last

    def _used_since_last_time(self) -> Reading:
        """What was used since the last time. What was used before the source was ready is taken to be in proportion."""
        self._opened.wait(30)
        covered = time.monotonic() - max(self._opened_at, self._head)
        if self._opened_at > self._head and covered < self.least_covered:
            time.sleep(self.least_covered - covered)
        before, self._last = self._last, self._read_source()
        now = time.monotonic()
        factor = (now - self._head) / max(now - max(self._opened_at, self._head), 1e-9)
        self._head = now
        return Reading(*(factor * max(0.0, new - old) for new, old in zip(self._last, before)))


def _joined_intervals(one: Energy, other: Energy) -> Energy:
    """Two intervals, one after the other, as one."""
    kwh = [one.cpu_kwh + one.gpu_kwh + one.memory_kwh, other.cpu_kwh + other.gpu_kwh + other.memory_kwh]
    mean = (kwh[0] * one.kg_per_kwh + kwh[1] * other.kg_per_kwh) / sum(kwh) if sum(kwh) else 0.0
    return one._replace(
        seconds=one.seconds + other.seconds,
        cpu_kwh=one.cpu_kwh + other.cpu_kwh,
        gpu_kwh=one.gpu_kwh + other.gpu_kwh,
        memory_kwh=one.memory_kwh + other.memory_kwh,
        kg_per_kwh=mean,
        busy=one.busy + other.busy,
        own=one.own + other.own,
    )
