"""Benchmarks by name, the numbers that they give, resuming, and the search of the paper."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from scipy import stats
from small_benchmarks import faulty, tiny, tiny_samples
from spaces import TinySpace, tiny_kernel
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.benchmark import Benchmark, base, benchmark_names, load_benchmark, register_benchmark, space_benchmark
from nni_knas.benchmark.baselines import BASELINES, Flops, Layers, Parameters
from nni_knas.benchmark.cache import Measured, ScoreCache
from nni_knas.benchmark.correlation import correlation_table, score_table
from nni_knas.benchmark.costs import cost
from nni_knas.benchmark.measuring import Measurement, measure, settings_of
from nni_knas.benchmark.nats import to_sample
from nni_knas.benchmark.protocol import OPTIMUM, RANDOM, draw_candidates, fine_metric, search_table
from nni_knas.benchmark.ranking import (
    bootstrap_counts,
    interval,
    kendall,
    kendall_resampled,
    order_of,
    spearman,
    spearman_resampled,
    top_accuracy,
)
from nni_knas.networks.candidates import decode_sample
from nni_knas.networks.construction import build_network
from nni_knas.scores import MGM, MGMSampled, Score, TwoWayRank

NAN = float('nan')


class Width(Score):
    """Counts its calls; a function of the architecture alone."""

    name = 'width'
    passes = '0'

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, gradients):
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return float(gradients.network.first.out_features)


class TestBenchmarks:
    def test_network_depends_on_architecture_and_seed_alone(self):
        benchmark = tiny()
        architecture = benchmark.table.index[5]
        first, again, other = (
            torch.cat([p.flatten() for p in benchmark.network(architecture, seed).parameters()]) for seed in (1, 1, 2)
        )
        model = SimplifiedModelSpace.from_model(TinySpace()).freeze(decode_sample(architecture))
        assert torch.equal(first, torch.cat([p.flatten() for p in build_network(model, 1).parameters()]))
        assert torch.equal(first, again) and not torch.equal(first, other)

    def test_sample_is_seeded_nested_and_blind_to_the_tables_order(self):
        benchmark = tiny()
        shuffled = Benchmark('tiny', benchmark.table.sample(frac=1, random_state=1), benchmark.network)
        small, large, other = (benchmark.sample(n, seed, ['test_acc']) for n, seed in ((5, 0), (9, 0), (5, 1)))
        assert large[:5] == small == shuffled.sample(5, 0, ['test_acc']) and len(set(large)) == 9
        assert small != other
        assert sorted(benchmark.sample(100, 0, ['test_acc'])) == sorted(tiny_samples())

    def test_sample_leaves_out_what_has_no_result(self):
        holes = np.where(np.arange(27) % 3, 1.0, NAN)
        benchmark = tiny(other_acc=holes)
        assert len(benchmark.sample(100, 0, ['test_acc', 'other_acc'])) == 18
        assert len(benchmark.sample(100, 0, ['test_acc'])) == 27

    def test_metrics(self):
        columns = {'valid_acc': 1.0, 'valid_acc_epoch12': 1.0, 'params': 3, 'name': 'x'}
        table = pd.DataFrame(columns, index=['a'])
        benchmark = Benchmark('b', table, lambda name, seed: nn.Identity())
        assert benchmark.metrics == ['valid_acc'] and benchmark.columns == ['valid_acc', 'valid_acc_epoch12', 'params']
        assert Benchmark('b', table[['params']], benchmark.network).metrics == ['params']
        with pytest.raises(ValueError, match="has no metric 'acc': it has valid_acc, "):
            benchmark.check_metric('acc')
        with pytest.raises(ValueError, match='the table of b has no accuracy column: its columns are name'):
            Benchmark('b', table[['name']], benchmark.network)
        with pytest.raises(ValueError, match='has the architecture a more than once'):
            Benchmark('b', pd.concat([table, table]), benchmark.network)

    def test_one_more_in_a_few_lines(self, monkeypatch, tmp_path):
        """What the documentation promises: a decorated function, then the name is known."""
        monkeypatch.setattr(base, '_REGISTRY', dict(base._REGISTRY))

        @register_benchmark('mine', image_size=8)
        def mine(table):
            return space_benchmark('mine', TinySpace(), pd.read_csv(table))

        tiny().table.to_csv(tmp_path / 'mine.csv')
        benchmark = load_benchmark('mine', table=str(tmp_path / 'mine.csv'))
        pd.testing.assert_frame_equal(benchmark.table, tiny().table)
        assert isinstance(benchmark.network(benchmark.table.index[0], 0), nn.Module)
        declared = base.declaration_of('mine')
        assert 'mine' in benchmark_names() and (declared.data, declared.image_size) == ('digits', 8)

    def test_what_is_declared(self, monkeypatch):
        monkeypatch.setattr(base, '_REGISTRY', dict(base._REGISTRY))
        register_benchmark('mine', data='cifar10', takes='texts', file='a.csv', witness='test_acc')(faulty)
        declared = base.declaration_of('mine')
        assert declared[1:] == ('cifar10', 32, 'texts', ('a.csv',), 'test_acc', '')
        assert base.declaration_of('small_benchmarks:faulty') is declared  # registered, and named by its function
        assert base.declaration_of('small_benchmarks:tiny').takes is None
        assert load_benchmark('mine').witness == 'test_acc' and load_benchmark('small_benchmarks:tiny').witness == ''

    def test_tables_in_a_folder(self, tmp_path):
        folder, beside = tmp_path / 'tables', tmp_path / 'nats-bench'
        for each in (folder, beside):
            each.mkdir()
        assert base.find_table('nats-tss', folder) is base.find_table('nasbench101', folder) is None
        (beside / 'tss-other.csv').touch()
        (folder / 'nb101.csv').touch()
        assert base.find_table('nats-tss', folder).samefile(beside / 'tss-other.csv')
        assert base.find_table('nasbench101', folder) == folder / 'nb101.csv'
        (folder / 'NATS-tss-v1_0-3ffb9-simple').mkdir()
        assert base.find_table('nats-tss', folder) == folder / 'NATS-tss-v1_0-3ffb9-simple'  # before those beside
        assert base.find_table('darts-cifar10', folder) is None

    def test_users_own_by_name(self):
        assert load_benchmark('small_benchmarks:small_nats', classes=3).network(
            load_benchmark('small_benchmarks:small_nats').table.index[0], 0
        )(torch.zeros(1, 3, 32, 32)).shape == (1, 3)

    @pytest.mark.parametrize(
        'name, table, sentence',
        [
            ('nats-ts', None, "unknown benchmark 'nats-ts' .did you mean 'nats-tss'"),
            ('nats-tss', None, 'the benchmark needs a table'),
            ('small_benchmarks:tiny', 'a.csv', 'brings its own table: leave --table out'),
            ('small_benchmarks:nothing', None, 'should return a Benchmark, and returned int'),
            ('small_benchmarks:np', None, 'should be a function that returns a Benchmark'),
            ('small_benchmarks:absent', None, "there is no 'absent'"),
        ],
    )
    def test_mistakes(self, name, table, sentence):
        with pytest.raises(ValueError, match=sentence):
            load_benchmark(name, table=table)

    @pytest.mark.parametrize('name', ['darts-cifar10', 'autoformer-digits'])
    def test_shipped(self, name):
        try:
            benchmark = load_benchmark(name)
        except ValueError as error:
            pytest.skip(str(error))
        size = base.declaration_of(name).image_size
        assert benchmark.metrics == ['valid_acc', 'test_acc']
        assert benchmark.table.test_acc.between(5, 100).all()
        network = benchmark.network(benchmark.table.index[0], 0).eval()
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 10)

    def test_nats_networks_are_nnis(self, tmp_path):
        (tmp_path / 'a.csv').write_text('index,acc\n4,50\n')
        benchmark = load_benchmark('nats-tss', table=str(tmp_path / 'a.csv'), classes=7)
        [architecture] = benchmark.table.index
        model = SimplifiedModelSpace.from_model(NasBench201(num_labels=7)).freeze(to_sample(architecture))
        ours, theirs = (
            list(network.parameters()) for network in (benchmark.network(architecture, 3), build_network(model, 3))
        )
        assert len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def test_baselines_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 64, 10)
    )
    kernel = GradientKernelEvaluator((torch.randn(6, 3, 8, 8), torch.arange(6)))
    with kernel.gradients(network) as gradients:
        assert Parameters()(gradients) == 4 * 3 * 9 + 8 + 256 * 10 + 10
        assert Flops()(gradients) == 2 * (64 * 4 * 3 * 9) + 2 * 256 * 10
        assert Layers()(gradients) == 2
    assert {score.name for score in BASELINES} == {'parameters', 'flops', 'layers'}


# Numbers.

values = st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(NAN), st.floats(-5, 5)), min_size=3, max_size=40)


def as_worst(scores):
    return np.where(np.isnan(scores), -1e9, scores)


class TestRanking:
    @pytest.mark.filterwarnings('ignore::scipy.stats.ConstantInputWarning')
    @given(values, st.randoms(use_true_random=False))
    def test_correlations_are_scipys(self, scores, random):
        scores = np.array(scores)
        accuracy = np.array([float(random.randint(0, 9)) for _ in scores])
        expected = (
            stats.spearmanr(as_worst(scores), accuracy).statistic,
            stats.kendalltau(as_worst(scores), accuracy).statistic,
        )
        assert (spearman(scores, accuracy), kendall(scores, accuracy)) == pytest.approx(expected, nan_ok=True)

    def test_by_hand(self):
        accuracy = np.array([10.0, 20.0, 30.0, 40.0])
        assert spearman(np.array([1.0, 3.0, 2.0, 4.0]), accuracy) == pytest.approx(1 - 6 * 2 / (4 * 15))
        assert kendall(np.array([1.0, 3.0, 2.0, 4.0]), accuracy) == pytest.approx(4 / 6)
        assert kendall(np.array([1.0, 1.0, 2.0, 4.0]), accuracy) == pytest.approx(5 / math.sqrt(5 * 6))  # one tie
        assert math.isnan(spearman(np.ones(4), accuracy)) and math.isnan(kendall(np.ones(4), accuracy))

    def test_no_score_is_the_worst_score(self):
        accuracy = np.array([10.0, 20.0, 30.0])
        assert spearman(np.array([NAN, 5.0, 6.0]), accuracy) == pytest.approx(1)
        assert kendall(np.array([7.0, 8.0, NAN]), accuracy) == pytest.approx(-1 / 3)
        assert list(order_of(np.array([NAN, -9.0, 4.0, NAN]))) == [2, 1, 0, 3]

    def test_top(self):
        scores, accuracy = np.array([3.0, NAN, 2.0, 1.0]), np.array([50.0, 90.0, 70.0, 60.0])
        assert [top_accuracy(scores, accuracy, k) for k in (1, 2, 3, 4, 40)] == [50, 70, 70, 90, 90]

    @pytest.mark.parametrize('count', [30, 600])  # the second takes more than one block of rows
    def test_resamples_one_by_one(self, count):
        random = np.random.default_rng(0)
        scores, accuracy = random.integers(0, 9, count).astype(float), random.normal(size=count)
        scores[::7] = NAN
        counts = bootstrap_counts(count, 8)
        assert (counts.sum(1) == count).all() and len(np.unique(counts, axis=0)) == 8
        drawn = [np.repeat(np.arange(count), row) for row in counts]
        rho = [stats.spearmanr(as_worst(scores[i]), accuracy[i]).statistic for i in drawn]
        tau = [stats.kendalltau(as_worst(scores[i]), accuracy[i]).statistic for i in drawn]
        np.testing.assert_allclose(spearman_resampled(scores, accuracy, counts), rho, atol=1e-9)
        np.testing.assert_allclose(kendall_resampled(scores, accuracy, counts), tau, atol=1e-6)

    def test_intervals_cover(self):
        """Of samples of a population whose correlation is known, about 95 % of the intervals hold it."""
        random = np.random.default_rng(1)
        truth = 6 / math.pi * math.asin(0.6 / 2)  # Spearman of a normal pair whose Pearson correlation is 0.6
        inside = 0
        for trial in range(100):
            x, y = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=80).T
            low, high = interval(spearman_resampled(x, y, bootstrap_counts(80, 200, trial)))
            assert low < spearman(x, y) < high
            inside += low < truth < high
        assert 85 <= inside <= 99

    def test_interval_of_nothing(self):
        assert all(map(math.isnan, interval(np.full(5, NAN))))
        assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


# Measuring.


def measured(benchmark, scores, kernels=None, cache=None, count=100):
    kernels, cache = kernels or [tiny_kernel()], cache or ScoreCache(None)
    architectures = benchmark.sample(count, 0, benchmark.metrics)
    for kernel in kernels:
        measure(benchmark, kernel, architectures, scores, cache)
    return architectures, [Measurement(benchmark, kernel, cache) for kernel in kernels]


class TestMeasure:
    def test_values_are_the_kernels(self):
        benchmark, kernel = tiny(6), tiny_kernel(score='mgm', seed=3)
        architectures, [measurement] = measured(benchmark, [MGM(), MGMSampled()], [kernel])
        expected = [kernel.score(benchmark.network(each, 3)) for each in architectures]
        np.testing.assert_allclose(measurement.values(MGM(), architectures), expected)
        assert measurement.reasons(MGM(), architectures) == []

    def test_passes_are_shared(self, monkeypatch):
        from nni_knas.gradients import Gradients

        passes = []
        original = Gradients._forward
        monkeypatch.setattr(Gradients, '_forward', lambda self, *a: passes.append(1) or original(self, *a))
        measured(tiny(4), [MGM(), MGMSampled(), Parameters()])
        assert len(passes) == 4
        measured(tiny(4), [MGM(), TwoWayRank()])  # which has to be watched from the beginning
        assert len(passes) == 8

    def test_resume(self, tmp_path):
        """A run that is interrupted goes on after the last score; a larger sample scores only what is new."""
        path = tmp_path / 'cache' / 'scores.sqlite'
        interrupted, rest, none, more, other = Width(stop_at=4), Width(), Width(), Width(), Width()
        with pytest.raises(KeyboardInterrupt):
            measured(tiny(), [Parameters(), interrupted], cache=ScoreCache(path), count=10)
        assert interrupted.calls == 4
        for score, count in ((rest, 10), (none, 10), (more, 15)):
            measured(tiny(), [Parameters(), score], cache=ScoreCache(path), count=count)
        measured(tiny(), [Parameters(), other], [tiny_kernel(seed=1)], ScoreCache(path), 15)
        assert [score.calls for score in (rest, none, more, other)] == [6, 0, 5, 15]
        architectures, [measurement] = measured(tiny(), [Parameters(), Width()], cache=ScoreCache(path), count=15)
        assert list(measurement.values(Width(), architectures)) == [json.loads(each)['width'] for each in architectures]

    def test_settings_hold_the_factors_of_the_recommended_score(self, monkeypatch):
        before = settings_of(tiny_kernel(), TwoWayRank())
        monkeypatch.setattr(TwoWayRank, 'factors', {'participation': 1.0})
        assert settings_of(tiny_kernel(), TwoWayRank()) != before

    def test_settings(self):
        same = {'batch_size': 20, 'normalization': 'sample', 'seed': 0}  # all of the data, so the seed does not change it
        plain = settings_of(tiny_kernel(**same), MGM())
        assert plain == settings_of(tiny_kernel(**same), MGM())
        for change in ({'seed': 1}, {'normalization': 'batch'}, {'batch_size': 5}):
            other = tiny_kernel(**same | change)
            assert settings_of(other, MGM()) != plain
            assert settings_of(other, Parameters()) == settings_of(tiny_kernel(**same), Parameters())

    def test_failures_are_kept_with_their_reason(self):
        class Moody(Width):
            name = 'moody'

            def __call__(self, gradients):
                raise ZeroDivisionError('no luck')

        benchmark = faulty()
        architectures, [measurement] = measured(benchmark, [*BASELINES, MGM(), Moody()])
        scores, middles = measurement.values(MGM(), architectures), [json.loads(each)['middle'] for each in architectures]
        assert [bool(np.isnan(score)) for score in scores] == [middle in ('raises', 'nan') for middle in middles]
        reasons = measurement.reasons(MGM(), architectures)
        assert len(reasons) == 6 and sum('this layer is broken' in reason for reason in reasons) == 3
        assert sum(reason == 'the score is nan' for reason in reasons) == 3
        assert np.isnan(measurement.values(Moody(), architectures)).all()
        assert set(measurement.reasons(Moody(), architectures)) == {'ZeroDivisionError: no luck'}
        assert np.isfinite(measurement.values(Parameters(), architectures)).all()

    def test_networks_that_cannot_be_built(self):
        def network(architecture, seed):
            raise RuntimeError('no such network')

        benchmark = Benchmark('b', pd.DataFrame({'acc': [1.0, 2.0]}, index=['x', 'y']), network)
        architectures, [measurement] = measured(benchmark, [Parameters(), MGM()])
        assert measurement.reasons(MGM(), architectures) == ['RuntimeError: no such network'] * 2

    def test_cache_is_another_file(self, tmp_path):
        (tmp_path / 'scores.sqlite').write_text('something else, and long enough to be looked at ' * 20)
        with pytest.raises(ValueError, match='cannot be used as the cache of scores'):
            ScoreCache(tmp_path / 'scores.sqlite')

    def test_cache_keeps_what_is_not_finite(self):
        cache = ScoreCache(None)
        cache.add('b', 'x', 's', 'mgm', Measured(math.inf, 1.5, 'the score is inf'))
        assert cache.get('b', 's', 'mgm') == {'x': Measured(math.inf, 1.5, 'the score is inf')}
        assert cache.get('b', 't', 'mgm') == cache.get('c', 's', 'mgm') == cache.get('b', 's', 'mg') == {}


def test_cost():
    benchmark = tiny(3)
    table = cost(benchmark, tiny_kernel(), list(benchmark.table.index), [Parameters(), MGM(), Width(stop_at=None)])
    assert list(table.index) == ['parameters', 'mgm', 'width'] and (table > 0).all().all()
    assert table.passes['mgm'] > table.passes['parameters']
    assert table.attrs['architectures'] == 3 and table.attrs['plain_seconds'] > 0


class TestCorrelationTable:
    def test_numbers(self):
        benchmark = tiny()
        kernels = [tiny_kernel(score='mgm', seed=seed) for seed in (0, 1)]
        scores = [Parameters(), MGM(), Width()]
        architectures, measurements = measured(benchmark, scores, kernels)
        table = correlation_table(measurements, architectures, scores, ['test_acc'], resamples=50).set_index('score')
        accuracy = benchmark.table.test_acc[architectures].to_numpy()
        each = [
            stats.spearmanr([k.score(benchmark.network(name, k.seed)) for name in architectures], accuracy).statistic
            for k in kernels
        ]
        assert table.spearman['mgm'] == pytest.approx(np.mean(each))
        assert table.spearman_deviation['mgm'] == pytest.approx(np.std(each, ddof=1))
        assert list(table.spearman) == sorted(table.spearman, reverse=True)
        assert (table.spearman_low < table.spearman).all() and (table.spearman < table.spearman_high).all()
        widths = [json.loads(name)['width'] for name in architectures]
        assert table.kendall['width'] == pytest.approx(stats.kendalltau(widths, accuracy).statistic)
        assert table.kind['parameters'] == 'baseline' and table.kind['mgm'] == 'score'
        best = max(accuracy[np.array(widths) == 16][:1])
        assert table.top1['width'] == best and table.regret1['width'] == pytest.approx(90 - best)
        assert (table.top40 == 90).all() and (table.regret40 == 0).all()

    def test_failures_are_counted_and_the_worst(self):
        architectures, measurements = measured(faulty(), [MGM()])
        table = correlation_table(measurements, architectures, [MGM()], ['acc'], resamples=20)
        assert table.failed[0] == 6 and table.reason[0] == measurements[0].reasons(MGM(), architectures)[0]
        assert table.spearman[0] < -0.5  # the failed ones have the highest accuracies here

    def test_per_architecture(self):
        architectures, measurements = measured(tiny(5), [Parameters(), MGM()], [tiny_kernel(seed=4), tiny_kernel(seed=7)])
        table = score_table(measurements, architectures, [Parameters(), MGM()], ['test_acc'])
        assert list(table.columns) == ['test_acc', 'parameters', 'mgm@4', 'mgm@7'] and list(table.index) == architectures
        assert list(table['mgm@7']) == list(measurements[1].values(MGM(), architectures))


# The search of the paper.


class TestSearch:
    def benchmark(self, **columns):
        return Benchmark('b', pd.DataFrame({'a_test_acc': np.arange(27.0)} | columns, index=tiny_samples()), tiny().network)

    @pytest.mark.parametrize(
        'columns, fine',
        [
            ([], ('a_test_acc', True)),
            (['b_valid_acc'], ('a_test_acc', True)),
            (['a_valid_acc'], ('a_valid_acc', False)),
            (['a_valid_acc', 'a_valid_acc_epoch12'], ('a_valid_acc_epoch12', False)),
            (['a_valid_acc_epoch12', 'a_valtest_acc_epoch20'], ('a_valtest_acc_epoch20', False)),
            (['a_valtest_acc_epoch20', 'a_valid_acc_epoch20'], ('a_valid_acc_epoch20', False)),
        ],
    )
    def test_fine_stage(self, columns, fine):
        assert fine_metric(self.benchmark(**dict.fromkeys(columns, 1.0)), 'a_test_acc') == fine

    def test_draws(self):
        names = [str(i) for i in range(20)]
        draws = draw_candidates(names, 8, 3, seed=0)
        assert draws == draw_candidates(names, 8, 3, seed=0) != draw_candidates(names, 8, 3, seed=1)
        assert [len(set(draw)) for draw in draws] == [8] * 3 and draws[0] != draws[1]

    @pytest.mark.parametrize('validated', [False, True])
    def test_numbers(self, validated):
        # Validation is the other way round, so whoever chooses by it among k takes the lowest test accuracy.
        benchmark = self.benchmark(**({'a_valid_acc': -np.arange(27.0)} if validated else {}))
        architectures, measurements = measured(benchmark, [Width(), Parameters()])
        draws = draw_candidates(architectures, 12, 4, 0)
        table = search_table(measurements, draws, [Width(), Parameters()], ['a_test_acc'], [1, 5])
        found = []
        for draw in draws:
            accuracy = [benchmark.table.a_test_acc[name] for name in draw]
            order = sorted(range(12), key=lambda i: -json.loads(draw[i])['width'])
            found.append((min if validated else max)(accuracy[i] for i in order[:5]))
        row = table[(table.score == 'width') & (table.k == 5)].iloc[0]
        assert (row['mean'], row.deviation) == pytest.approx((np.mean(found), np.std(found, ddof=1)))
        assert row.upper_bound == (not validated) and row.repeats == 4
        optimum = table[table.score == OPTIMUM]['mean']
        assert (optimum == np.mean([max(benchmark.table.a_test_acc[draw]) for draw in draws])).all()
        assert set(table.score) == {'width', 'parameters', RANDOM, OPTIMUM}
        assert table[table.k == 1]['mean'].is_monotonic_decreasing

    def test_candidates_without_a_fine_result_are_not_chosen(self):
        benchmark = self.benchmark(a_valid_acc=np.where(np.arange(27) < 20, np.arange(27.0), NAN))
        architectures = list(benchmark.table.index)
        _, measurements = measured(benchmark, [Width()])
        measure(benchmark, measurements[0].kernel, architectures, [Width()], measurements[0].cache)
        measurements = [Measurement(benchmark, measurements[0].kernel, measurements[0].cache)]
        table = search_table(measurements, [architectures], [Width()], ['a_test_acc'], [9]).set_index('score')
        assert table['mean']['width'] == 19  # the nine of width 16 are the numbers 18 to 26

    def test_random_choice_is_no_ranking(self):
        architectures, measurements = measured(self.benchmark(), [Width()])
        draws = draw_candidates(architectures, 20, 60, 0)
        table = search_table(measurements, draws, [Width()], ['a_test_acc'], [1]).set_index('score')
        assert table['mean'][RANDOM] == pytest.approx(13, abs=3)  # the mean of 0 to 26
