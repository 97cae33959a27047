"""The table of candidates."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_knas.candidates import encode_sample
from nni_knas.record import Record


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
    with pytest.raises(Exception, match='UNIQUE'):
        add(record, {'choice': 1})


def test_reasons():
    record = Record(None)
    for i, reason in enumerate(['a', 'b', 'b']):
        record.add_failed({'choice': i}, str(i), reason, 0.1)
    assert record.frequent_reason('failed') == ('b', 2)
    assert record.frequent_reason('training-failed') is None


def test_empty_frame_has_its_columns():
    frame = Record(None).frame()
    assert len(frame) == 0 and {'score', 'status', 'architecture', 'metric'} <= set(frame.columns)


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
