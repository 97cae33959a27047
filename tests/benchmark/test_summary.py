"""Every score on every benchmark: means, the worst, intervals; within groups; and the picture of it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_benchmarks import tiny
from spaces import tiny_kernel

from nni_knas.benchmark import Measurement, Ranked, ScoreCache, correlation_text, measure, summary_table
from nni_knas.benchmark.baselines import Baseline
from nni_knas.benchmark.correlation import correlation_table, within_table
from nni_knas.benchmark.ranking import bootstrap_counts, interval, spearman_resampled
from nni_knas.gradients import NotApplicable
from nni_knas.scores import MGM, Score

NAN = float('nan')


class Width(Baseline):
    name = 'width'

    def __call__(self, gradients):
        return float(gradients.network.first.out_features)


class Wide(Score):
    """Has no value for narrow networks."""

    name = 'wide'
    passes = '0'

    def __call__(self, gradients):
        width = gradients.network.first.out_features
        if width == 4:
            raise NotApplicable('it is too narrow')
        if width == 8:
            raise RuntimeError('out of luck')
        return float(next(gradients.network.parameters()).detach().sum())


def ranked(name, scores, seeds=(0,), **columns):
    benchmark = dataclasses.replace(tiny(**columns), within=next(iter(columns), ''))
    architectures = benchmark.sample(27, 0, benchmark.metrics)
    kernels, cache = [tiny_kernel(seed=seed) for seed in seeds], ScoreCache(None)
    for kernel in kernels:
        measure(benchmark, kernel, architectures, scores, cache)
    measurements = [Measurement(benchmark, kernel, cache) for kernel in kernels]
    return Ranked(name, measurements, architectures, 'test_acc')


def reversed_accuracies(each: Ranked) -> Ranked:
    measurements = []
    for one in each.measurements:
        table = one.benchmark.table.assign(test_acc=-one.benchmark.table.test_acc)
        measurements.append(Measurement(dataclasses.replace(one.benchmark, table=table), one.kernel, one.cache))
    return each._replace(name='reversed', measurements=measurements)


class TestSummary:
    def test_numbers(self):
        scores = [Width(), MGM()]
        first = ranked('first', scores, seeds=(0, 1))
        second = reversed_accuracies(first)
        table = summary_table([first, second], scores, resamples=200)
        assert table['mean'].is_monotonic_decreasing
        table = table.set_index('score')
        single = correlation_table(first.measurements, first.architectures, scores, ['test_acc'], 200).set_index('score')
        for name in ('width', 'mgm'):
            row, same = table.loc[name], single.loc[name]
            assert (row['first'], row['first low'], row['first high']) == pytest.approx(
                (same.spearman, same.spearman_low, same.spearman_high)
            )
            assert row['reversed'] == pytest.approx(-same.spearman)
            assert row['mean'] == pytest.approx(0, abs=1e-12) and row['worst'] == pytest.approx(-abs(same.spearman))
            assert row.on == 2 and row.failed == 0 and row['mean low'] < 0 < row['mean high']
        kendall = summary_table([first], scores, 'kendall', 50).set_index('score')
        assert kendall['first']['mgm'] == pytest.approx(single.kendall['mgm'])
        assert kendall['mean']['mgm'] == kendall['worst']['mgm'] == kendall['first']['mgm']
        assert list(table.kind[['width', 'mgm']]) == ['baseline', 'score']

    def test_benchmarks_are_resampled_for_themselves(self):
        """The interval of the mean of two is narrower than either's by the square root of two."""
        each = ranked('one', [MGM()])
        row = summary_table([each, each._replace(name='other')], [MGM()], resamples=4000).iloc[0]
        widths = [row[f'{name} high'] - row[f'{name} low'] for name in ('one', 'other', 'mean')]
        assert widths[0] == widths[1] and widths[2] == pytest.approx(widths[0] / np.sqrt(2), rel=0.06)

    def test_interval_of_the_mean_by_hand(self):
        first, second = ranked('first', [MGM()]), ranked('second', [MGM()], seeds=(3,))
        row = summary_table([first, second], [MGM()], resamples=4000).iloc[0]
        resampled = []
        for number, each in enumerate((first, second)):
            values = each.measurements[0].values(MGM(), each.architectures)
            accuracy = each.measurements[0].benchmark.table.test_acc[each.architectures].to_numpy()
            resampled.append(spearman_resampled(values, accuracy, bootstrap_counts(27, 4000, seed=5 + number)))
        assert (row['mean low'], row['mean high']) == pytest.approx(interval(np.mean(resampled, axis=0)), abs=0.03)

    def test_where_it_has_no_value(self):
        each = ranked('all', [Wide(), Width()])
        narrow = [name for name in each.architectures if json.loads(name)['width'] == 4]
        parts = [each, each._replace(name='narrow', architectures=narrow)]
        table = summary_table(parts, [Wide(), Width()], resamples=50)
        row = table.set_index('score').loc['wide']
        assert np.isnan(row.narrow) and np.isnan(row['narrow low']) and row.on == 1
        assert row['mean'] == row['all'] == row['worst']
        assert row.failed == 9  # those of width 8: to those of width 4 it does not apply
        assert np.isnan(table.set_index('score').narrow['width'])  # all are equally wide

    @pytest.mark.parametrize(
        'value, text', [(0.936, '.94'), (-0.05, '-.05'), (1.0, '1.00'), (-0.999, '-1.00'), (-0.001, '.00'), (NAN, 'n/a')]
    )
    def test_text(self, value, text):
        assert correlation_text(value) == text


