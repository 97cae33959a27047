"""Published scores that are no number of one network: ranks among the candidates by several scores, put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nni_knas.benchmark.ranking import ranks_of
from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores import Score, get_score

__all__ = ['AGGREGATES', 'Aggregate', 'AzNas', 'TeNas', 'VKDNWAggregate', 'find_score', 'with_parts']


class Aggregate(Score):
    """Ranks by several scores, its parts, among the architectures in question.

    An architecture that has no value of a part is ranked last there, together with all others without; one that has none of
    any part has no value. Where a part has no value for any architecture, the aggregate has none either.

    Attributes
    ----------
    parts
        The names of the scores. What the aggregate costs is the sum of what these do.
    """

    parts: ClassVar[tuple[str, ...]]
    passes = '0 beside those of its parts'

    def scores(self) -> list[Score]:
        """The scores that it puts together."""
        return [get_score(name) for name in self.parts]

    def values(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The aggregate of ``N`` architectures.

        Parameters
        ----------
        parts
            The values of each part, shape ``N``, higher is better, ``nan`` where there is none.

        Returns
        -------
        numpy.ndarray of float64, shape N
            Higher is better.
        """
        known = np.isfinite(parts)
        ranks = np.array([ranks_of(np.where(each, values, np.nan)) for each, values in zip(known, parts)])
        has_value = known.any(axis=0) & known.any(axis=1).all()
        return np.where(has_value, self.combine(ranks / len(parts[0])), np.nan)

    def combine(self, ranks: NDArray[Any]) -> NDArray[Any]:
        """One number an architecture of its ranks, from ``1 / N`` (worst) to 1, shape ``parts x N``."""
        combined: NDArray[Any] = np.log(ranks).sum(axis=0)
        return combined

    def check(self, samples: int) -> None:
        for score in self.scores():
            score.check(samples)

    def __call__(self, gradients: Gradients) -> float:
        raise ScoringError(f'{self.name} ranks candidates, and is no score of one network: it is one of nni-knas benchmark')


class AzNas(Aggregate):
    r"""AZ-NAS: :math:`\sum_s \log(\mathrm{rank}_s / N)` over its four parts ``s``, with rank 1 the worst of ``N``.

    Source: Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024.
    """

    name = 'az-nas'
    parts = ('az-expressivity', 'az-progressivity', 'az-trainability', 'az-complexity')


class VKDNWAggregate(Aggregate):
    r"""VKDNW's aggregate: :math:`\sum_s \log \mathrm{rank}_s` over VKDNW, the covariance of Jacobians and AZ-NAS's parts.

    Source: Tybl and Neumann, "Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
    Weights", CVPR 2025 (``VKDNW_agg``). AZ-NAS's progressivity is not one of its parts.
    """

    name = 'vkdnw-aggregate'
    parts = ('vkdnw', 'jacob-cov', 'az-expressivity', 'az-trainability', 'az-complexity')


class TeNas(Aggregate):
    """TE-NAS: the sum of the ranks by the condition of the neural tangent kernel and by the number of linear regions.

    Source: Chen et al., "Neural Architecture Search on ImageNet in Four GPU Hours" (TE-NAS), ICLR 2021. Its search prunes a
    supernet by the sum of both ranks; here they are ranks among candidates.
    """

    name = 'te-nas'
    parts = ('ntk-condition', 'linear-regions')

    def combine(self, ranks: NDArray[Any]) -> NDArray[Any]:
        combined: NDArray[Any] = ranks.sum(axis=0)
        return combined


AGGREGATES: dict[str, Aggregate] = {each.name: each for each in (AzNas(), TeNas(), VKDNWAggregate())}
"""By name."""


def find_score(name: str) -> Score:
    """A score, or an aggregate of scores, by its name.

    Raises
    ------
    ValueError
        If there is none of this name; the message names those there are.
    """
    if name in AGGREGATES:
        return AGGREGATES[name]
    try:
        return get_score(name)
    except ValueError as error:
        raise ValueError(f'{error}, and the aggregates {", ".join(AGGREGATES)}') from None


def with_parts(scores: Iterable[Score]) -> list[Score]:
    """The scores, each once, with an aggregate's parts in its place."""
    found: dict[str, Score] = {}
    for score in scores:
        for each in score.scores() if isinstance(score, Aggregate) else [score]:
            found.setdefault(each.name, each)
    return list(found.values())
