"""Work that is done every so often beside a run."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest
from clocks import Clock
from servers import wait_until

from nni_knas.basics import periodic
from nni_knas.basics.periodic import repeated


def test_is_done_again_and_again_and_not_afterwards():
    calls = []
    with repeated(lambda: calls.append(threading.current_thread()), 0.01):
        wait_until(lambda: len(calls) >= 3)
    assert threading.current_thread() not in calls and not any(thread.is_alive() for thread in calls)


@pytest.mark.parametrize('last', [False, True])
def test_is_done_once_more_at_the_end_if_asked_for(last):
    calls = []
    with repeated(lambda: calls.append(1), 3600, last=last):
        pass
    assert len(calls) == last


def test_is_done_once_more_after_an_error_of_the_run():
    calls = []
    with pytest.raises(KeyboardInterrupt), repeated(lambda: calls.append(1), 3600, last=True):
        raise KeyboardInterrupt
    assert calls == [1]


def test_what_goes_wrong_disturbs_nobody_and_is_tried_again(caplog):
    calls = []

    def work():
        calls.append(1)
        raise ValueError('not today')

    caplog.set_level(logging.DEBUG, 'nni_knas.basics.periodic')
    with repeated(work, 0.01, last=True):
        wait_until(lambda: len(calls) >= 3)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert 'not today' in caplog.text


@pytest.mark.parametrize('seconds', [0.01, 3600], ids=['by the thread', 'at the end'])
def test_a_missing_package_ends_it(seconds):
    calls = []

    def work():
        calls.append(threading.current_thread())
        raise ImportError('no such package')

    with repeated(work, seconds, last=True):
        if seconds < 1:
            wait_until(lambda: calls and not calls[0].is_alive())
    assert len(calls) == 1


def test_what_takes_long_is_done_more_rarely(monkeypatch):
    clock, waits = Clock().rules(monkeypatch, periodic), []

    class Over(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return len(waits) > 3

    monkeypatch.setattr(periodic, 'threading', SimpleNamespace(Event=Over, Thread=threading.Thread))
    takes = iter([0.1, 0.5, 3.0])
    with repeated(lambda: clock.sleep(next(takes)), 2.0, share=0.1):
        wait_until(lambda: len(waits) == 4)
    assert waits == pytest.approx([2.0, 2.0, 5.0, 30.0])


def test_the_end_waits_for_work_that_is_under_way(monkeypatch):
    """So it is never done twice at a time, and what it works on can be closed afterwards."""
    under_way, most, ending = [], [], threading.Event()

    class Thread(threading.Thread):
        def join(self, timeout=None):
            ending.set()
            super().join(timeout)

    def work():
        under_way.append(1)
        most.append(len(under_way))
        ending.wait(60)
        under_way.pop()

    monkeypatch.setattr(periodic, 'threading', SimpleNamespace(Event=threading.Event, Thread=Thread))
    with repeated(work, 0.0, last=True):
        wait_until(lambda: under_way)
    assert not under_way and len(most) >= 2 and max(most) == 1
