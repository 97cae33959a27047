"""``nni-knas doctor``: what is wrong with an installation is found, and what to do about it said."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import socket
from types import SimpleNamespace

import pytest

from nni_knas.cli import doctor, main, ports


@pytest.fixture
def node_folder(tmp_path, monkeypatch):
    """A package of NNI's manager whose ``node`` is this script."""

    def node_folder(script: str | None):
        if script is not None:
            (tmp_path / 'node').write_text(f'#!/bin/sh\n{script}\n')
            (tmp_path / 'node').chmod(0o755)
        spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
        return tmp_path

    return node_folder


def with_version(monkeypatch, package, version):
    known = importlib.metadata.version

    def other(name):
        if name == package and version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version if name == package else known(name)

    monkeypatch.setattr(importlib.metadata, 'version', other)


def test_this_installation(capsys):
    assert main(['doctor']) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith('nni-knas ') and last == 'This installation can do what it should.'
    assert [line.split()[1] for line in lines] == list(doctor.CHECKS)
    assert {line.split()[0] for line in lines} <= {'ok', '-'}


def test_what_is_wrong_is_counted_and_the_rest_is_looked_at(monkeypatch, capsys):
    def breaks():
        raise OSError('no such thing')

    def good():
        return doctor.Finding('ok', 'fine')

    checks = {'one': breaks, 'two': good, 'three': lambda: doctor.Finding('WRONG', 'bad', 'mend it')}
    monkeypatch.setattr(doctor, 'CHECKS', checks)
    assert main(['doctor']) == 1
    _, *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ['WRONG', 'ok', 'WRONG']
    assert 'OSError: no such thing' in lines[0] and lines[2].endswith('bad; mend it')
    assert last == '2 of 3 checks found something wrong.'


@pytest.mark.parametrize(
    ('package', 'version', 'said', 'advice'),
    [
        ('torch', '2.1.0', 'torch is 2.1.0', 'pip install "torch>=2.12"'),
        ('setuptools', '82.0.0', 'setuptools is 82.0.0', 'pip install "setuptools>=68,<81"'),
        ('scipy', None, 'scipy is missing', 'pip install "scipy>=1.15" "scipy"'),
        ('filelock', '3.20.0', 'filelock is 3.20.0', 'pip install "filelock<3.12"'),  # what NNI itself asks for
    ],
)
def test_packages_that_do_not_fit(package, version, said, advice, monkeypatch):
    with_version(monkeypatch, package, version)
    finding = doctor.CHECKS['packages']()
    assert finding.mark == 'WRONG' and said in finding.said and finding.advice == advice


def test_a_package_that_is_not_installed_itself(monkeypatch):
    with_version(monkeypatch, 'nni-knas', None)
    assert 'nni-knas is not installed' in doctor.CHECKS['packages']().said
    assert doctor.CHECKS['Python']().mark == 'ok'
    assert doctor.CHECKS['extras']().said == 'none'


def test_a_python_that_is_too_new(monkeypatch):
    monkeypatch.setattr('platform.python_version', lambda: '3.14.0')
    finding = doctor.CHECKS['Python']()
    assert finding.mark == 'WRONG' and '<3.13' in finding.advice


def test_without_pkg_resources(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    finding = doctor.CHECKS['nnictl']()
    assert finding.mark == 'WRONG' and finding.advice == 'pip install "setuptools>=68,<81"'
    with pytest.raises(ValueError, match='nni_node, is not installed'):
        doctor.CHECKS['manager']()


@pytest.mark.parametrize(
    ('script', 'said'),
    [
        ('echo "Error: libstdc++.so.6 is too old" >&2; exit 1', 'Error: libstdc++.so.6 is too old'),
        ('exit 3', 'status 3'),
        (None, 'cannot be run: No such file or directory'),
    ],
)
def test_a_manager_that_does_not_run(script, said, node_folder):
    node_folder(script)
    finding = doctor.CHECKS['manager']()
    assert finding.mark == 'WRONG' and said in finding.said and finding.advice


def test_a_portal_without_its_files(node_folder):
    folder = node_folder('echo v1')
    assert doctor.CHECKS['manager']().said == "NNI's Node.js v1 runs"
    assert doctor.CHECKS['portal']().mark == 'WRONG'
    (folder / 'static').mkdir()
    (folder / 'static' / 'index.html').touch()
    assert doctor.CHECKS['portal']().mark == 'ok'


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as server:
        server.bind(('', 0))
        port = server.getsockname()[1]
        for module in (doctor, ports):
            monkeypatch.setattr(module, 'USUAL', port)
        server.listen()
        assert f'{port} is taken' in doctor.CHECKS['port']().said
    assert doctor.CHECKS['port']().said == f'{port} is free'


def test_extras_that_are_missing(monkeypatch):
    with_version(monkeypatch, 'codecarbon', None)
    finding = doctor.CHECKS['extras']()
    assert finding.mark == '-' and 'without green: pip install "codecarbon>=3.3,<4"' in finding.said
    assert 'test' not in finding.said


def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / 'file').touch()
    finding = doctor.writable(tmp_path / 'file' / 'runs', 'runs')()
    assert finding.mark == 'WRONG' and 'runs cannot be kept in' in finding.said
    assert doctor.writable(tmp_path / 'not' / 'there', 'runs')().mark == 'ok'
    assert not (tmp_path / 'not').exists()
