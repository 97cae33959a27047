"""Ask and tell: which candidates to train next, by what those trained so far have shown."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, cast

import numpy as np
import pandas as pd

from nni_knas.basics.names import OptimizeMode, Reason
from nni_knas.learner.acquisition import are_possible, chance_of_each, is_owed, promise
from nni_knas.learner.explanation import explain
from nni_knas.learner.normalising import Floats, Metrics
from nni_knas.learner.panel import know
from nni_knas.learner.surrogate import Belief, Places, Surrogate

__all__ = ['Learner']

MOST = 2000
"""Of how many the others of a batch are chosen, the most promising when its first was."""
SOME, DRAWS = 300, 1000
"""How many candidates are looked at together, and how often they are drawn."""


class Learner:
    """Learns from the metrics of trained candidates which statistics count on their space, and says which to train next.

    What the prior says is believed until metrics disagree. What is asked next depends on the panel, the seed, what was told
    in which order, and what was asked and is not yet told: so metrics told again to a new learner give the same choices.

    Parameters
    ----------
    panel
        A row a candidate, under any label, and a column a statistic. A value may be missing (NaN) where a candidate was not
        scored in full. A column of pandas' type ``category`` is a choice of the architecture: of it counts alone whether two
        candidates have the same, whatever it is called, and so nothing before metrics are told.
    prior
        What is believed before anything is trained, higher is better: a column's name, or a Series with a value for each
        candidate. By default the recommended score: the column ``score`` where there is one, and else what it is of the
        panel's statistics.
    optimize_mode
        Whether higher or lower metrics are better.
    seed
        The same seed gives the same choices.

    Raises
    ------
    ValueError
        If the panel or the prior cannot be learned from, or an option is none.
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
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f'seed is a whole number of at least 0, not {seed!r}')
        self._known = know(panel, prior)
        self._surrogate = Surrogate(self._known.features, self._known.prior, self._known.choices)
        self._labels = list(self._known.labels)
        self._places = {label: place for place, label in enumerate(self._labels)}
        self._sign = 1.0 if optimize_mode == 'maximize' else -1.0
        self._seed = seed
        self._told: dict[int, float] = {}
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

        Raises
        ------
        ValueError
            If ``n`` is no whole number of at least 1.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise ValueError(f'n is how many to train next, a whole number of at least 1, not {n!r}')
        chosen: list[int] = []
        free = self._free()
        for _ in range(min(n, len(free))):
            place, free = self._choose(free)
            self._pending[place] = None
            chosen.append(place)
        return [self._labels[place] for place in chosen]

    def tell(self, label: Hashable, metric: float | None) -> None:
        """Take in the metric of a trained candidate, whether it was asked or not.

        Parameters
        ----------
        label
            Of the panel's row. Told again, the new metric counts.
        metric
            None, or a number that is not finite, where training failed.

        Raises
        ------
        ValueError
            If the panel has no such row, or the metric is no number.
        """
        place = self._place_of(label)
        try:
            value = math.nan if metric is None else float(None if isinstance(metric, str) else metric)
        except (TypeError, ValueError):
            raise ValueError(f'a metric is a number, or None where training failed, not {metric!r}') from None
        self._pending.pop(place, None)
        self._told.pop(place, None)
        self._told[place] = self._sign * value if math.isfinite(value) else -math.inf

    def begin(self, label: Hashable) -> None:
        """Take in that a candidate is being trained, though it was not asked here: it is pending until it is told."""
        place = self._place_of(label)
        if place not in self._told:
            self._pending[place] = None

    def reason(self, label: Hashable) -> Reason | None:
        """Why it was asked: by ``'score'``, since it was ``'learned'``, or to ``'explore'``. None: it never was."""
        return self._reasons.get(self._place_of(label))

    def predictions(self) -> pd.DataFrame:
        """What is expected of each candidate; of one that is trained, what has come of it.

        Returns
        -------
        pandas.DataFrame
            A row a candidate. ``mean`` and ``deviation``: of its metric, in its units, the negative of it where lower ones
            are better; before two different metrics are told, in deviations over all candidates. ``chance``: of being the
            best of all.
        """
        metrics, belief = self._believed()
        mean, deviation = belief.expect(np.arange(len(self._known.labels)))
        chance = self._chances(metrics, belief, mean + 2 * deviation)
        low, high = metrics.back(mean - deviation), metrics.back(mean + deviation)
        table = pd.DataFrame({'mean': metrics.back(mean), 'deviation': (high - low) / 2, 'chance': chance})
        if metrics.comparable:
            trained = {place: metric for place, metric in self._told.items() if math.isfinite(metric)}
            table.loc[[*trained], 'mean'] = [*trained.values()]
            table.loc[[*trained], 'deviation'] = 0.0
        return table.set_axis(self._known.labels, axis=0)

    def weights(self) -> pd.DataFrame:
        """Which statistics count on this space, as far as is known.

        Returns
        -------
        pandas.DataFrame
            A row a statistic. ``weight``: how the metric is expected to go with it over all candidates, as a correlation,
            from -1 (less of it is better) to 1; ``low`` and ``high``: between which it is with 95 %; ``meaning``: in words.
        """
        rng, count = np.random.default_rng(self._seed), len(self._known.labels)
        some = np.sort(rng.permutation(count)[:SOME])
        drawn = self._believed()[1].draw(some, DRAWS, rng, noise=False)
        return explain(self._known.names, self._known.features[some], drawn)

    def _place_of(self, label: Hashable) -> int:
        if not isinstance(label, Hashable) or label not in self._places:
            raise ValueError(f'no candidate of the panel has the label {label!r}')
        return self._places[label]

    def _free(self) -> Places:
        """Those that were neither told nor asked."""
        free = np.ones(len(self._known.labels), bool)
        free[[*self._told, *self._pending]] = False
        return np.flatnonzero(free)

    def _believed(self) -> tuple[Metrics, Belief]:
        """By those told alone."""
        metrics = Metrics(np.array([*self._told.values()], float))
        return metrics, self._surrogate.told(np.array([*self._told], int), metrics.scores)

    def _choose(self, free: Places) -> tuple[int, Places]:
        """The next, and those of which the one after it is chosen: all, or the most promising of very many."""
        prior = self._known.prior[free]
        chosen = by_score = int(np.argmax(prior))
        reason = 'score'
        rest: Places = np.arange(len(free))
        metrics, belief = self._believed()
        if not self._is_owed(belief):
            mean, deviation, best = self._expected(free, metrics, belief)
            promised = promise(mean, deviation, best, are_possible(prior, self._known.prior, belief.trust))
            chosen = int(np.argmax(promised))
            if prior[chosen] != prior[by_score]:
                reason = 'learned' if self._told and mean[chosen] >= mean[by_score] else 'explore'
            rest = np.sort(np.argsort(-promised, kind='stable')[: 1 + MOST])
        self._reasons[int(free[chosen])] = cast(Reason, reason)
        return int(free[chosen]), free[rest[rest != chosen]]

    def _is_owed(self, belief: Belief) -> bool:
        """Whether the next is the prior's turn."""
        begun = [*self._told, *self._pending]
        return not begun or is_owed(self._known.prior, begun, belief.trust)

    def _expected(self, free: Places, metrics: Metrics, belief: Belief) -> tuple[Floats, Floats, float]:
        """Of each, and the best so far; what is pending is believed to have the metric that is expected of it."""
        scores = metrics.scores
        if self._pending:
            pending = np.array([*self._pending])
            scores = np.concatenate([scores, belief.expect(pending)[0]])
            belief = self._surrogate.told(np.concatenate([np.array([*self._told], int), pending]), scores)
        return *belief.expect(free), np.max(scores)

    def _chances(self, metrics: Metrics, belief: Belief, hope: Floats) -> Floats:
        """By joint draws of those that promise the most, against the best that was told."""
        chance, told = np.zeros(len(hope)), np.array([*self._told], int)
        rest = self._free() if not self._pending else np.setdiff1d(np.arange(len(hope)), told)
        rest = rest[np.argsort(-hope[rest], kind='stable')[:SOME]]
        drawn = belief.draw(rest, DRAWS, np.random.default_rng(self._seed), noise=True)
        if max(self._told.values(), default=-math.inf) > -math.inf:
            # By ranks the best is further ahead of the second than by metrics: half of it, and chances are what comes true.
            ahead = np.sort(metrics.scores)[-2:].mean()
            rest = np.append(rest, told[np.argmax(metrics.scores)])
            drawn = np.column_stack([drawn, np.full(DRAWS, ahead)])
        if len(rest):  # else all have failed
            chance[rest] = chance_of_each(drawn)
        return chance
