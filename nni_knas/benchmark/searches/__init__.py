"""Searches on tables, a file each: the learner, and those that it has to beat."""

from __future__ import annotations

from nni_knas.benchmark.searches.base import SCORE, Candidates, Search
from nni_knas.benchmark.searches.encodings import Encodings
from nni_knas.benchmark.searches.evolution import Evolution
from nni_knas.benchmark.searches.fixed import LEAST, RANKED, Random, fixed_orders
from nni_knas.benchmark.searches.learned import Learned
from nni_knas.benchmark.searches.proxybo import ProxyBO
from nni_knas.benchmark.searches.robot import Robot
from nni_knas.benchmark.searches.tpe import Tpe

__all__ = ['LEAST', 'RANKED', 'SCORE', 'SEARCHES', 'Candidates', 'Search', 'fixed_orders']

SEARCHES: dict[str, type[Search]] = {
    each.name: each for each in (Learned, Robot, ProxyBO, Encodings, Tpe, Evolution, Random)
}
"""By name, those that see what they have trained, and the random choice."""
