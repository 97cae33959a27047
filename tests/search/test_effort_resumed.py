"""A search with adaptive effort that is interrupted, or has no time left, goes on as if nothing had happened."""

from __future__ import annotations

import pandas as pd
import pytest
from clocks import Clock
from image_searches import cells, image_kernel, without_times
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.strategy import Random, RegularizedEvolution
from placements import MadeUp
from searches import explore, report, run
from spaces import LoggedMGM, lines, write_line

from nni_knas import KNAS
from nni_knas.engine import Placement, engine
from nni_knas.search import coarse, fine
from nni_knas.search import strategy as strategy_module


@pytest.fixture(scope='module')
def by_mgm():
    return run(cells(), image_kernel(score='mgm'))


def table(strategy):
    return [(c.id, c.sample, c.quick, c.score, c.status, c.metric) for c in strategy._opened_record().explored()]


EXPLORERS = {
    'random': lambda: Random(dedup=False, seed=3),
    'evolution': lambda: RegularizedEvolution(population_size=20, sample_size=5, mutation_prob=0.4, seed=3),
}


@pytest.fixture(scope='module', params=EXPLORERS)
def uninterrupted(request):
    """The name of an explorer, where its candidates are scored, and the whole search."""
    placement = MadeUp(1)
    return request.param, placement, explore(placement, explorer=EXPLORERS[request.param]())