class TestWithin:
    def test_is_scipys_in_each_group(self):
        depths = np.repeat([2.0, 4.0, NAN], [15, 11, 1])
        each = ranked('one', [MGM(), Width()], seeds=(0, 1), depth=depths)
        table = within_table(each.measurements, each.architectures, [MGM(), Width()], ['test_acc'], 100)
        assert list(table.group[:2]) == [2, 4] and list(table.architectures[:2]) == [15, 11] and len(table) == 4
        results = each.measurements[0].benchmark.table
        for row in table[table.score == 'mgm'].itertuples():
            group = results[results.depth == row.group]
            values = [one.values(MGM(), list(group.index)) for one in each.measurements]
            for name, function in (('kendall', stats.kendalltau), ('spearman', stats.spearmanr)):
                by_hand = np.mean([function(scores, group.test_acc).statistic for scores in values])
                assert getattr(row, name) == pytest.approx(by_hand)
                assert getattr(row, f'{name}_low') < by_hand < getattr(row, f'{name}_high')
        assert table[table.score == 'mgm'].within.unique() == ['depth']

    def test_no_metric(self):
        benchmark = dataclasses.replace(tiny(acc_depth=np.arange(27)), within='acc_depth')
        assert benchmark.metrics == ['test_acc']
        with pytest.raises(ValueError, match="the table of tiny has no metric 'layers'"):
            dataclasses.replace(benchmark, within='layers')

    def test_none(self):
        each = ranked('one', [Width()])
        assert within_table(each.measurements, each.architectures, [Width()], ['test_acc']).empty


def test_heat_map_has_a_cell_for_each_number():
    pytest.importorskip('matplotlib')
    from nni_knas.benchmark.heatmap import draw_summary

    summary = pd.DataFrame(
        {
            'score': ['good', 'parameters', 'bad'],
            'kind': ['score', 'baseline', 'score'],
            'a': [0.9, 0.5, -0.7],
            'b': [NAN, 0.25, -0.3],
            'mean': [0.9, 0.375, -0.5],
            'worst': [0.9, 0.25, -0.7],
            'on': [1, 2, 2],
        }
    )
    axes = draw_summary(summary, ['a', 'b'], 'A title').axes[0]
    shown = np.column_stack([mesh.get_array().filled(NAN) for mesh in axes.collections])
    np.testing.assert_array_equal(shown, summary[['a', 'b', 'mean', 'worst']].to_numpy())
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if text.endswith('\N{DAGGER}')] == ['.90\N{DAGGER}'] * 2
    assert texts[:4] == ['.90', '.50', '-.70', 'a'] and 'n/a' in texts and len(texts) == 3 * 4 + 4
    assert {mesh.get_clim() for mesh in axes.collections} == {(-1, 1)}  # centred on 0
    labels = {label.get_text(): label.get_fontstyle() for label in axes.get_yticklabels()}
    assert labels == {'good': 'normal', 'parameters': 'italic', 'bad': 'normal'}
    lefts = [mesh.get_coordinates()[0, 0, 0] for mesh in axes.collections]
    assert np.diff(lefts)[1] > np.diff(lefts)[0] == np.diff(lefts)[2]  # mean and worst are set apart
