"""Ask and tell: which candidates to train next, by what those trained so far have shown."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from nni_knas.basics.names import OptimizeMode, Reason
from nni_knas.learner.acquisition import chances, expected_improvement
from nni_knas.learner.explanation import explain
from nni_knas.learner.normalising import Floats, robust
from nni_knas.learner.panel import know
from nni_knas.learner.surrogate import Expectation, expect

__all__ = ['Learner']


class Learner:
    """Learns from the metrics of trained candidates which statistics count on their space, and says which to train next.

    What the prior says is believed until metrics disagree. What is asked next depends on the panel, the seed, what was told
    in which order, and what was asked and is not yet told: so metrics told again to a new learner give the same choices.

    Parameters
    ----------
    panel
        A row a candidate, under any label, and a column a statistic. A value may be missing (NaN) where a candidate was not
        scored in full.
    prior
        What is believed before anything is trained, higher is better: a column's name, or a Series with a value for each
        candidate. By default the recommended score: the column ``score`` where there is one, and else what it is of the
        panel's statistics.
    optimize_mode
        Whether higher or lower metrics are better.
    seed
        The same seed gives the same choices.
    """

    def __init__(
        self,
        panel: pd.DataFrame,
        prior: str | pd.Series | None = None,
        optimize_mode: OptimizeMode = 'maximize',
        seed: int = 0,
    ) -> None:
        if optimize_mode not in ('maximize', 'minimize'):
            raise ValueError(f"optimize_mode is 'maximize' or 'minimize', not {optimize_mode!r}")
        self._known = know(panel, prior)
        self._places = {label: place for place, label in enumerate(self._known.labels)}
        self._sign = 1.0 if optimize_mode == 'maximize' else -1.0
        self._seed = seed
        self._told: dict[int, float] = {}
        self._failed: set[int] = set()
        self._pending: dict[int, None] = {}
        self._reasons: dict[int, Reason] = {}

    def ask(self, n: int = 1) -> list[Any]:
        """Choose what to train next; each is pending until it is told.

        Parameters
        ----------
        n
            How many. Where fewer are left, all of them are given.

        Returns
        -------
        list
            Labels of the panel's rows, the most promising first, none that was asked or told before.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise ValueError(f'n is how many to train next, a whole number of at least 1, not {n!r}')
        chosen = []
        for _ in range(n):
            free = self._free()
            if not free.any():
                break
            chosen.append(self._choose(free))
        return [self._known.labels[place] for place in chosen]

    def tell(self, label: Hashable, metric: float | None) -> None:
        """Take in the metric of a trained candidate, whether it was asked or not.

        Parameters
        ----------
        label
            Of the panel's row. Told again, the new metric counts.
        metric
            None, or a number that is not finite, where training failed.
        """
        if label not in self._places:
            raise ValueError(f'no candidate of the panel has the label {label!r}')
        try:
            value = math.nan if metric is None else float(metric)
        except (TypeError, ValueError):
            raise ValueError(f'a metric is a number, or None where training failed, not {metric!r}') from None
        place = self._places[label]
        for of in (self._pending, self._told):
            of.pop(place, None)
        self._failed.discard(place)
        if math.isfinite(value):
            self._told[place] = self._sign * value
        else:
            self._failed.add(place)

    def begin(self, label: Hashable) -> None:
        """Take in that a candidate is being trained, though it was not asked here: it is pending until it is told."""
        if label not in self._places:
            raise ValueError(f'no candidate of the panel has the label {label!r}')
        self._pending[self._places[label]] = None

    def reason(self, label: Hashable) -> Reason | None:
        """Why it was asked: by ``'score'``, since it was ``'learned'``, or to ``'explore'``. None: it never was."""
        return self._reasons.get(self._places.get(label, -1))

    def predictions(self) -> pd.DataFrame:
        """What is expected of each candidate, trained or not.

        Returns
        -------
        pandas.DataFrame
            A row a candidate. ``mean`` and ``deviation``: of its metric, in its units, the negative of it where lower ones
            are better; before any is told, in deviations over all candidates. ``chance``: of being the best.
        """
        expected, centre, scale = self._expected({})
        mean, deviation = _pooled(expected)
        chance = chances(mean, deviation, self._rng())
        table = {'mean': centre + scale * mean, 'deviation': scale * deviation, 'chance': chance}
        return pd.DataFrame(table, index=self._known.labels)

    def weights(self) -> pd.DataFrame:
        """Which statistics count on this space, as far as is known.

        Returns
        -------
        pandas.DataFrame
            A row a statistic. ``weight``: how the expected metric goes with it over all candidates, from -1 (less of it is
            better) to 1; ``low`` and ``high``: between which it is with 95 %; ``meaning``: in words.
        """
        expected, _, _ = self._expected({})
        return explain(self._known.names, self._known.features, expected, len(self._told))

    def _free(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        free = np.ones(len(self._known.labels), bool)
        free[[*self._told, *self._failed, *self._pending]] = False
        return free

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self._seed, len(self._told), len(self._pending)])

    def _expected(self, believed: dict[int, float]) -> tuple[Expectation, float, float]:
        metrics, centre, scale = np.zeros(0), 0.0, 1.0
        if self._told:
            metrics, centre, scale = robust(np.array([*self._told.values()]))
        places = [*self._told, *believed]
        values = np.concatenate([metrics, np.array([*believed.values()], float)])
        return expect(self._known.features, self._known.prior, places, values), centre, scale

    def _choose(self, free: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
        """The next: what is pending is believed to have the metric that is expected of it."""
        prior = np.where(free, self._known.prior, -np.inf)
        place = int(prior.argmax())
        reason: Reason = 'score'
        if self._told:
            mean, deviation = _pooled(self._expected({})[0])
            if self._pending:
                believed = {each: float(mean[each]) for each in self._pending}
                mean, deviation = _pooled(self._expected(believed)[0])
            best = max(mean[[*self._told]])
            place = int(np.where(free, expected_improvement(mean, deviation, best), -np.inf).argmax())
            free_mean = np.where(free, mean, -np.inf)
            reason = 'score' if prior[place] == prior.max() else 'learned' if mean[place] == free_mean.max() else 'explore'
        self._pending[place] = None
        self._reasons[place] = reason
        return place


def _pooled(expected: Expectation) -> tuple[Floats, Floats]:
    """Mean and deviation of the models together."""
    mean = expected.weights @ expected.mean
    square = expected.weights @ (expected.deviation**2 + expected.mean**2)
    return mean, np.sqrt(np.maximum(square - mean**2, 1e-12))
