"""What a run has used, from its record, and what training every candidate would have."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats  # type: ignore[import-untyped]

from nni_knas.basics.texts import duration, energy, mass
from nni_knas.record import BEGUN, Energy, Record, Status, keys, stop_of

__all__ = ['Estimate', 'Footprint', 'Saved', 'energy_within', 'estimate_of', 'footprint_of']

STAGES = ('coarse', 'fine')
COLUMNS = ('seconds', 'cpu_kwh', 'gpu_kwh', 'memory_kwh', 'kwh', 'co2_kg')
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """What training every candidate would have taken, from the trials of the run itself.

    Attributes
    ----------
    kwh
        The energy that it would have taken.
    low, high
        The bounds of the interval in which it lies with a probability of 95 % if the candidates that were trained are like
        the others; ``nan`` where there was but one trial.
    seconds
        Time of all trials, one after the other.
    co2_kg
        CO2-equivalent.
    """

    kwh: float
    low: float
    high: float
    seconds: float
    co2_kg: float


class Saved(NamedTuple):
    """What a run has saved that stopped training when little was left to find, by the mean of its own trainings.

    Attributes
    ----------
    trainings
        How many were not done.
    kwh, seconds
        What they would have taken; ``None`` where that of no training is known.
    """

    trainings: int
    kwh: float | None
    seconds: float | None


@dataclass(frozen=True)
class Footprint:
    """What a run has used.

    Attributes
    ----------
    stages
        A row a stage, ``coarse`` and ``fine``, with ``seconds`` (by the clock), ``cpu_kwh``, ``gpu_kwh``, ``memory_kwh``,
        their sum ``kwh``, and ``co2_kg`` (CO2-equivalent): the run's share of what the machine used.
    methods
        How each of ``cpu``, ``gpu``, ``memory``, ``co2`` and ``share`` is known: texts that begin with ``measured`` or
        ``modelled``. Empty where nothing was recorded.
    estimate
        What training every candidate would have taken; ``None`` where no trial's energy is known.
    saved
        What was saved by ``stop_when``; ``None`` where nothing was.
    statement
        All that in one sentence; empty where nothing was recorded.
    """

    stages: pd.DataFrame
    methods: dict[str, str]
    estimate: Estimate | None
    statement: str
    saved: Saved | None = None

    @property
    def seconds(self) -> float:
        """The time of all stages."""
        return float(self.stages.seconds.sum())

    @property
    def kwh(self) -> float:
        """The energy of all stages, in kilowatt-hours."""
        return float(self.stages.kwh.sum())

    @property
    def co2_kg(self) -> float:
        """The CO2-equivalent of all stages, in kilograms."""
        return float(self.stages.co2_kg.sum())


def footprint_of(record: Record) -> Footprint:
    """The footprint of a run, from its record; of one that goes on, so far.

    The machine's energy is shared by CPU time: the run has the part that its processes have of the CPU time that all
    processes used, trials and workers on the same machine included. The energy of its GPUs is all the run's.
    """
    energies = record.energies()
    stages = pd.DataFrame(
        [_sums_of_run(each for each in energies if each.stage == stage) for stage in STAGES],
        index=list(STAGES),
        columns=list(COLUMNS),
    )
    candidates = record.scored()
    trained = record.count(Status.TRAINED)
    kwh = stages.kwh.sum()
    estimate = None
    if trained and energies:
        frame = record.frame()
        known = frame[(frame.status == Status.TRAINED) & frame.training_kwh.notna()]
        intensity = float(stages.co2_kg.sum() / kwh) if kwh else 0.0
        estimate = estimate_of(known.training_kwh.tolist(), known.training_seconds.tolist(), candidates, intensity)
    saved = _saved(record)
    statement = _statement(candidates, trained, stages, estimate) + _said_of(saved) if energies else ''
    return Footprint(stages, _methods_with_share(record, energies), estimate, statement, saved)


def _saved(record: Record) -> Saved | None:
    stop = stop_of(record)
    left = 0 if stop is None else min(stop.top_k, record.scored()) - record.count(*BEGUN)
    if left <= 0:
        return None
    frame = record.frame()
    trained = frame[frame.status == Status.TRAINED]
    return Saved(left, _times(left, trained.training_kwh), _times(left, trained.training_seconds))


def _times(count: int, values: pd.Series) -> float | None:
    """What so many take of which these are known."""
    return count * float(values.mean()) if values.notna().any() else None


def _said_of(saved: Saved | None) -> str:
    if saved is None:
        return ''
    took = [text for text in (saved.kwh and energy(saved.kwh), saved.seconds and duration(saved.seconds)) if text]
    about = f', about {" and ".join(took)}' if took else ''
    what = f'{saved.trainings:,} training{"s" if saved.trainings > 1 else ""}'
    return f'; it stopped when little was left to find, which saved {what}{about}'


def estimate_of(kwh: Sequence[float], seconds: Sequence[float], candidates: int, kg_per_kwh: float = 0.0) -> Estimate | None:
    r"""What training ``candidates`` would have taken, from those that were trained.

    With the energies :math:`e_1 \dots e_k` of ``k`` trials, their mean :math:`\bar e` and standard deviation :math:`s`, all
    :math:`N` candidates take about :math:`N \bar e`. ``k`` of them are known, and the sum of the :math:`m = N - k` others
    lies in the prediction interval

    .. math:: m \bar e \pm t_{k - 1} s \sqrt{m + m^2 / k}

    Parameters
    ----------
    kwh, seconds
        The energies and times of the ``k`` trials.
    candidates
        ``N``; ``k`` at least.
    kg_per_kwh
        CO2-equivalent.

    Returns
    -------
    Estimate or None
        ``None`` for no trial. No bound is below what the trials themselves took.

    Source: prediction of a sum of normal variables, for example Geisser, "Predictive Inference", 1993.
    """
    k = len(kwh)
    if not k:
        return None
    known, mean, others = math.fsum(kwh), math.fsum(kwh) / k, max(candidates - k, 0)
    low = high = math.nan
    if k > 1:
        spread = float(np.std(kwh, ddof=1)) * math.sqrt(others + others**2 / k)
        margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, k - 1)) * spread
        low, high = known + max(0.0, others * mean - margin), known + others * mean + margin
    total = known + others * mean
    return Estimate(total, low, high, (k + others) * math.fsum(seconds) / k, total * kg_per_kwh)


def energy_within(energies: Iterable[Energy], start: float, end: float, cpu: float | None = None) -> float | None:
    r"""The energy of a trial in kWh, its share of what the machine used while it was under way.

    .. math:: (E_\text{CPU} + E_\text{memory}) \min(1, c / B) + \int P_\text{GPU} / n \, dt

    with the energies between its start and its end, its CPU time :math:`c`, the CPU time :math:`B` of the whole machine in
    the same time, and the number :math:`n` of trials that were under way. Where :math:`c` is not known, the run's part of
    CPU and memory is divided by :math:`n`, too.

    Parameters
    ----------
    energies
        Intervals of the run.
    start, end
        The start and the end of the trial, in seconds since the epoch.
    cpu
        CPU time in seconds that its processes used, on this machine.

    Returns
    -------
    float or None
        ``None`` where less than half of its time was metered, as it may be after a restart.
    """
    shared = gpu = busy = equal = metered = 0.0
    for each in energies:
        overlap = min(end, each.started + each.seconds) - max(start, each.started)
        if overlap <= 0 or not each.seconds:
            continue
        part = overlap / each.seconds
        trials = max(1, each.trials)
        metered += overlap
        shared += part * (each.cpu_kwh + each.memory_kwh)
        busy += part * each.busy
        gpu += part * each.gpu_kwh / trials
        equal += part * (each.cpu_kwh + each.memory_kwh) * _share_of_run(each) / trials
    if metered < 0.5 * (end - start) or not metered:
        return None
    scale = (end - start) / metered  # what was not metered is taken to be in proportion
    return scale * (gpu + (equal if cpu is None else shared * min(1.0, cpu / (scale * busy) if busy else 1.0)))


def _share_of_run(interval: Energy) -> float:
    """The run's part of the machine's work."""
    return min(1.0, interval.own / interval.busy) if interval.busy else 1.0


def _sums_of_run(energies: Iterable[Energy]) -> list[float]:
    """The run's part, in the order of :data:`COLUMNS`."""
    total = np.zeros(len(COLUMNS))
    for each in energies:
        cpu, memory = each.cpu_kwh * _share_of_run(each), each.memory_kwh * _share_of_run(each)
        kwh = cpu + each.gpu_kwh + memory
        total += [each.seconds, cpu, each.gpu_kwh, memory, kwh, kwh * each.kg_per_kwh]
    return total.tolist()


