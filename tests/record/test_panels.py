"""The panels of the candidates in a record."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_knas.record import DamagedRecordError, Record, salvage

PANEL = {'first': 0.1, 'second': -1e-300, 'third': 12345678.0}
REASON = 'ScoringError: the statistic "first" is inf'
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def add(record, number, score=1.0, panel=PANEL, **options):
    return record.add_scored({'n': number}, str(number), score, 0.1, panel=panel, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'record.sqlite'


@given(st.lists(st.one_of(st.none(), st.text(max_size=5), st.lists(FINITE, min_size=3, max_size=3)), max_size=20))
def test_come_back_as_they_were(panels):
    """Bit for bit, one by one and as a table; a reason in the place of a panel, too."""
    panels = [dict(zip(PANEL, panel)) if isinstance(panel, list) else panel for panel in panels]
    with contextlib.closing(Record(None)) as record:
        for number, panel in enumerate(panels, start=1):
            add(record, number, panel=panel)
        assert [record.panel(number) for number in range(1, len(panels) + 1)] == panels
        frame = record.frame(panel=True)
        for name in record.statistics():
            expected = [panel[name] if isinstance(panel, dict) else np.nan for panel in panels]
            assert frame[name].to_numpy().tobytes() == np.array(expected, dtype=float).tobytes()
        assert list(frame.panel_reason) == [panel if isinstance(panel, str) else None for panel in panels]
        assert frame[frame.columns[: len(record.frame().columns)]].equals(record.frame())


def test_columns_are_asked_for():
    record = Record(None)
    columns = list(record.frame().columns)
    assert list(record.frame(panel=True).columns) == [*columns, 'panel_reason'] and record.statistics() == []
    add(record, 1)
    assert list(record.frame().columns) == columns
    assert list(record.frame(panel=True).columns) == [*columns, *PANEL, 'panel_reason']
    assert list(record.frame(panel=True).dtypes[list(PANEL)]) == ['float64'] * 3


def test_of_every_status():
    record = Record(None)
    add(record, 1, 2.0)
    record.add_screened({'n': 2}, '2', 1.0, 0.1, panel=PANEL)
    record.add_failed({'n': 3}, '3', 'no luck', 0.1, panel=PANEL)
    record.add_failed({'n': 4}, '4', 'no luck', 0.1)
    record.add_filtered({'n': 5}, '5', 'too large', 0.1)
    add(record, 6, 0.5, REASON)
    frame = record.frame(panel=True).set_index('candidate')
    assert list(frame['first'].notna().sort_index()) == [True, True, True, False, False, False]
    assert list(frame.panel_reason[frame.panel_reason.notna()].items()) == [(6, REASON)]


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_that_are_not_finite_are_none(value):
    """Whoever has computed them."""
    record = Record(None)
    add(record, 1, panel={**PANEL, 'second': value})
    assert record.panel(1) == f'the statistic "second" is {value}' and record.statistics() == []


def test_the_reason_is_told():
    record = Record(None)
    assert record.without_panel() is None
    add(record, 1)
    record.add_failed({'n': 9}, '9', 'no luck', 0.1)
    assert record.without_panel() is None
    for number, reason in enumerate([REASON, 'another', REASON], start=2):
        add(record, number, panel=reason)
    assert record.without_panel() == (3, REASON)


class TestFullScores:
    """They bring their own panel."""

    @pytest.fixture
    def record(self):
        record = Record(None)
        for number, network in enumerate(['a', 'a', 'b', 'c'], start=1):
            record.add_screened({'n': number}, network, 1.0, 0.1, panel=PANEL)
        return record

    @pytest.mark.parametrize('panel', [dict.fromkeys(PANEL, 3.0), REASON, None], ids=['panel', 'reason', 'none'])
    def test_replace_the_quick_one(self, record, panel):
        """That of a quick pass beside a full score would be taken for one of a full pass."""
        record.rate(1, 2.0, None, 0.1, panel)
        assert [record.panel(number) for number in (1, 2, 3, 4)] == [panel, panel, PANEL, PANEL]

    def test_that_fail_leave_it(self, record):
        record.rate(1, None, 'no luck', 0.1)
        assert record.panel(1) == record.panel(2) == PANEL
        record.rate(3, None, 'no luck', 0.1, dict.fromkeys(PANEL, 3.0))
        assert record.panel(3) == dict.fromkeys(PANEL, 3.0)

    def test_of_one_that_was_trained_meanwhile(self, record):
        record.start_training(1)
        record.end_training(1, 1.0)
        record.rate(1, 2.0, None, 0.1, dict.fromkeys(PANEL, 3.0))
        assert record.panel(1) == dict.fromkeys(PANEL, 3.0) and record.get(1).status == 'trained'


class TestVersions:
    def test_of_before_there_were_panels(self, path):
        record = Record(path)
        add(record, 1)
        record._connection.execute('ALTER TABLE candidates DROP COLUMN panel')
        record.forget_meta('statistics')
        record.close()
        reader = Record(path, readonly=True)
        assert reader.panel(1) is None and reader.statistics() == [] and reader.without_panel() is None
        assert reader.frame(panel=True).panel_reason.isna().all()
        record = Record(path)
        add(record, 2)
        assert record.panel(1) is None and record.panel(2) == PANEL
        assert list(record.frame(panel=True)['first'].isna()) == [True, False]

    def test_of_other_statistics(self, path):
        """It shows its own; taken up, it has both."""
        other = {'third': 5.0, 'fourth': 6.0}
        for number, panel in enumerate([other, PANEL, other, PANEL], start=1):
            record = Record(path)
            add(record, number, panel=panel)
            record.close()
        record = Record(path, readonly=True)
        assert record.statistics() == ['third', 'fourth', 'first', 'second']
        assert [record.panel(number) for number in (1, 2, 3, 4)] == [other, PANEL, other, PANEL]
        frame = record.frame(panel=True)
        assert list(frame.third) == [5.0, PANEL['third']] * 2
        assert list(frame.fourth.isna()) == list(frame['first'].notna()) == [False, True] * 2

    def test_their_names_stand_once(self, path):
        with contextlib.closing(Record(path)) as record, record.transaction():
            for number in range(1, 201):
                add(record, number)
        assert path.read_bytes().count(b'third') == 1
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert {size for (size,) in connection.execute('SELECT length(panel) FROM candidates')} == {1 + 8 * len(PANEL)}

    def test_are_read_while_they_are_written(self, path):
        record, reader = Record(path), Record(path, readonly=True)
        for number, panel in enumerate([PANEL, {'other': 1.0}], start=1):
            add(record, number, panel=panel)
            assert reader.panel(number) == panel and next(iter(panel)) in reader.frame(panel=True)


DAMAGES = {
    'cut': 'UPDATE candidates SET panel = substr(panel, 1, 20) WHERE id = 2',
    'unknown names': "UPDATE candidates SET panel = CAST(x'05' || substr(panel, 2) AS BLOB) WHERE id = 2",
    'not finite': "UPDATE candidates SET panel = CAST(substr(panel, 1, 17) || x'000000000000F07F' AS BLOB) WHERE id = 2",
    'a number': 'UPDATE candidates SET panel = 3.5 WHERE id = 2',
    'no names': "DELETE FROM meta WHERE key = 'statistics'",
    'names cut': "UPDATE meta SET value = substr(value, 1, 9) WHERE key = 'statistics'",
    'other names': "UPDATE meta SET value = '[3]' WHERE key = 'statistics'",
}


class TestDamage:
    @pytest.fixture
    def record(self, path):
        record = Record(path)
        for number in (1, 2, 3):
            add(record, number)
        add(record, 4, panel=REASON)
        return record

    @pytest.mark.parametrize('damage', DAMAGES)
    def test_is_said_where_panels_are_read(self, record, path, damage):
        before = record.frame()
        record._connection.execute(DAMAGES[damage])
        for read in (lambda: record.panel(2), lambda: record.frame(panel=True)):
            with pytest.raises(DamagedRecordError, match=f'{path} is damaged'):
                read()
        pd.testing.assert_frame_equal(record.frame(), before)

    @pytest.mark.parametrize('damage', DAMAGES)
    def test_what_can_be_read_is_salvaged(self, record, path, tmp_path, damage):
        record._connection.execute(DAMAGES[damage])
        assert salvage(path, tmp_path / 'new.sqlite') == 4
        salvaged = Record(tmp_path / 'new.sqlite')
        expected = [None] * 3 if 'names' in damage and damage != 'unknown names' else [PANEL, None, PANEL]
        assert [salvaged.panel(number) for number in (1, 2, 3, 4)] == [*expected, REASON]
        add(salvaged, 5)
        assert salvaged.panel(5) == PANEL and len(salvaged.frame(panel=True)) == 5

    def test_of_somewhere_else_leaves_panels_whole(self, record, path, tmp_path):
        record._connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        shutil.copy(path, tmp_path / 'copy.sqlite')
        with contextlib.closing(sqlite3.connect(tmp_path / 'copy.sqlite')) as copy:
            copy.execute('DROP TABLE sessions')
            copy.commit()
        salvage(tmp_path / 'copy.sqlite', tmp_path / 'new.sqlite')
        pd.testing.assert_frame_equal(Record(tmp_path / 'new.sqlite').frame(panel=True), record.frame(panel=True))
