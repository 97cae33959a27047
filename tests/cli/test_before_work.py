"""What is found wrong before anything is started or written."""

from __future__ import annotations

import socket
from unittest import mock

import pytest
from config_models import config_file
from nni.nas.experiment import NasExperiment

from nni_knas.cli import main
from nni_knas.cli.ports import free_port
from nni_knas.config import SearchOptions, Settings, default_config
from nni_knas.record import Record, record_path, settings_path


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    def start(*arguments, **keywords):
        raise AssertionError('it was started')

    monkeypatch.setattr(NasExperiment, 'start', start)


def said(capsys, *arguments):
    """What a command that fails says; it prints nothing else."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    [line] = captured.err.splitlines()
    return line


@pytest.mark.parametrize('arguments', [[], ['--device', 'cpu']])
def test_a_missing_run(tmp_path, capsys, arguments):
    """With a file, too, which says all that a search needs."""
    file = config_file(tmp_path)
    assert "there is no run 'nowhere'" in said(capsys, 'search', '--resume', 'nowhere', *arguments)
    assert "there is no run 'nowhere'" in said(capsys, 'search', '--config', file, '--resume', 'nowhere', *arguments)
    assert not (tmp_path / 'runs').exists()


def test_a_run_that_is_in_another_folder_than_the_file_says(tmp_path, capsys):
    folder = tmp_path / 'elsewhere' / 'mine'
    Settings(SearchOptions(), None, default_config().json()).write(folder)
    line = said(capsys, 'search', '--config', config_file(tmp_path), '--resume', folder)
    assert f"there is no run 'mine' to resume in {tmp_path / 'runs'}" in line


def test_a_device_that_is_not_there(tmp_path, capsys):
    line = said(capsys, 'search', '--config', config_file(tmp_path), '--device', 'cuda:99')
    assert "there is no device 'cuda:99'" in line
    assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('command', ['search', 'resume'])
def test_a_host_that_is_not_of_this_machine(tmp_path, capsys, monkeypatch, command):
    Settings(SearchOptions(), None, default_config().json()).write(tmp_path / 'mine')
    arguments = [tmp_path / 'mine'] if command == 'resume' else []
    monkeypatch.setattr(socket, 'getaddrinfo', mock.Mock(side_effect=socket.gaierror()))
    line = said(capsys, command, *arguments, '--host', 'theirs')
    assert line.startswith("nni-knas: host 'theirs' is no address of this machine: it has to be one, or 0.0.0.0")


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / 'file').touch()
    line = said(capsys, 'search', '--config', config_file(tmp_path), '--directory', tmp_path / 'file' / 'runs')
    assert line == f'nni-knas: runs cannot be kept in {tmp_path / "file" / "runs"}: Not a directory'


@pytest.mark.parametrize('command', [['resume'], ['search', '--resume']])
class TestRunsThatCannotGoOn:
    def test_settings_that_are_damaged(self, tmp_path, capsys, command):
        path = settings_path(tmp_path / 'mine')
        path.parent.mkdir(parents=True)
        path.write_text('{"options": {"candi')
        assert f'{path} is damaged' in said(capsys, *command, tmp_path / 'mine')

    def test_a_record_that_is_damaged(self, tmp_path, capsys, command):
        Settings(SearchOptions(), None, default_config().json()).write(tmp_path / 'mine')
        record_path(tmp_path / 'mine').write_text('no database at all, but text of some length')
        assert f'{record_path(tmp_path / "mine")} is damaged' in said(capsys, *command, tmp_path / 'mine')

    @pytest.mark.parametrize('port', [0, -1, 65536, 10**9])
    def test_ports_that_there_are_not(self, tmp_path, capsys, command, port):
        Settings(SearchOptions(), None, default_config().json()).write(tmp_path / 'mine')
        assert f'port {port} cannot be used: it has to be' in said(capsys, *command, tmp_path / 'mine', '--port', port)

    def test_one_of_a_script(self, tmp_path, capsys, command):
        Record(record_path(tmp_path / 'mine')).close()
        assert 'resume' in said(capsys, *command, tmp_path / 'mine')


class TestPorts:
    def test_one_that_was_in_use_a_moment_ago(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(('127.0.0.1', port)) as client:
                accepted, _ = server.accept()
                accepted.close()  # the side that closes first is left in TIME_WAIT
                assert client.recv(1) == b''
        assert free_port(port) == port

    def test_one_that_is_in_use(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
            with pytest.raises(ValueError, match=f'port {port} cannot be used: .*in use'):
                free_port(port)
            assert free_port(None, before=port) != port

    def test_the_one_before_is_the_first_choice(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
        assert free_port(None, before=port) == port
