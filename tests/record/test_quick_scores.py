"""What the record makes of quick scores and of full ones."""

from __future__ import annotations

import pytest

from nni_knas.record import Record


class TestRecord:
    @pytest.fixture
    def record(self):
        """Two networks of two candidates each, two of one each, one that failed quickly."""
        record = Record(None)
        for n, (network, quick) in enumerate(
            [('a', 3.0), ('a', 3.0), ('b', 2.0), ('b', 2.0), ('', 5.0), ('', 4.0), ('', None)]
        ):
            record.add_screened({'n': n}, network or f'{{"n": {n}}}', quick, 1.0)
        return record

    def test_networks(self, record):
        assert list(record.networks()) == [
            (1, 3.0, None, False),
            (3, 2.0, None, False),
            (5, 5.0, None, False),
            (6, 4.0, None, False),
            (7, None, None, False),
        ]
        record.rate(1, 0.5, None, 2.0)
        record.rate(6, None, 'no luck', 2.0)
        assert [(number, score) for number, _, score, finished in record.networks() if finished] == [(1, 0.5), (6, None)]

    def test_rate(self, record):
        record.rate(1, 0.5, None, 2.0)
        record.rate(3, None, 'no luck', 2.0)
        record.rate(5, 0.7, None, 2.0)
        rows = [(c.score, c.status, c.reason, c.seconds) for c in record.explored()]
        assert rows == [
            (0.5, 'scored', None, 3.0),
            (0.5, 'scored', None, 1.0),
            (None, 'failed', 'no luck', 3.0),
            (None, 'failed', 'no luck', 1.0),
            (0.7, 'scored', None, 3.0),
            (None, 'screened', None, 1.0),
            (None, 'screened', None, 1.0),
        ]

    def test_best(self, record):
        assert [c.id for c in record.best(10)] == [5, 6, 1, 2, 3, 4]
        record.rate(3, 0.5, None, 2.0)
        record.rate(5, None, 'no luck', 2.0)
        record.rate(7, 0.1, None, 2.0)
        assert [c.id for c in record.best(10)] == [3, 4, 7, 6, 1, 2]
        assert [c.id for c in record.best(2)] == [3, 4]
        assert [c.rated for c in record.best(4)] == [0.5, 0.5, 0.1, 4.0]
        assert list(record.frame().candidate) == [3, 4, 7, 6, 1, 2, 5]
        assert record.best_score() == 0.5

    def test_failed_ones_come_last(self, record):
        record.rate(5, None, 'no luck', 2.0)
        assert list(record.frame().candidate) == [6, 1, 2, 3, 4, 7, 5]

    def test_stopped_training(self, record):
        record.rate(5, 0.7, None, 2.0)
        for number in (5, 6):
            record.start_training(number)
            record.stop_training(number)
        assert [record.get(number).status for number in (5, 6)] == ['scored', 'screened']

    def test_one_that_was_trained_by_its_quick_score_gets_a_full_one(self, record):
        """It keeps what came of its training."""
        record.start_training(6)
        record.set_metric(6, 0.9)
        record.end_training(6, 10.0)
        assert (6, 4.0, None, False) in record.networks()
        record.rate(6, 0.3, None, 2.0)
        assert record.get(6)[3:9] == (0.3, 3.0, 'trained', None, 0.9, 10.0)
        assert (6, 4.0, 0.3, True) in record.networks()
