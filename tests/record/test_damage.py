"""Damaged records: one sentence names the file and says what can be had, and what can be had is had."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3

import pytest
from made_up_runs import make

from nni_knas import open_run
from nni_knas.cli import main
from nni_knas.record import DamagedRecordError, Record, record_path, salvage


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp('whole') / 'run', candidates=400)


def damage(path, how):
    size, draw = path.stat().st_size, random.Random(how)
    if how.startswith('cut'):
        os.truncate(path, int(size * float(how.split()[1])))
    elif how.startswith('bytes'):
        with path.open('r+b') as file:
            for _ in range(40):
                file.seek(draw.randrange(size // 8, size - 64))
                file.write(draw.randbytes(64))
    elif how == 'empty':
        path.write_bytes(b'')
    elif how == 'text':
        path.write_text('this is no table' * 1000)
    else:
        with sqlite3.connect(path) as record:
            record.execute(f'DROP TABLE {how}')
        record.close()


HOW = ['cut 0.9', 'cut 0.5', 'cut 0.1', 'cut 0.01', 'bytes 1', 'bytes 2', 'bytes 3', 'empty', 'text', 'candidates', 'meta']


@pytest.mark.parametrize('how', HOW)
def test_commands(whole, tmp_path, how, capsys):
    folder = tmp_path / 'run'
    shutil.copytree(whole.folder, folder)
    damage(record_path(folder), how)
    assert main(['list', '--directory', str(tmp_path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if str(folder) in line)
    for command in (['show', str(folder)], ['report', str(folder)], ['compare', str(folder), str(whole.folder)]):
        if command[0] == 'compare':
            command += ['--to', str(tmp_path / 'comparison.html')]
        status, said = main(command), capsys.readouterr().err.strip().splitlines()
        if how.startswith('bytes') and status == 0:
            continue  # it was not in what is read
        assert (status, len(said)) == (2, 1) and str(record_path(folder)) in said[0] and 'is damaged (' in said[0]
        assert 'can be read' in said[0]
    if not how.startswith('bytes'):
        assert 'damaged' in line


@pytest.mark.parametrize('how', HOW)
def test_salvage(whole, tmp_path, how):
    damaged, new = tmp_path / 'damaged.sqlite', record_path(tmp_path / 'new')
    shutil.copy(record_path(whole.folder), damaged)
    damage(damaged, how)
    count = salvage(damaged, new)
    frame, before = open_run(tmp_path / 'new').scores(all=True), whole.scores(all=True)
    assert len(frame) == count <= len(before)
    assert count > 0 or how in ('empty', 'text', 'candidates', 'cut 0.01', 'cut 0.1', 'cut 0.5', 'cut 0.9')
    if how == 'meta':
        assert frame.drop(columns='architecture').equals(before.drop(columns='architecture'))
    with pytest.raises(ValueError, match='is there already'):
        salvage(damaged, new)


def test_writing_does_not_hide_damage(whole, tmp_path):
    """A table that is gone is not made anew, as if there had been nothing in it."""
    path = tmp_path / 'record.sqlite'
    shutil.copy(record_path(whole.folder), path)
    damage(path, 'candidates')
    with pytest.raises(DamagedRecordError, match='there is no table candidates'):
        Record(path)


def test_kept_write_ahead_log_that_is_gone(tmp_path):
    """What had not come to the file is lost; the rest is read."""
    record = Record(tmp_path / 'record.sqlite')
    record._connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    record.add_scored({'a': 1}, 'x', 1.0, 0.1)
    shutil.copy(tmp_path / 'record.sqlite', tmp_path / 'alone.sqlite')
    assert len(Record(tmp_path / 'alone.sqlite', readonly=True)) == 0
