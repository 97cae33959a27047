"""Runs whose record is made up, with candidates of every status."""

from __future__ import annotations

import sqlite3

import numpy as np

from nni_knas.record import Choice, Record, record_path
from nni_knas.runs import Run

OPERATIONS = ('conv_1x1', 'conv_3x3', 'avg_pool_3x3', '<b>skip</b>', 'none')


def make(
    folder,
    candidates=120,
    trained=8,
    *,
    quick=False,
    mode='maximize',
    wide=True,
    front='',
    costs=True,
    top_k=10,
    copies=0,
    learnt=False,
):
    """A run with failed, filtered and, where ``quick``, screened candidates; one of those in training fails.

    Of each candidate there are so many copies with lower scores. Where ``learnt``, candidates were chosen from all over the
    ranking, with a metric that was expected of them.
    """
    record, rng = Record(record_path(folder)), np.random.default_rng(0)
    record.set_meta('optimize_mode', mode)
    record.set_meta('front', front)
    record.set_meta('top_k', top_k)
    with record.transaction():
        for i in range(candidates):
            sample = {'n': i, 'cell/0_1': str(rng.choice(OPERATIONS))}
            score = float(np.exp((3 if wide else 0.1) * rng.normal()))
            values = {'parameters': float(rng.integers(1000, 9000)), 'flops': float(rng.integers(1, 10**7))} if costs else {}
            if i % 20 == 3:
                record.add_failed(sample, str(i), 'ScoringError: the score is nan', 0.1)
            elif i % 20 == 7:
                record.add_filtered(sample, str(i), 'parameters', 0.1, costs=values)
            elif quick and i % 2:
                record.add_screened(sample, str(i), score / 10, 0.05, costs=values)
            else:
                record.add_scored(sample, str(i), score, float(rng.uniform(0.2, 0.6)), costs=values)
    if copies:
        copy(record.path, copies)
    ranked = record.best(candidates)
    trained = min(trained, len(ranked))
    for j, rank in enumerate(np.linspace(1, len(ranked), trained, dtype=int) if learnt else range(1, trained + 1)):
        candidate = ranked[rank - 1]
        expected = ('learned', 0.75, 0.125) if learnt and j > 1 else ('score', None, None)
        record.add_choice(Choice(candidate.id, int(rank), *expected))
        record.start_training(candidate.id)
        if j == 1:
            record.end_training(candidate.id, 2.0, 'RuntimeError: out of memory')
        else:
            record.set_metric(candidate.id, round(float(rng.uniform(0.5, 0.9)), 3))
            record.end_training(candidate.id, 10.0 + j)
    record.close()
    return Run(folder)


def copy(path, copies):
    """As ``make`` would add candidates, in a small part of the time."""
    with sqlite3.connect(path) as record:
        columns = [name for _, name, *_ in record.execute('PRAGMA table_info(candidates)')]
        values = {
            **{name: name for name in columns},
            'id': 'id + size * number',
            'sample': 'replace(sample, \'"n": \' || (id - 1), \'"n": \' || (id - 1 + size * number))',
            'digest': 'randomblob(16)',
            'score': 'score / (1 + number)',
            'quick': 'quick / (1 + number)',
        }
        record.execute(f"""
            WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {copies}),
                sizes(size) AS (SELECT COUNT(*) FROM candidates)
            INSERT INTO candidates ({', '.join(columns)})
            SELECT {', '.join(values[name] for name in columns)} FROM candidates, numbers, sizes""")
    record.close()


def usable(run):
    scores = run.scores(all=True)
    return scores[~scores.status.isin(['failed', 'filtered', 'outside'])]
