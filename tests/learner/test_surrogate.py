"""The average of models, against the same in the slow, obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from nni_knas.learner import surrogate as models
from nni_knas.learner.acquisition import is_owed, promise
from nni_knas.learner.normalising import Metrics, normal_scores


@pytest.fixture
def space():
    rng = np.random.default_rng(0)
    features = np.column_stack([normal_scores(column) for column in rng.standard_normal((3, 30))])
    return features, features[:, 0], np.array([3, 17, 8, 25, 11]), normal_scores(rng.standard_normal(5))


def covariance(features):
    d = features.shape[1]
    return np.array([[0.5 * a @ b / d + 0.5 * np.exp(-0.5 * ((a - b) ** 2).sum() / d) for b in features] for a in features])


def covariance_with_choices(features, choices):
    d, matrix = features.shape[1], np.zeros((len(features), len(features)))
    for i, a in enumerate(features):
        for j, b in enumerate(features):
            alike = np.mean([x == y for x, y in zip(choices[i], choices[j], strict=True)])
            matrix[i, j] = 0.3 * a @ b / d + 0.4 * alike + 0.3 * np.exp(-(1 - alike) / 0.5)
    return matrix


def each_model(features, prior, choices=None):
    """Its mean for each candidate, the covariance of all, and the logarithm of its probability."""
    experts = [(rho, prior, share) for rho, share in models.TRUST.items()] + [(0.0, prior, models.NOTHING)]
    for sign, part in ((1, 1 - models.AGAINST), (-1, models.AGAINST)):
        share = models.STATISTIC * part / features.shape[1]
        experts += [(models.TRUST_STATISTIC, sign * column, share) for column in features.T]
    total = sum(share for *_, share in experts)
    known = covariance(features) if choices is None else covariance_with_choices(features, choices)
    for noise in models.NOISE:
        kernel = models.LEVEL + (1 - noise) * known + noise * np.eye(len(features))
        for rho, expert, share in experts:
            for scale in models.SCALES:
                usual = -0.5 * (np.log(scale / models.USUAL) / models.SPREAD) ** 2
                yield scale * rho * expert, scale**2 * (1 - rho**2) * kernel, np.log(share / total) + usual


@pytest.mark.parametrize('choices', [None, np.random.default_rng(1).integers(0, 3, (30, 4))], ids=['statistics', 'choices'])
def test_weights_means_and_variances(space, choices):
    features, prior, places, scores = space
    belief = models.Surrogate(features, prior, choices).told(places, scores)
    evidence, means, variances = [], [], []
    for mean, cov, usual in each_model(features, prior, choices):
        gain = cov[:, places] @ np.linalg.inv(cov[np.ix_(places, places)])
        evidence.append(usual + multivariate_normal(mean[places], cov[np.ix_(places, places)]).logpdf(scores))
        means.append(mean + gain @ (scores - mean[places]))
        variances.append(np.diag(cov - gain @ cov[places]))
    weights = np.exp(np.array(evidence) - max(evidence))
    weights /= weights.sum()
    assert belief.weights.ravel() == pytest.approx(weights, rel=1e-6)
    rest = np.setdiff1d(np.arange(30), places)
    mean, deviation = belief.expect(rest)
    assert mean == pytest.approx((weights @ means)[rest])
    within = (weights @ variances)[rest]
    all_of_it = within + (weights @ (np.array(means) - weights @ means) ** 2)[rest]
    assert (deviation**2 >= within - 1e-9).all() and (deviation**2 <= all_of_it + 1e-9).all()


def test_draws_are_of_what_is_expected(space):
    features, prior, places, scores = space
    belief = models.Surrogate(features, prior).told(places, scores)
    rest = np.setdiff1d(np.arange(30), places)
    drawn = belief.draw(rest, 20_000, np.random.default_rng(0), noise=True)
    mean, deviation = belief.expect(rest)
    assert drawn.mean(0) == pytest.approx(mean, abs=0.1) and (drawn.std(0) > 0.9 * deviation).all()
    assert (belief.draw(rest, 20_000, np.random.default_rng(0), noise=False).std(0) < drawn.std(0)).all()


def test_trust_moves_to_what_agrees(space):
    features, prior, _, _ = space
    surrogate = models.Surrogate(features, prior)
    nothing = np.array([], int)
    believed = [surrogate.told(nothing, np.zeros(0)), surrogate.told(np.arange(20), prior[:20])]
    against = surrogate.told(np.arange(20), features[:20, 1])
    assert against.trust < believed[0].trust < believed[1].trust


def test_cost_grows_with_candidates_times_told():
    """Nothing of the size of all candidates by all candidates is made."""
    rng = np.random.default_rng(0)
    surrogate = models.Surrogate(rng.standard_normal((60_000, 4)), rng.standard_normal(60_000))
    mean, _ = surrogate.told(np.arange(3), np.arange(3.0)).expect(np.arange(60_000))  # 29 GB would not be there
    assert mean.shape == (60_000,)


class TestMetrics:
    def test_there_and_back(self):
        values = np.array([3.0, -np.inf, 1.0, 7.0, 3.0, -1e9])
        metrics = Metrics(values)
        told = np.isfinite(values)
        assert metrics.back(metrics.scores[told]) == pytest.approx(values[told])
        assert metrics.scores[1] < metrics.scores[5] < metrics.scores[2]
        assert metrics.back(metrics.scores.max(keepdims=True) + 1) > 7

    def test_back_rises(self):
        metrics = Metrics(np.random.default_rng(0).standard_normal(9))
        assert (np.diff(metrics.back(np.linspace(-4, 4, 99))) > 0).all()

    @pytest.mark.parametrize('values', [[], [2.0], [2.0, 2.0], [-np.inf, 2.0]])
    def test_nothing_to_compare(self, values):
        metrics = Metrics(np.array(values))
        assert not metrics.comparable and (metrics.back(np.array([0.5])) == 0.5).all()


def test_what_is_expected_to_be_worse_is_not_asked_for():
    mean = np.arange(10.0)
    assert promise(mean, np.where(mean == 0, 100.0, 1.0), 9.0).argmax() == 9


def test_the_prior_has_its_turns():
    prior = np.arange(10.0)
    assert is_owed(prior, [0], trust=0.9) and is_owed(prior, [9, 0], trust=0.9)
    assert not is_owed(prior, [9], trust=0.6) and not is_owed(prior, [0, 1], trust=0.0)
