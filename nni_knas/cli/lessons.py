"""What a run's trained candidates have taught, as text."""

from __future__ import annotations

import pandas as pd

from nni_knas.basics.texts import number, table
from nni_knas.record import Status
from nni_knas.runs import Lessons

__all__ = ['choices_text', 'weights_text']

_MOST = 8


def weights_text(lessons: Lessons) -> str:
    """The statistics that are known to count, as a table; and how many others there are."""
    known = lessons.known
    left = f'{len(lessons.weights) - len(known)} of {len(lessons.weights)} statistics are not known to count'
    if not len(known):
        return f'{left}: that takes more trained candidates'
    header = ['statistic', 'weight', 'with 95 % between', 'in words']
    rows = [
        [str(name), number(row.weight, '.2f'), f'{number(row.low, ".2f")} and {number(row.high, ".2f")}', row.meaning]
        for name, row in known.head(_MOST).iterrows()
    ]
    more = f'{len(known) - _MOST} more count, and ' if len(known) > _MOST else ''
    return f'{table(header, rows, right={"weight", "with 95 % between"})}\n{more}{left}'


def choices_text(choices: pd.DataFrame, metric_name: str) -> str:
    """What was trained as a table: its rank by score, why it was chosen, what was expected and what came of it."""
    header = ['choice', 'rank then', 'chosen as', 'expected', metric_name]
    rows = [
        [
            str(order),
            str(row['rank']),
            row.reason,
            number(row.predicted, '.4f', ''),
            number(row.metric, '.4f', 'failed' if row.status == Status.TRAINING_FAILED else ''),
        ]
        for order, row in choices.iterrows()
    ]
    return table(header, rows, right={'choice', 'rank then', 'expected', metric_name})
