"""Work that is done every so often beside a run."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from servers import wait_until

from nni_knas.periodic import repeated


def test_is_done_again_and_again_and_not_afterwards():
    calls = []
    with repeated(lambda: calls.append(threading.current_thread()), 0.01):
        wait_until(lambda: len(calls) >= 3, 10)
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count
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

    caplog.set_level(logging.DEBUG, 'nni_knas.periodic')
    with repeated(work, 0.01, last=True):
        wait_until(lambda: len(calls) >= 3, 10)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert 'not today' in caplog.text


@pytest.mark.parametrize('seconds', [0.01, 3600], ids=['by the thread', 'at the end'])
def test_a_missing_package_ends_it(seconds):
    calls = []

    def work():
        calls.append(1)
        raise ImportError('no such package')

    with repeated(work, seconds, last=True):
        time.sleep(0.1)
    assert calls == [1]


def test_what_takes_long_is_done_more_rarely():
    calls = []

    def work():
        calls.append(1)
        time.sleep(0.1)

    with repeated(work, 0.01, share=0.1):  # so once a second
        time.sleep(0.8)
    assert len(calls) == 1


def test_the_end_waits_for_work_that_is_under_way():
    """So it is never done twice at a time, and what it works on can be closed afterwards."""
    under_way, most = [], []

    def work():
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.1)
        under_way.pop()

    with repeated(work, 0.0, last=True):
        wait_until(lambda: under_way, 10)
    assert not under_way and len(most) >= 2 and max(most) == 1