def _methods_with_share(record: Record, energies: Sequence[Energy]) -> dict[str, str]:
    """How the energy is known; and by how much CPU time the machine's is shared."""
    methods: dict[str, str] = json.loads(record.get_meta(keys.METHODS) or '{}')
    busy = sum(each.busy for each in energies)
    if not methods or not busy:
        return methods
    own = sum(_share_of_run(each) * each.busy for each in energies)
    return {
        **methods,
        'share': f"measured (the run's processes used {own / busy:.0%} of the CPU time that the machine was "
        "at work in, and have this part of its energy; that of a GPU is all the run's)",
    }


def _statement(candidates: int, trained: int, stages: pd.DataFrame, estimate: Estimate | None) -> str:
    said = (
        f'scored {candidates:,} candidates and trained {trained:,} for {energy(stages.kwh.sum())}'
        f' ({mass(stages.co2_kg.sum())} CO2e)'
    )
    if estimate is None:
        why = 'none was trained' if not trained else 'the energy of no trial is known'
        return f'{said}; what training all {candidates:,} would have taken cannot be told, since {why}'
    interval = (
        ''
        if math.isnan(estimate.low)
        else (f' (between {energy(estimate.low)} and {energy(estimate.high)} with 95 % confidence)')
    )
    about = f'about {energy(estimate.kwh)}{interval}'
    if stages.kwh.sum() > estimate.kwh:
        return f'{said}, which is more than training all {candidates:,} would have taken: {about}'
    return f'{said}; training all {candidates:,} would have taken {about}'
