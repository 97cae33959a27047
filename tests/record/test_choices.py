"""What a record keeps of the choice of candidates for training, and of the order in which trainings ended."""

from __future__ import annotations

import pytest

from nni_knas.record import Choice, Record, salvage

CHOICES = [Choice(3, 1, 'score'), Choice(1, 3, 'explore', 0.5, 0.25), Choice(2, 2, 'learned', 0.75, 0.125)]


def filled(path=None) -> Record:
    record = Record(path)
    for score in (1.0, 2.0, 3.0, 4.0):
        record.add_scored({'n': score}, '', score, 0.1)
    for choice in CHOICES:
        record.add_choice(choice)
    return record


def test_choices_in_their_order():
    assert filled().choices() == CHOICES and Record(None).choices() == []


def test_one_that_was_chosen_before_stays_as_it_was_chosen():
    record = filled()
    record.add_choice(Choice(1, 9, 'score'))
    assert record.choices() == CHOICES


def test_they_last(tmp_path):
    filled(tmp_path / 'record').close()
    assert Record(tmp_path / 'record', readonly=True).choices() == CHOICES
    salvage(tmp_path / 'record', tmp_path / 'new')
    assert Record(tmp_path / 'new').choices() == CHOICES


def test_endings_in_their_order():
    record = filled()
    for number, metric in ((3, 0.5), (1, None), (4, 0.25)):
        record.start_training(number)
        if metric is not None:
            record.set_metric(number, metric)
        record.end_training(number, 1.0, None if metric is not None else 'it is broken')
    record.add_result(2, 0.75)
    assert record.endings() == [(3, 0.5), (1, None), (4, 0.25), (2, 0.75)]
    record.start_training(3)
    assert record.endings() == [(1, None), (4, 0.25), (2, 0.75)] and record.in_training() == [3]
    record.end_training(3, 1.0)
    assert [number for number, _ in record.endings()] == [1, 4, 2, 3]


@pytest.mark.parametrize('readonly', [True, False])
def test_of_an_earlier_version(tmp_path, readonly):
    record = filled(tmp_path / 'record')
    for number in (4, 2):
        record.add_result(number, float(number))
    record._connection.execute('DROP TABLE choices')
    record._connection.execute('ALTER TABLE candidates ADD COLUMN other')  # SQLite cannot drop the last one before a comment
    for column in ('quick_panel', 'ended'):
        record._connection.execute(f'ALTER TABLE candidates DROP COLUMN {column}')
    record.close()
    old = Record(tmp_path / 'record', readonly=readonly)
    assert old.choices() == [] and old.endings() == [(2, 2.0), (4, 4.0)] and old.quick_panels().empty


def test_quick_panels_are_put_aside():
    record, kinds = Record(None), {'a': ({'x': 1.0}, {'x': 10.0}), 'b': ('no panel', {'x': 20.0}), 'c': ({'x': 3.0}, None)}
    for number, (name, (quick, full)) in enumerate(kinds.items(), start=1):
        record.add_screened({'n': name}, '', 0.5, 0.1, panel=quick)
        if full is not None:
            record.rate(number, 5.0, None, 0.1, full)
    quick = record.quick_panels()
    assert quick.index.tolist() == [1, 2] and quick.x[1] == 1.0 and quick.x.isna()[2]
    assert [record.panel(number) for number in (1, 2, 3)] == [{'x': 10.0}, {'x': 20.0}, {'x': 3.0}]
