"""The scores of a benchmark's architectures, computed where they are not known yet."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten
from tqdm import tqdm

from nni_knas import gradients as gradients_room
from nni_knas import scores as scores_room
from nni_knas.benchmark.aggregates import Aggregate, with_parts
from nni_knas.benchmark.base import Benchmark
from nni_knas.benchmark.baselines import Baseline
from nni_knas.benchmark.cache import Measured, ScoreCache
from nni_knas.benchmark.processes import spread
from nni_knas.gradients import Gradients
from nni_knas.kernel import GradientKernelEvaluator
from nni_knas.record import reason_of
from nni_knas.scores import Score, TwoWayRank

__all__ = ['Measurement', 'measure']


def measure(
    benchmark: Benchmark,
    kernel: GradientKernelEvaluator,
    architectures: Sequence[str],
    scores: Sequence[Score],
    cache: ScoreCache,
    processes: int = 1,
) -> None:
    """Compute what is missing in the cache.

    The scores of an architecture share one :class:`~nni_knas.gradients.Gradients`, so that a pass that several of them need
    is made once. Each score is kept the moment it is known, and with several processes when the architecture is done; a
    score that fails is kept with its reason.

    Parameters
    ----------
    benchmark
        Whose architectures they are.
    kernel
        The kernel whose minibatch, seed, normalisation and device are used; its own score is not.
    architectures
        The architectures to measure.
    scores
        Scores and baselines; of an aggregate its parts are computed.
    cache
        The file in which measurements are kept.
    processes
        How many processes the architectures are spread over; each computes with one thread.
    """
    scores = with_parts(scores)
    settings = {score.name: settings_of(kernel, score) for score in scores}
    known = {score.name: cache.get(benchmark.key, settings[score.name], score.name) for score in scores}
    work = [
        (architecture, missing)
        for architecture in architectures
        if (missing := [score for score in scores if architecture not in known[score.name]])
    ]
    one = functools.partial(_measure_architecture, benchmark, kernel)
    with contextlib.closing(
        spread(lambda piece: list(one(*piece)), work, processes) if processes > 1 else (one(*piece) for piece in work)
    ) as done:
        for each in tqdm(done, f'Scoring (seed {kernel.seed})', len(work), unit='architecture', disable=None):
            for architecture, score, measured in each:
                cache.add(benchmark.key, architecture, settings[score.name], score.name, measured)


def _measure_architecture(
    benchmark: Benchmark, kernel: GradientKernelEvaluator, architecture: str, scores: Sequence[Score]
) -> Iterator[tuple[str, Score, Measured]]:
    rest = list(scores)
    try:
        network = benchmark.network(architecture, kernel.seed)
        with kernel.gradients(network) as gradients:
            gradients.tracing = any(score.traces for score in scores)  # in the one pass that all of them share
            while rest:
                measured = _measure_one(rest[0], gradients)
                yield architecture, rest.pop(0), measured
    except Exception as error:  # the network cannot be built, or not be set up for scoring
        for score in rest:
            yield architecture, score, Measured(None, 0.0, reason_of(error))


def _measure_one(score: Score, gradients: Gradients) -> Measured:
    start = time.perf_counter()
    try:
        value, reason = float(score(gradients)), None
    except Exception as error:
        return Measured(None, time.perf_counter() - start, reason_of(error))
    if not math.isfinite(value):
        reason = f'the score is {value}'
    return Measured(value, time.perf_counter() - start, reason)


class Measurement:
    """The scores of a population of architectures under one kernel, read from the cache.

    Parameters
    ----------
    benchmark, kernel, cache
        What :func:`measure` was given, which has been run before.
    """

    def __init__(self, benchmark: Benchmark, kernel: GradientKernelEvaluator, cache: ScoreCache) -> None:
        self.benchmark, self.kernel, self.cache = benchmark, kernel, cache
        self._known: dict[str, dict[str, Measured]] = {}

    def values(self, score: Score, architectures: Sequence[str]) -> NDArray[Any]:
        """The scores of the architectures; an aggregate's ranks are among these.

        Returns
        -------
        numpy.ndarray of float64, shape N
            Higher is better; ``nan`` where an architecture has no score.
        """
        if isinstance(score, Aggregate):
            return score.values([self.values(part, architectures) for part in score.scores()])
        kept = [self._values_of(score)[architecture].value for architecture in architectures]
        values = np.array([math.nan if value is None else value for value in kept], dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan)

    def reasons(self, score: Score, architectures: Sequence[str]) -> list[str]:
        """Why some of the architectures have no score, a reason each."""
        if isinstance(score, Aggregate):
            missing = np.isnan(self.values(score, architectures))
            without = [architecture for architecture, none in zip(architectures, missing) if none]
            every = [self.reasons(part, without) for part in score.scores()]
            return next((reasons for reasons in every if len(reasons) == len(without)), [])
        return [reason for architecture in architectures if (reason := self._values_of(score)[architecture].reason)]

    def _values_of(self, score: Score) -> dict[str, Measured]:
        if score.name not in self._known:
            self._known[score.name] = self.cache.get(self.benchmark.key, settings_of(self.kernel, score), score.name)
        return self._known[score.name]


def settings_of(kernel: GradientKernelEvaluator, score: Score) -> str:
    """Digest of all that a score depends on besides the architecture: samples, seed, normalisation, the score's own code."""
    leaves = tree_flatten(tuple(kernel.minibatch))[0]
    depends: list[Any] = [repr([tuple(leaf.shape[1:]) for leaf in leaves if isinstance(leaf, Tensor)])]  # of one sample
    if not isinstance(score, Baseline):
        depends += [kernel.minibatch.digest(), kernel.seed, kernel.normalization]
    if isinstance(score, TwoWayRank):
        depends.append(score.factors)  # which stand in another room
    return hashlib.sha256(json.dumps([*depends, _digest_of_code(type(score).__module__)]).encode()).hexdigest()[:20]


@functools.cache
def _digest_of_code(module: str) -> str:
    """Digest of the code that a score runs: its own room, and those of the scores and gradients that it may build on."""
    own = getattr(sys.modules.get(module), '__file__', None)
    files = {*_modules(scores_room), *_modules(gradients_room), *([Path(own)] if own else [])}
    if own and module.startswith('nni_knas.scores.'):
        files.update(Path(own).parent.glob('*.py'))  # of a room in that room
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _modules(room: ModuleType) -> Iterator[Path]:
    assert room.__file__ is not None
    return Path(room.__file__).parent.glob('*.py')
