"""What tests run in: a browser where there is one, a process that stays on its machine, and an order."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import offline
import portal
import pytest
from longest import LONGEST, longest_first
from places import REPOSITORY, TESTS


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Have these programs on the path, and no others."""

    def programs(*names):
        monkeypatch.setenv('PATH', str(tmp_path))
        for name in names:
            (tmp_path / name).write_text('#!/bin/sh\n')
            (tmp_path / name).chmod(0o755)

    return programs


@pytest.mark.parametrize('names', [(), ('chromium',), ('chromedriver',), ('google-chrome',), ('firefox', 'chromedriver')])
def test_without_a_browser_or_its_driver(programs, request, names):
    """Tests that need a browser are skipped, and those that look at a page in passing do without."""
    programs(*names)
    assert portal.executables() is None
    assert request.getfixturevalue('browser_if_any') is None
    with pytest.raises(pytest.skip.Exception, match='there is no browser: it takes chromedriver and one of chromium'):
        request.getfixturevalue('browser')


@pytest.mark.parametrize('name', portal.BROWSERS)
def test_selenium_is_told_where_browser_and_driver_are(programs, tmp_path, name):
    """It would look for them elsewhere otherwise."""
    programs(name, 'chromedriver')
    with mock.patch('selenium.webdriver.Chrome') as chrome:
        portal.open_browser()
    [options, service] = [chrome.call_args.kwargs[name] for name in ('options', 'service')]
    assert (options.binary_location, service.path) == (str(tmp_path / name), str(tmp_path / 'chromedriver'))


@pytest.mark.parametrize('host', ['192.0.2.1', '2001:db8::1', 'nowhere.invalid', '0.0.0.1'])
def test_what_leaves_the_machine_is_refused(host):
    """Also where the error is caught, since each test is asked at its end."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as end:
        for leaves in (
            lambda: end.connect((host, 80)),
            lambda: end.connect_ex((host, 80)),
            lambda: end.sendto(b'', (host, 80)),
            lambda: end.sendto(b'', 0, (host, 80)),
            lambda: socket.getaddrinfo(host, 80),
            lambda: socket.create_connection((host, 80)),
            lambda: socket.gethostbyname(host),
        ):
            with pytest.raises(offline.Refused, match='a test may not leave the machine'):
                leaves()
    assert offline.refused == [repr(host)] * 7
    offline.refused.clear()


def test_this_machine_is_not_refused():
    for host in ('127.0.0.1', '::1', '0.0.0.0', 'localhost', b'localhost', socket.gethostname(), '', None):
        assert offline.is_here(host)
    with socket.socket() as server, socket.socket() as client:
        server.bind(('localhost', 0))
        server.listen()
        client.connect(server.getsockname())


def test_processes_that_tests_start_are_told_to_stay():
    for name in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE', 'HF_DATASETS_OFFLINE', 'SE_OFFLINE', 'SE_AVOID_STATS'):
        assert os.environ[name] == 'true'


@pytest.mark.parametrize(('target', 'extras'), [('search', 'green,report'), ('test-fast', 'test')])
def test_make_sets_up_what_a_command_needs(target, extras, tmp_path):
    """By uv, and by pip where that fails; make takes a comma for the end of an argument."""
    command = ['make', '--dry-run', f'VENV={tmp_path}/venv', target]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert printed.count(f"-c constraints.txt -e '.[{extras}]'") == 2


class Item(NamedTuple):
    path: Path
    name: str


def test_the_longest_modules_come_first():
    first, second = (TESTS / name for name in LONGEST[:2])
    few, many = TESTS / 'test_a.py', TESTS / 'test_b.py'
    items = [Item(few, 'a'), Item(many, 'b'), Item(second, 'c'), Item(many, 'd'), Item(first, 'e'), Item(second, 'f')]
    longest_first(items)
    assert ''.join(item.name for item in items) == 'ecfbda'


@pytest.mark.parametrize('name', LONGEST)
def test_the_longest_modules_are_there(name):
    assert (TESTS / name).is_file()
