"""The searches that are compared on tables: each asks nothing twice, repeats itself, and is good where it should be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from search_tables import candidates, grid
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from nni_knas.basics import names
from nni_knas.benchmark.ranking import kendall
from nni_knas.benchmark.search_protocol import run
from nni_knas.benchmark.searches import SEARCHES, Candidates, fixed_orders
from nni_knas.benchmark.searches.gaussian import Posterior, expected_improvement, exponential, matern, regress
from nni_knas.benchmark.searches.proxybo import agreement


def mean_rank(name: str, of_statistics: bool, budget: int = 12, tables: int = 12) -> float:
    """Of the best that a search trains, over a few tables, from 1."""
    ranks = []
    for seed in range(tables):
        made, *metrics = candidates(seed)
        metric = metrics[of_statistics]
        asked = run(SEARCHES[name](made, budget, 100 + seed), metric, budget)
        ranks.append(1 + (metric > metric[asked].max()).sum())
    return float(np.mean(ranks))


@pytest.mark.parametrize('name', SEARCHES)
@pytest.mark.parametrize('concurrency', [1, 4])
class TestEach:
    def test_asks_every_candidate_once(self, name, concurrency):
        made, metric, _ = candidates()
        few = Candidates(made.panel.iloc[:20], made.choices[:20])
        asked = run(SEARCHES[name](few, 20, 0), metric, 20, concurrency)
        assert sorted(asked) == list(range(20))

    def test_a_seed_is_a_search(self, name, concurrency):
        made, metric, _ = candidates()
        first, again = (run(SEARCHES[name](made, 15, 7), metric, 15, concurrency) for _ in range(2))
        assert first == again
        if name not in ('learn', 'proxybo'):  # where nothing is equal, these have nothing to draw
            assert first != run(SEARCHES[name](made, 15, 8), metric, 15, concurrency)

    def test_nothing_is_known(self, name, concurrency):
        """Statistics that are missing or all the same, choices that are, and metrics."""
        panel = pd.DataFrame({'score': [np.nan] * 6, 'layers': [2.0] * 6})
        same = Candidates(panel, np.zeros((6, 0), dtype=int))
        assert sorted(run(SEARCHES[name](same, 6, 0), np.ones(6), 6, concurrency)) == list(range(6))


@pytest.mark.parametrize('name', ['encodings', 'evolution', 'tpe'])
def test_better_than_random_by_choices(name):
    assert mean_rank(name, False, 40, 24) < 0.6 * mean_rank('random', False, 40, 24)


@pytest.mark.parametrize('name', ['learn', 'robot', 'proxybo'])
def test_better_than_random_by_statistics(name):
    """Although the score says the opposite, they find out which count; ProxyBO's proxies may not be turned round."""
    assert mean_rank(name, True) < 0.8 * mean_rank('random', True)


def test_names():
    assert tuple(SEARCHES) == names.SEARCHES


class TestFixed:
    def test_orders(self):
        panel = pd.DataFrame({'score': [1, 3, np.nan, 2], 'layers': [4, 4, 5, 6]})
        assert fixed_orders(panel, 3) == {
            'rank': [1, 3, 0],
            'layers': [3, 2, 0],
            'least rank': [0, 3, 1],
            'least layers': [0, 1, 2],
        }


class TestCandidates:
    def test_distances_are_shares_of_choices(self):
        choices = grid(3, 2)
        made = Candidates(pd.DataFrame({'score': np.arange(8.0)}), choices)
        np.testing.assert_allclose(made.distances, cdist(choices, choices, 'hamming'), rtol=1e-6)

    def test_scaled_and_ranked(self):
        made = Candidates(pd.DataFrame({'score': [2.0, np.nan, 4.0, 3.0], 'layers': 1.0}), np.zeros((4, 1)))
        assert made.scaled.score.tolist() == [0, 0, 1, 0.5] and made.scaled.layers.tolist() == [0] * 4
        assert made.ranks.score.tolist() == [0.5, 0.25, 1, 0.75] and made.ranks.layers.tolist() == [0.625] * 4


class TestGaussian:
    @pytest.mark.parametrize('kernel, nu', [(matern, 2.5), (exponential, 0.5)])
    def test_against_scikit_learn(self, kernel, nu):
        rng = np.random.default_rng(0)
        points, values = rng.uniform(size=(30, 3)), rng.normal(3, 2, 10)
        known = points[:10]
        ours = regress(cdist(known, known), cdist(points, known), values, kernel, [0.7], [0.2])
        theirs = GaussianProcessRegressor(Matern(0.7, nu=nu), alpha=0.2, optimizer=None, normalize_y=True)
        mean, deviation = theirs.fit(known, values).predict(points, return_std=True)
        np.testing.assert_allclose(ours.mean, mean)
        np.testing.assert_allclose(ours.deviation, deviation)

    def test_held_out(self):
        """Each as it is predicted from the others, by fitting anew."""
        rng = np.random.default_rng(1)
        known, values = rng.uniform(size=(7, 2)), rng.normal(size=7)
        values = (values - values.mean()) / values.std()
        covariance = matern(cdist(known, known) / 0.5) + 0.1 * np.eye(7)
        expected = []
        for i in range(7):
            rest = np.arange(7) != i
            cross = matern(cdist(known[[i]], known[rest]) / 0.5)
            expected.append((cross @ np.linalg.solve(covariance[np.ix_(rest, rest)], values[rest])).item())
        found = regress(cdist(known, known), cdist(known, known), values, matern, [0.5], [0.1]).held_out
        np.testing.assert_allclose(found, expected)

    def test_the_likeliest_length(self):
        places = np.linspace(0, 6, 25)[:, None]
        distances = cdist(places, places)
        smooth, rough = np.sin(places[:, 0]), np.random.default_rng(0).normal(size=25)
        held_out = [regress(distances, distances, each, matern, [0.01, 2.0], [0.01]).held_out for each in (smooth, rough)]
        assert kendall(held_out[0], smooth) > 0.9  # by the long one; by the short one none tells of another
        np.testing.assert_allclose(held_out[1], rough.mean(), atol=0.1)

    def test_expected_improvement(self):
        mean, deviation, best = np.array([0.0, 1.0]), np.array([2.0, 0.5]), 0.8
        drawn = mean + deviation * np.random.default_rng(0).normal(size=(400_000, 2))
        by_draws = np.maximum(drawn - best, 0).mean(axis=0)
        np.testing.assert_allclose(expected_improvement(Posterior(mean, deviation, mean), best), by_draws, rtol=0.01)


@pytest.mark.parametrize('order, share', [([1, 2, 3], 1), ([3, 2, 1], 0), ([1, 1, 1], 0.5), ([1, 3, 2], 2 / 3), ([], 0.5)])
def test_agreement(order, share):
    assert agreement(np.array(order), np.arange(len(order))) == pytest.approx(share)
