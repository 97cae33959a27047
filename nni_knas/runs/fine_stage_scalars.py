"""Scalars of the fine stage for TensorBoard, in ``knas/tensorboard/fine`` of the run's folder.

The step is the number of the training in the order in which they ended. ``fine/metric``, ``fine/best_metric``, ``fine/rank``
(by score) and ``fine/predicted_metric`` are of that one; ``fine/rank_correlation`` is that of score and metric until then,
and ``fine/weight/...`` what a statistic counts for by then.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nni_knas.basics.periodic import repeated
from nni_knas.record import Record, keys
from nni_knas.runs.correlation import LEAST, rank_correlation
from nni_knas.runs.learning import learner_of, pool_of
from nni_knas.runs.scalars import INTERVAL, EventFile, read_events, scalars_of

__all__ = ['fine_scalars']


@contextlib.contextmanager
def fine_scalars(record: Record) -> Iterator[None]:
    """Write the scalars of the fine stage of a search into its run's folder, while the context lasts.

    Parameters
    ----------
    record
        The search's record. Nothing is written where it is not in an experiment's directory.
    """
    places = scalars_of(record, 'fine')
    if places is None:
        yield
        return
    scalars = _FineScalars(*places)
    with contextlib.closing(scalars), repeated(scalars.write, INTERVAL, share=0.05, last=True):
        yield


class _FineScalars:
    """Writes what is new in a record; a run that was killed and is resumed lacks none and repeats none."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._record: Record | None = None
        self._file: EventFile | None = None
        self._written = 0

    def write(self) -> None:
        if self._record is None:
            self._record = Record(self._path, readonly=True)
            self._written = max((event.step for event in read_events(self._folder)), default=0)
        endings = self._record.endings()
        if len(endings) <= self._written:
            return
        self._file = self._file or EventFile(self._folder)
        for step in range(self._written + 1, len(endings) + 1):
            weights = self._weights() if step == len(endings) else {}
            self._file.write(step, {**self._of_training(endings[:step]), **weights}, time.time())
        self._file.flush()
        self._written = len(endings)

    def _of_training(self, endings: list[tuple[int, float | None]]) -> dict[str, float]:
        """What there is to say of the last one."""
        assert self._record is not None
        choices = self._record.choices()
        ranks = {choice.candidate: choice.rank for choice in choices}
        predicted = {choice.candidate: choice.predicted for choice in choices}
        trained = [(number, metric) for number, metric in endings if metric is not None]
        metrics = np.array([metric for _, metric in trained])
        minimised = self._record.get_meta(keys.OPTIMIZE_MODE) == 'minimize'
        number, metric = endings[-1]
        ranked = [number for number, _ in trained if number in ranks]
        correlation = rank_correlation(
            [-ranks[number] for number in ranked], [metric for number, metric in trained if number in ranks]
        )
        found = {
            'failed': float(len(endings) - len(trained)),
            'metric': metric,
            'best_metric': float(metrics.min() if minimised else metrics.max()) if len(metrics) else None,
            'rank': ranks.get(number),
            'predicted_metric': predicted.get(number),
            'rank_correlation': -correlation.value if minimised else correlation.value,
        }
        return {f'fine/{name}': value for name, value in found.items() if value is not None and not np.isnan(value)}

    def _weights(self) -> dict[str, float]:
        """What each statistic counts for, as far as there are metrics to say."""
        assert self._record is not None
        pool = pool_of(self._record)
        if len(pool) < LEAST or pool.metric.nunique() < 2:
            return {}
        weights = learner_of(self._record, pool).weights().weight
        return {f'fine/weight/{name}': float(value) for name, value in weights.items()}

    def close(self) -> None:
        for each in (self._file, self._record):
            if each is not None:
                each.close()
