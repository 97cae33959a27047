"""The table of all candidates, as the page's script takes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nni_knas.basics.files import atomic_write
from nni_knas.record import Status
from nni_knas.runs import Run

__all__ = ['STATUS_TEXTS', 'Column', 'candidate_data', 'columns', 'csv_table', 'write_csv']

STATUS_TEXTS = {
    Status.TRAINED: 'trained',
    Status.TRAINING: 'in training',
    Status.SCORED: 'scored',
    Status.SCREENED: 'scored quickly',
    Status.TRAINING_FAILED: 'training failed',
    Status.FAILED: 'scoring failed',
    Status.FILTERED: 'over a limit',
    Status.OUTSIDE: 'outside of the space',
}
"""The statuses of the record in words."""

_ALWAYS = ('rank', 'candidate', 'status')


class Column(NamedTuple):
    """A column as the page shows it."""

    key: str
    label: str
    digits: int = 0
    """Significant digits that are shown; 0: all"""
    falling: bool = False
    """Whether the first click sorts the highest to the top"""
    scale: float = 1
    """What is shown is the value by this"""
    text: bool = False


def columns(frame: pd.DataFrame, metric: str, minimize: bool) -> list[Column]:
    """The columns of a table that has values in them.

    Parameters
    ----------
    frame
        Candidates as :meth:`nni_knas.runs.Run.frame` gives them.
    metric
        What the metric is called.
    minimize
        Whether a lower metric is better.
    """
    flops, flops_unit = _unit_of(frame.flops, {'': 1, 'k': 1e3, 'M': 1e6, 'G': 1e9})
    memory, memory_unit = _unit_of(frame.memory, {'B': 1, 'KiB': 2**10, 'MiB': 2**20, 'GiB': 2**30})
    latency, latency_unit = _unit_of(frame.latency, {'µs': 1e-6, 'ms': 1e-3, 's': 1})
    energy, energy_unit = _unit_of(frame.training_kwh, {'mWh': 1e-6, 'Wh': 1e-3, 'kWh': 1})
    listed = [
        Column('rank', 'Rank'),
        Column('candidate', 'Candidate'),
        Column('score', 'Score', 5, True),
        Column('quick', 'Quick score', 5, True),
        Column('metric', metric.capitalize(), 5, not minimize),
        Column('status', 'Status', text=True),
        Column('seconds', 'Scoring (s)', 3),
        Column('training_seconds', 'Training (s)', 4),
        Column('training_kwh', f'Training ({energy_unit})', 3, scale=energy),
        Column('parameters', 'Parameters'),
        Column('flops', f'{flops_unit}FLOPs', 4, scale=flops),
        Column('memory', f'Memory ({memory_unit})', 4, scale=memory),
        Column('latency', f'Latency ({latency_unit})', 3, scale=latency),
        Column('reason', 'Reason', text=True),
    ]
    return [column for column in listed if column.key in _ALWAYS or frame[column.key].replace('', None).notna().any()]


def _unit_of(values: pd.Series, units: dict[str, float]) -> tuple[float, str]:
    """The largest unit that the typical value reaches."""
    typical = values.median()
    names = [name for name, size in units.items() if typical >= size]
    name = names[-1] if names else next(iter(units))
    return units[name], name


def candidate_data(frame: pd.DataFrame, shown: list[Column]) -> dict[str, Any]:
    """The candidates in compact form.

    Returns
    -------
    dict
        ``columns``: of each its key, label and so on. ``values``: a list by key, one value a candidate, in the order of
        ``frame``; what is not known is ``None``, and texts are numbers in ``texts``. ``texts``: a list of different texts by
        key. ``names``, ``choices``, ``architectures``: the names of what can be chosen in the space, the different choices
        of each as JSON, and of each candidate a number for each name, -1 where its architecture lacks it.
    """
    table = frame.reset_index()
    values: dict[str, list[Any]] = {}
    texts: dict[str, list[str]] = {}
    for column in shown:
        if column.text:
            codes, different = pd.factorize(table[column.key])
            values[column.key], texts[column.key] = codes.tolist(), [str(text) for text in different]
        else:
            values[column.key] = [_json_number(value) for value in table[column.key]]
    return {
        'columns': [column._asdict() for column in shown],
        'values': values,
        'texts': texts,
        'statuses': STATUS_TEXTS,
        **_numbered_architectures(list(frame.architecture)),
    }


def _json_number(value: float) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if abs(value) < 2**53 and value == int(value) else float(value)


def _numbered_architectures(architectures: list[dict[str, Any]]) -> dict[str, Any]:
    names = {
        name: number
        for number, name in enumerate(dict.fromkeys(name for architecture in architectures for name in architecture))
    }
    choices: list[dict[str, int]] = [{} for _ in names]
    rows = []
    for architecture in architectures:
        row = [-1] * len(names)
        for name, value in architecture.items():
            known = choices[names[name]]
            row[names[name]] = known.setdefault(_compact_json(value), len(known))
        rows.append(row)
    return {'names': list(names), 'choices': [list(known) for known in choices], 'architectures': rows}


def csv_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidates as they go into a CSV file: the architecture is JSON."""
    return frame.reset_index().assign(architecture=[_compact_json(architecture) for architecture in frame.architecture])


def write_csv(run: Run, path: Path) -> None:
    """Write the candidates of a run as CSV: all of the file, or nothing."""
    with atomic_write(path) as unfinished:
        csv_table(run.frame()).to_csv(unfinished, index=False)


def _compact_json(value: Any) -> str:
    return json.dumps(value, separators=(',', ':'), default=str)