class TestResume:
    # In the quick phase; in the midst of a batch that is scored in full; in several of them; at the end of one.
    @pytest.mark.parametrize('stops', [[70], [155], [40, 115, 3, 17], [166], [150]])
    def test_goes_on_as_if_nothing_had_happened(self, uninterrupted, stops, tmp_path):
        name, whole, expected = uninterrupted
        placements = [MadeUp(10 + i, dies_after=stop) for i, stop in enumerate(stops)]
        for placement in placements:
            with pytest.raises(KeyboardInterrupt):
                explore(placement, tmp_path / 'record', explorer=EXPLORERS[name]())
        placements.append(MadeUp(20))
        resumed = explore(placements[-1], tmp_path / 'record', explorer=EXPLORERS[name]())
        assert table(resumed) == table(expected)
        scored = [each for placement in placements for each in placement.scored]
        assert sorted(scored) == sorted(whole.scored)  # and so nothing twice
        assert 16 * 2 <= len(scored) - 150 < 120

    @pytest.mark.parametrize('calls', [60, 125])
    def test_scores_of_networks(self, by_mgm, calls, tmp_path):
        class Dying(LoggedMGM):
            def __call__(self, gradients):
                if len(lines(self.log)) == calls:
                    write_line(self.log, 'dies')
                    raise KeyboardInterrupt
                return super().__call__(gradients)

        log, record = str(tmp_path / 'log'), tmp_path / 'record'
        with pytest.raises(KeyboardInterrupt):
            run(cells(), image_kernel(score=Dying(log)), record=record)
        resumed = run(cells(), image_kernel(score=Dying(log)), record=record)
        scores = resumed.scores(all=True)
        assert len(lines(log)) - 1 == 120 + scores.score.notna().sum()
        pd.testing.assert_frame_equal(without_times(resumed), without_times(by_mgm), check_exact=True)

    def test_a_finished_run_starts_nothing(self, tmp_path):
        class Unwilling(Placement):
            def start(self, scorer, engine):
                raise AssertionError('there is nothing to do')

        before = explore(MadeUp(), tmp_path / 'record')
        assert table(explore(Unwilling(), tmp_path / 'record')) == table(before)
        assert table(explore(Unwilling(), tmp_path / 'record', top_k=3)) == table(before)

    def test_a_larger_top_k_scores_what_is_missing(self, tmp_path):
        first, second, whole = MadeUp(1), MadeUp(2), MadeUp(3)
        explore(first, tmp_path / 'record', top_k=5)
        resumed = explore(second, tmp_path / 'record', top_k=25)
        explore(whole, top_k=25)
        assert second.scored and not any(quick for _, quick in second.scored)
        assert not set(first.scored) & set(second.scored)
        assert set(whole.scored) <= set(first.scored) | set(second.scored)
        assert (resumed.scores(all=True).status.iloc[:25] == 'trained').all()

    def test_more_candidates(self, tmp_path):
        first, second = MadeUp(1), MadeUp(2)
        explore(first, tmp_path / 'record', candidates=120)
        resumed = explore(second, tmp_path / 'record', candidates=200)
        assert len(resumed.scores(all=True)) == 200 and resumed.scores(all=True).quick.notna().all()
        assert not set(first.scored) & set(second.scored)

    def test_top_k_zero_scores_nothing_in_full(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            explore(MadeUp(1, dies_after=70), tmp_path / 'record')
        second = MadeUp(2)
        explore(second, tmp_path / 'record', top_k=0)
        assert len(second.scored) == 80 and all(quick for _, quick in second.scored)
        explore(second, tmp_path / 'record')
        assert not all(quick for _, quick in second.scored)

    def test_with_full_effort_is_refused(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            explore(MadeUp(1, dies_after=70), tmp_path / 'record')
        with pytest.raises(ValueError, match='cannot be taken up with effort="full"'):
            explore(MadeUp(), tmp_path / 'record', effort='full')

    def test_what_began_in_full_goes_on_in_full(self, tmp_path):
        explore(MadeUp(1), tmp_path / 'record', candidates=60)
        resumed = explore(MadeUp(2), tmp_path / 'record', candidates=150)
        assert resumed.scores(all=True).score.notna().sum() == 150 and resumed.scores(all=True).quick.isna().all()


class TestTime:
    def test_over_in_the_quick_phase(self, tmp_path):
        placement = MadeUp(1, tires_after=70)
        scores = explore(placement, tmp_path / 'record').scores(all=True)
        assert 70 <= len(scores) < 75 and scores.score.isna().all()
        assert list(scores.status.iloc[:10]) == ['trained'] * 10 and scores.quick.is_monotonic_decreasing
        assert all(task.quick for task in placement.too_late)  # nothing is asked for when the time is over

    def test_over_in_the_quick_phase_of_a_search_that_learns(self, tmp_path):
        """None can be scored in full here, which is found out as they are asked for: some are trained all the same."""
        scores = explore(MadeUp(1, tires_after=70), tmp_path / 'record', choose='learn').scores(all=True)
        assert 1 < scores.status.tolist().count('trained') <= 10 and set(scores.status) <= {'trained', 'failed', 'screened'}

    def test_over_in_the_full_phase(self, tmp_path):
        scores = explore(MadeUp(1, tires_after=154), tmp_path / 'record').scores(all=True)
        count = scores.score.notna().sum()
        assert 4 <= count < 10 and scores.score.iloc[:count].notna().all()
        assert list(scores.status.iloc[:11]) == ['trained'] * 10 + ['screened']  # the best quick ones fill up

    @pytest.mark.parametrize('tires_after', [70, 154, 170])
    def test_more_time_makes_up_for_it(self, tires_after, tmp_path):
        whole, first, second = MadeUp(1), MadeUp(1, tires_after=tires_after), MadeUp(2)
        expected = explore(whole)
        explore(first, tmp_path / 'record')
        resumed = explore(second, tmp_path / 'record')
        assert not set(first.scored) & set(second.scored)
        assert set(whole.scored) == set(first.scored) | set(second.scored)
        columns = ['candidate', 'quick', 'score']
        pd.testing.assert_frame_equal(
            resumed.scores(all=True)[columns], expected.scores(all=True)[columns], check_exact=True
        )
        assert (resumed.scores(all=True).status.iloc[:10] == 'trained').all()

    @pytest.mark.parametrize(('seconds', 'quick', 'full'), [(50, 80, 0), (20, 120, 6)], ids=['quick', 'full'])
    def test_of_the_experiment(self, seconds, quick, full, tmp_path, monkeypatch):
        clock = Clock().rules(monkeypatch, coarse, engine, fine, strategy_module)

        class Slow(LoggedMGM):
            """Full scores take long."""

            def __call__(self, gradients):
                clock.sleep(seconds if gradients.minibatch.size == 2 else 300)
                return super().__call__(gradients)

        strategy = KNAS(image_kernel(score=Slow(str(tmp_path / 'log'))), 120, 5)
        experiment = NasExperiment(
            cells(), FunctionalEvaluator(report), strategy, NasExperimentConfig('sequential', 'simplified')
        )
        experiment.config.experiment_working_directory = str(tmp_path)
        experiment.config.max_experiment_duration = '4000s'
        experiment.run()
        experiment.stop()
        scores = strategy.scores(all=True)
        assert scores.metric.isna().all()  # no time is left for training
        assert (len(scores), scores.score.notna().sum()) == (quick, full)
