"""Who reaches NNI's manager: this machine alone, unless it is opened on purpose. It knows no login."""

from __future__ import annotations

import logging
import os
import socket
from types import SimpleNamespace
from unittest import mock

import psutil
import pytest
import requests
from nni.experiment import launcher
from nni.experiment.experiment import RunMode
from servers import free_port, wait_until

from nni_knas.bridge.listening import HOST, address_of, check_host, listening_on, reachable_only


@pytest.fixture(autouse=True)
def no_host(monkeypatch):
    monkeypatch.delenv(HOST, raising=False)


def own_address():
    """An address of this machine that others might reach."""
    for interfaces in psutil.net_if_addrs().values():
        for each in interfaces:
            if each.family == socket.AF_INET and not each.address.startswith('127.'):
                return each.address
    pytest.skip('this machine has no address but the loopback one')


@pytest.fixture
def manager(tmp_path):
    """Start a manager, as NNI does; gives its process and its port when it answers."""
    started = []

    def start():
        port = free_port()
        (tmp_path / 'log').mkdir()
        config = SimpleNamespace(
            training_service=SimpleNamespace(platform='local'), experiment_working_directory=str(tmp_path), log_level='info'
        )
        asked = launcher.NniManagerArgs('create', 'listening', config, port, False, False, None, None)
        started.append(launcher._start_rest_server(asked, RunMode.Background))
        launcher._check_rest_server(port)  # by NNI's own client, which asks localhost
        return psutil.Process(started[0].pid), port

    yield start
    for process in started:
        process.kill()
        process.wait()


def listening(process):
    sockets = [each for each in psutil.net_connections('inet') if each.pid == process.pid]
    return {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}


def answers(address, port):
    try:
        return requests.get(f'http://{address}:{port}/api/v1/nni/check-status', timeout=20).ok
    except requests.ConnectionError:
        return False


def test_this_machine_alone(manager):
    process, port = manager()
    assert listening(process) == {'127.0.0.1'}
    assert answers('127.0.0.1', port) and answers('localhost', port)
    assert not answers(own_address(), port)


def test_where_localhost_is_an_address_of_ipv6_first(manager, monkeypatch):
    _, port = manager()
    find = socket.getaddrinfo

    def ipv6_first(host, port, *arguments, **keywords):
        first = [(socket.AF_INET6, socket.SOCK_STREAM, 6, '', ('::1', port, 0, 0))] if host == 'localhost' else []
        return first + find(host, port, *arguments, **keywords)

    monkeypatch.setattr(socket, 'getaddrinfo', ipv6_first)
    assert answers('localhost', port)


def test_one_more_address(manager):
    address = own_address()
    with listening_on(address):
        process, port = manager()
    wait_until(lambda: answers(address, port))
    assert listening(process) == {'127.0.0.1', address} and answers('localhost', port)


def test_all_addresses(manager):
    with listening_on('0.0.0.0'):
        process, port = manager()
    assert listening(process) == {'0.0.0.0'} and answers('localhost', port) and answers(own_address(), port)


@pytest.mark.parametrize(
    'platform, host, address, where',
    [
        ('local', None, '127.0.0.1', None),
        ('local', 'localhost', '127.0.0.1', None),
        ('local', '0.0.0.0', '0.0.0.0', 'on 0.0.0.0, port 8080, and'),
        (
            'remote',
            None,
            '',
            'every address of this machine, port 8080, since the machines that train have to reach it, and',
        ),
        ('hybrid', None, '', 'since the machines that train have to reach it'),
        ('remote', '127.0.0.1', '127.0.0.1', None),
    ],
)
def test_what_is_open_is_said(platform, host, address, where, caplog):
    with listening_on(host):
        assert address_of(platform, 8080) == address
    said = ' '.join(caplog.messages)
    assert (where in said and 'whoever reaches it can run code on this machine as you' in said) if where else not said


@pytest.mark.parametrize(
    'found', [[(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('203.0.113.7', 0))], socket.gaierror(), UnicodeError()]
)
def test_hosts_that_are_not_of_this_machine(monkeypatch, found):
    monkeypatch.setattr(socket, 'getaddrinfo', mock.Mock(side_effect=[found]))
    with pytest.raises(ValueError, match="host 'theirs' is no address of this machine"):
        check_host('theirs')


def test_the_environment_is_as_it_was(monkeypatch):
    monkeypatch.setenv(HOST, '0.0.0.0')
    with listening_on('127.0.0.1'):
        assert os.environ[HOST] == '127.0.0.1'
    with listening_on(None):
        assert os.environ[HOST] == '0.0.0.0'
    assert os.environ[HOST] == '0.0.0.0'


def test_addresses_that_nobody_reaches_are_not_shown():
    said = 'Web portal URLs: ${CYAN}http://127.0.0.1:8080 http://192.0.2.3:8080'
    record = logging.makeLogRecord({'msg': said})
    assert reachable_only(record) and record.msg == 'Web portal URLs: ${CYAN}http://127.0.0.1:8080'
    with listening_on('0.0.0.0'):
        record = logging.makeLogRecord({'msg': said})
        assert reachable_only(record) and record.msg == said
