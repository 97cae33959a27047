"""Files that are whole, and private where they may hold secrets."""

from __future__ import annotations

import os
import stat

import pytest

from nni_knas.basics.files import atomic_write, private_folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def generous():
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_private_from_the_first_moment(tmp_path):
    path = tmp_path / 'knas' / 'config.json'
    with atomic_write(path, private=True) as unfinished:
        assert mode(unfinished) == 0o600
        unfinished.write_text('secret')
        assert mode(unfinished) == 0o600
    assert mode(path) == 0o600 and path.read_text() == 'secret'


def test_private_when_written_again(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('by an earlier version, for all to read')
    path.with_name(f'{path.name}.{os.getpid()}').write_text('left by a process of the same number')
    with atomic_write(path, private=True) as unfinished:
        unfinished.write_text('secret')
    assert mode(path) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ['config.json']


def test_others_are_as_the_umask_says(tmp_path):
    with atomic_write(tmp_path / 'report.html') as unfinished:
        unfinished.write_text('for all')
    assert mode(tmp_path / 'report.html') == 0o666


def test_an_error_leaves_what_there_was(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('before')
    with pytest.raises(KeyError), atomic_write(path, private=True) as unfinished:
        unfinished.write_text('half')
        raise KeyError
    assert path.read_text() == 'before' and len(list(tmp_path.iterdir())) == 1


def test_private_folder(tmp_path):
    private_folder(tmp_path / 'new' / 'db')
    (tmp_path / 'old').mkdir()
    private_folder(tmp_path / 'old')
    assert mode(tmp_path / 'new' / 'db') == mode(tmp_path / 'old') == 0o700
