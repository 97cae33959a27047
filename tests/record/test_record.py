"""The table of candidates."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_knas.networks.candidates import encode_sample
from nni_knas.networks.costs import COSTS
from nni_knas.record import Record
from nni_knas.search.coarse import CoarseStage


def add(record, sample, score=1.0):
    if score is None:
        return record.add_failed(sample, encode_sample(sample), 'broken', 0.5)
    return record.add_scored(sample, encode_sample(sample), score, 0.5)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=30))
def test_ranking(scores):
    """Best first, ties in the order of exploration, failed ones last; scores come back as they were, bit for bit."""
    record = Record(None)
    for i, score in enumerate(scores):
        add(record, {'choice': i}, score)
    expected = sorted(range(len(scores)), key=lambda i: (scores[i] is None, -(scores[i] or 0), i))
    frame = record.frame()
    assert [sample['choice'] for sample in frame.architecture] == expected
    assert [candidate.sample['choice'] for candidate in record.best(5)] == [i for i in expected if scores[i] is not None][:5]
    assert [None if score != score else score for score in frame.score] == [scores[i] for i in expected]
    record.close()


def test_life_of_a_candidate(tmp_path):
    record = Record(tmp_path / 'record.sqlite')
    candidate = add(record, {'choice': (1, 2)})
    assert candidate.status == 'scored' and record.find({'choice': (1, 2)}) == candidate
    record.start_training(candidate.id)
    record.set_metric(candidate.id, 0.9)
    record.end_training(candidate.id, 12.0)
    other = Record(tmp_path / 'record.sqlite', readonly=True)  # as another process would see it
    [row] = other.trained()
    assert (row.status, row.metric, row.training_seconds, row.sample) == ('trained', 0.9, 12.0, {'choice': (1, 2)})
    record.end_training(candidate.id, None, 'no luck')
    assert other.find({'choice': (1, 2)}).reason == 'no luck'
    assert other.trained() == []


def test_a_sample_stands_once():
    record = Record(None)
    add(record, {'choice': 1})
    with pytest.raises(sqlite3.IntegrityError):
        add(record, {'choice': 1})
    assert len(record) == 1


def test_reasons():
    record = Record(None)
    for i, reason in enumerate(['a', 'b', 'b']):
        record.add_failed({'choice': i}, str(i), reason, 0.1)
    assert record.frequent_reason('failed') == ('b', 2)
    assert record.frequent_reason('training-failed') is None


def test_empty_frame_has_its_columns():
    frame = Record(None).frame()
    assert len(frame) == 0 and {'score', 'status', 'architecture', 'metric'} <= set(frame.columns)


def test_a_record_that_is_just_being_made(tmp_path):
    sqlite3.connect(tmp_path / 'record.sqlite').execute('PRAGMA journal_mode=WAL')
    early = Record(tmp_path / 'record.sqlite', readonly=True)
    assert len(early.frame()) == 0 and early.sessions() == []
    Record(tmp_path / 'record.sqlite').add_scored({'a': 1}, 'x', 1.0, 0.1, costs={'parameters': 5.0})
    assert list(early.frame().parameters) == [5.0]


def test_threads(tmp_path):
    record = Record(tmp_path / 'record.sqlite')

    def add_some(k):
        for i in range(50):
            add(record, {'choice': (k, i)}, i)

    threads = [threading.Thread(target=add_some, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(record) == len(record.frame()) == 200


def test_numbers_of_exploration():
    """Written in any order; where a number is taken, the next that is free."""
    record = Record(None)
    for number, expected in ((3, 3), (1, 1), (3, 4), (None, 5), (2, 2)):
        sample = {'choice': len(record)}
        assert record.add_scored(sample, encode_sample(sample), 1.0, 0.1, number).id == expected
    assert [candidate.id for candidate in record.explored()] == [1, 2, 3, 4, 5]
    assert [sample['choice'] for sample in record.samples(4)] == [1, 4, 0, 2]
    assert list(record.frame().candidate) == [1, 2, 3, 4, 5]  # equal scores rank by number


def test_networks_that_several_samples_share():
    record = Record(None)
    for rate in (0.1, 0.2):
        record.add_scored({'width': 4, 'rate': rate}, encode_sample({'width': 4}), 2.0, 0.1)
    assert record.find_architecture(encode_sample({'width': 4})).sample == {'width': 4, 'rate': 0.1}
    assert record.find_architecture(encode_sample({'width': 8})) is None


def test_a_transaction_that_is_interrupted_keeps_what_was_written(tmp_path):
    record = Record(tmp_path / 'record.sqlite')
    with pytest.raises(KeyboardInterrupt), record.transaction():
        add(record, {'choice': 1})
        assert len(Record(tmp_path / 'record.sqlite', readonly=True)) == 0
        raise KeyboardInterrupt
    add(record, {'choice': 2})
    assert len(Record(tmp_path / 'record.sqlite', readonly=True)) == 2


def test_filtered_candidates_and_costs(tmp_path):
    record = Record(tmp_path / 'record.sqlite')
    record.add_filtered({'choice': 1}, encode_sample({'choice': 1}), 'parameters 9 is above 5', 0.1, None, {'parameters': 9})
    record.add_scored({'choice': 2}, encode_sample({'choice': 2}), 1.0, 0.1, None, {'parameters': 3, 'latency': 0.25})
    record.add_screened({'choice': 3}, encode_sample({'choice': 3}), 7.0, 0.1, None, {'flops': 8})
    add(record, {'choice': 4}, None)
    assert record.counted() == 3 and len(record) == 4
    for reader in (record, Record(tmp_path / 'record.sqlite', readonly=True)):
        frame = reader.frame()
        assert list(frame.candidate) == [2, 3, 1, 4] and list(frame.status) == ['scored', 'screened', 'filtered', 'failed']
        assert list(frame.columns[-5:]) == ['parameters', 'flops', 'memory', 'latency', 'architecture']
        assert frame.parameters.tolist()[::2] == [3, 9] and frame.parameters.notna().sum() == 2
        assert (frame.flops[2], frame.latency[1]) == (8, 0.25) and frame.memory.isna().all()
        assert [row.costs for row in reader.explored()] == [
            {'parameters': 9},
            {'parameters': 3, 'latency': 0.25},
            {'flops': 8},
            {},
        ]
        assert [row.id for row in reader.best(9)] == [2, 3] and reader.best_score() == 1.0
        assert [number for number, *_ in reader.networks()] == [2, 3, 4]
        assert reader.get(1).reason == 'parameters 9 is above 5' and reader.get(1).score is None
    assert 4 in record and 5 not in record


def test_full_scores_leave_filtered_networks_alone():
    record = Record(None)
    for rate in (1, 2):
        record.add_filtered({'rate': rate}, 'the same', 'too slow', 0.1)
    record.rate(1, 3.0, None, 0.1)
    assert [row.status for row in record.explored()] == ['filtered'] * 2 and record.best(2) == []


def test_candidates_outside_of_the_space():
    """They count for nothing until they are readmitted, each as what it was."""
    record = Record(None)
    add(record, {'choice': 1}, 3.0)
    add(record, {'choice': 2}, None)
    record.add_screened({'choice': 3}, encode_sample({'choice': 3}), 5.0, 0.1)
    record.add_filtered({'choice': 4}, encode_sample({'choice': 4}), 'too large', 0.1)
    for choice in (5, 6, 7):
        add(record, {'choice': choice}, 2.0)
        record.start_training(choice)
    record.end_training(6, 1.0)
    record.end_training(7, None, 'no luck')
    record.add_screened({'choice': 8}, encode_sample({'choice': 8}), None, 0.1)
    add(record, {'choice': 9}, 1.0)
    before = record.explored()
    record.exclude(range(1, 9))
    assert [row.status for row in record.explored()] == ['outside'] * 3 + [
        'filtered',
        'training',
        'trained',
        'training-failed',
        'outside',
        'scored',
    ]
    assert [row.id for row in record.best(9)] == [5, 6, 7, 9] and record.best_score() == 2.0
    assert [number for number, *_ in record.networks()] == [5, 6, 7, 9]
    assert list(record.frame().candidate) == [5, 6, 7, 9, 1, 3, 2, 4, 8] and record.counted() == 4
    record.readmit()
    assert record.explored() == before


def test_a_twin_of_a_network_outside_of_the_space_is_scored_in_full():
    record = Record(None)
    for rate in (1, 2):
        record.add_screened({'rate': rate}, 'the same', 4.0, 0.1)
    record.exclude([1])
    assert list(record.networks()) == [(2, 4.0, None, 0)]
    record.rate(2, 6.0, None, 0.1)
    assert record.best(2) == [record.get(2)]
    record.readmit()
    assert [(row.status, row.score) for row in record.explored()] == [('scored', 6.0)] * 2


@pytest.mark.parametrize('mode, expected', [(None, [3, 1, 2]), ('maximize', [3, 1, 2]), ('minimize', [2, 1, 3])])
def test_direction_of_metrics(mode, expected):
    record = Record(None)
    for number, metric in enumerate([0.5, -1.0, 2.0, float('nan')], start=1):
        add(record, {'choice': number})
        record.start_training(number)
        record.set_metric(number, metric)
        record.end_training(number, 1.0)
    if mode is not None:
        record.set_meta('optimize_mode', mode)
    assert [row.id for row in record.trained()] == expected


def test_a_record_of_before_there_were_costs(tmp_path):
    record = Record(tmp_path / 'record.sqlite')
    add(record, {'choice': 1})
    for cost in COSTS:
        record._connection.execute(f'ALTER TABLE candidates DROP COLUMN {cost}')
    record.close()
    reader = Record(tmp_path / 'record.sqlite', readonly=True)
    assert reader.frame()[list(COSTS)].isna().all(axis=None) and reader.get(1).costs == {}
    record = Record(tmp_path / 'record.sqlite')
    record.add_scored({'choice': 2}, encode_sample({'choice': 2}), 2.0, 0.1, None, {'flops': 4})
    assert record.frame().flops.tolist()[0] == 4 and record.get(1).costs == {}


def test_an_exploration_that_is_forgotten_leaves_its_candidates():
    record = Record(None)
    add(record, {'choice': 1})
    for key in ('explorer Random', 'checkpoint of Random()', 'finished for', 'batch in full', 'kernel', 'ahead'):
        record.set_meta(key, '1')
    CoarseStage.forget_exploration(record)
    left = [
        key
        for key in ('explorer Random', 'checkpoint of Random()', 'finished for', 'batch in full', 'kernel', 'ahead')
        if record.get_meta(key)
    ]
    assert left == ['kernel', 'ahead'] and len(record) == 1
