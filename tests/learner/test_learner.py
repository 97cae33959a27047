"""Ask and tell, on made-up spaces."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_up_panels import STATISTICS, best_rank, learned, made_up, searched

from nni_knas import Learner
from nni_knas.basics.factors import FACTORS
from nni_knas.scores import TwoWayRank

SEEDS = range(6)


class TestPrior:
    def test_is_believed_before_anything_is_told(self):
        panel, _ = made_up()
        learner = Learner(panel)
        assert learner.ask(1) == [panel.score.idxmax()]
        assert learner.predictions()['mean'].corr(panel.score, 'spearman') > 0.99

    def test_is_followed_where_metrics_agree(self):
        ranks, by_score = [], []
        for seed in SEEDS:
            panel, metrics = made_up(seed=seed)
            ranks.append(best_rank(metrics, learned(metrics, panel, 12)[1]))
            by_score.append(best_rank(metrics, panel.score.nlargest(12).index))
        assert np.mean(ranks) <= np.mean(by_score) + 1

    def test_says_more_of_its_other_end_than_a_few_of_its_best_do(self):
        """Noise among the best is no reason to train networks that are dead by all that is known of them."""
        rng = np.random.default_rng(0)
        size = rng.standard_normal(80)
        panel = pd.DataFrame({name: size + 0.3 * rng.standard_normal(80) for name in ['score', 'a', 'b', 'c', 'd', 'e']})
        learner, order = Learner(panel, seed=1), panel.score.rank(ascending=False)
        for rank, metric in ((1, 0.74), (2, 0.58), (3, 0.73), (10, 0.83)):
            learner.tell(order[order == rank].index[0], metric)
        for label in learner.ask(6):
            assert order[label] <= 50

    @pytest.mark.parametrize('by', ['b', 'e'])
    def test_is_left_where_metrics_disagree(self, by):
        ranks, by_score = [], []
        for seed in SEEDS:
            panel, metrics = made_up(seed=seed, by=by)
            ranks.append(best_rank(metrics, learned(metrics, panel, 20)[1]))
            by_score.append(best_rank(metrics, panel.score.nlargest(20).index))
        assert np.mean(ranks) <= 3 < np.mean(by_score)

    def test_that_is_the_wrong_way_round(self):
        panel, metrics = made_up(by='score')
        assert best_rank(metrics, learned(metrics, panel.assign(score=-panel.score), 20)[1]) <= 5

    def test_is_the_column_score_or_what_is_named_or_given(self):
        panel, _ = made_up()
        assert Learner(panel, prior='b').ask(1) == [panel.b.idxmax()]
        given = -panel.c.sample(frac=1, random_state=0)  # in any order
        assert Learner(panel, prior=given).ask(1) == [panel.c.idxmin()]

    def test_is_the_recommended_score_where_there_is_none(self):
        rng = np.random.default_rng(0)
        panel = pd.DataFrame(rng.lognormal(size=(40, len(FACTORS))), columns=[*FACTORS])
        score = sum(power * np.log(panel[name]) for name, power in FACTORS.items())
        assert Learner(panel).ask(1) == [score.idxmax()] and TwoWayRank.factors == FACTORS

    def test_that_is_missing_comes_last(self):
        panel, _ = made_up(30)
        panel.iloc[3] = math.nan
        assert Learner(panel).predictions()['mean'].idxmin() == 'net 3'


class TestBatches:
    def test_none_twice_and_all_at_the_end(self):
        panel, _ = made_up(30)
        learner = Learner(panel)
        asked = learner.ask(10) + learner.ask(25)
        assert sorted(asked) == sorted(panel.index) and learner.ask(1) == []

    def test_are_not_all_alike(self):
        """What is pending is believed to be as expected, so that it need not be tried again next to it."""
        panel, _ = made_up()
        asked = Learner(panel).ask(12)
        assert 4 <= len(set(asked) & set(panel.score.nlargest(12).index)) < 12

    def test_what_others_train_is_not_asked_for(self):
        panel, _ = made_up()
        learner, first = Learner(panel), panel.score.idxmax()
        learner.begin(first)
        assert first not in learner.ask(len(panel)) and learner.reason(first) is None

    def test_of_very_many(self):
        panel, metrics = made_up(5000)
        learner = learned(metrics, panel, 5)[0]
        asked = learner.ask(20)
        assert len({*asked}) == 20 and metrics[asked].mean() > metrics.mean()


class TestFailures:
    def test_one_training_that_has_diverged_changes_little(self):
        panel, metrics = made_up()
        learner, asked = learned(metrics, panel, 10)
        best = learner.predictions().drop(asked)['mean'].nlargest(10).index
        diverged = metrics.copy()
        diverged[metrics[asked].idxmin()] = -1e9  # the last of its ranks, as it was
        assert searched(Learner(panel), diverged, 15) == searched(Learner(panel), metrics, 15)
        learner.tell(asked[4], -1e9)
        assert learner.predictions().drop(asked)['mean'].nlargest(20).index.isin(best).sum() >= 8

    def test_are_not_asked_again_and_count_as_the_last(self):
        panel, _ = made_up()
        one, other = Learner(panel), Learner(panel)
        for learner, failed in ((one, None), (other, -1e9)):
            first, second, third = learner.ask(3)
            learner.tell(first, failed)
            learner.tell(second, 1.0)
            learner.tell(third, 2.0)
        assert one.ask(5) == other.ask(5)
        assert one.predictions().chance[first] == 0

    @pytest.mark.parametrize('metric', [None, math.nan, math.inf, -math.inf])
    def test_all_have_failed(self, metric):
        panel, _ = made_up(20)
        learner = Learner(panel)
        for label in learner.ask(4):
            learner.tell(label, metric)
        assert (learner.predictions().chance[list(panel.score.nlargest(1).index)] == 0).all()
        assert len(learner.ask(16)) == 16
        assert np.isfinite(learner.predictions()).all(axis=None) and np.isfinite(learner.weights().weight).all()

    def test_trained_after_all(self):
        panel, _ = made_up(20)
        learner, again = Learner(panel), Learner(panel)
        learner.tell('net 1', None)
        for each in (learner, again):
            each.tell('net 2', 0.5)
            each.tell('net 1', 0.7)
        assert learner.predictions().equals(again.predictions())


class TestPredictions:
    def test_in_the_units_of_the_metric(self):
        panel, metrics = made_up()
        learner, asked = learned(metrics, panel, 20)
        table = learner.predictions()
        assert list(table) == ['mean', 'deviation', 'chance'] and table.index.equals(panel.index)
        assert (table['mean'][asked] == metrics[asked]).all() and (table.deviation[asked] == 0).all()
        rest = table.drop(asked)
        assert rest['mean'].corr(metrics.drop(asked), 'spearman') > 0.7 and (rest.deviation > 0).all()
        assert ((rest['mean'] - metrics.drop(asked)).abs() < 3 * rest.deviation).mean() > 0.9

    def test_higher_is_better_whatever_the_mode(self):
        panel, metrics = made_up()
        up, down = Learner(panel), Learner(panel, optimize_mode='minimize')
        assert searched(up, metrics, 12) == searched(down, metrics, 12, sign=-1)
        assert up.predictions().equals(down.predictions()) and up.weights().equals(down.weights())

    def test_chances_are_of_all(self):
        panel, metrics = made_up(noise=0.05)
        learner, asked = learned(metrics, panel, 25)
        chance = learner.predictions().chance
        assert chance.sum() == pytest.approx(1) and (chance >= 0).all()
        assert chance[asked].sum() == chance[metrics[asked].idxmax()] > 0.5  # of the trained ones the best alone

    def test_chance_that_a_better_one_is_left_falls(self):
        panel, metrics = made_up(noise=0.05)
        learner, asked = learned(metrics, panel, 3)
        before = learner.predictions().chance.drop(asked).sum()
        asked += searched(learner, metrics, 30)
        assert learner.predictions().chance.drop(asked).sum() < before


class TestWeights:
    def test_say_what_counts(self):
        panel, metrics = made_up(by='b')
        table = learned(metrics, panel, 25)[0].weights()
        assert list(table) == ['weight', 'low', 'high', 'meaning'] and [*table.index] == STATISTICS
        assert table.weight.idxmax() == 'b' and table.meaning['b'] == 'more of it is better here'
        assert ((table.low <= table.weight) & (table.weight <= table.high)).all()
        assert table.low.min() >= -1 and table.high.max() <= 1

    def test_less_is_better(self):
        panel, metrics = made_up(by='b')
        table = learned(metrics, panel.assign(b=-panel.b), 30)[0].weights()
        assert table.meaning['b'] == 'less of it is better here' and table.high['b'] < 0

    def test_what_is_not_known(self):
        panel, metrics = made_up(by='b')
        table = learned(metrics, panel.assign(same=1.0), 3)[0].weights()
        assert table.meaning['a'] == 'not yet known'
        assert table.meaning['same'] == 'says nothing here: it is the same for all candidates'

    def test_of_one_candidate(self):
        panel, _ = made_up(1)
        learner = Learner(panel)
        assert (learner.weights().weight == 0).all() and learner.predictions().chance.sum() == 1


def test_reasons():
    panel, metrics = made_up(by='b')
    learner, asked = learned(metrics, panel, 20)
    reasons = [learner.reason(label) for label in asked]
    assert reasons[0] == 'score' and {*reasons} == {'score', 'learned', 'explore'}
    assert learner.reason(panel.index.difference(asked)[0]) is None
