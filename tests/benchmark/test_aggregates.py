"""Ranks by several scores among candidates, where a single score would stand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_benchmarks import small_nats, tiny
from spaces import tiny_kernel
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.benchmark import AGGREGATES, BASELINES, Aggregate, ScoreCache, find_score
from nni_knas.benchmark.aggregates import TeNas, VKDNWAggregate, with_parts
from nni_knas.benchmark.correlation import correlation_table, score_table
from nni_knas.benchmark.costs import cost
from nni_knas.benchmark.measuring import Measurement, measure
from nni_knas.benchmark.protocol import draw_candidates, search_table
from nni_knas.cli import main
from nni_knas.gradients import ScoringError
from nni_knas.scores import MGM, Score, get_score

NAN = float('nan')


def by_hand(parts, of_rank):
    """One architecture after the other: how many are worse, and half of those that are as good."""
    count = len(parts[0])
    result = []
    for i in range(count):
        ranks = []
        for values in parts:
            values = [-math.inf if not math.isfinite(value) else value for value in values]
            worse = sum(value < values[i] for value in values)
            ranks.append(worse + (sum(value == values[i] for value in values) + 1) / 2)
        result.append(sum(of_rank(rank / count) for rank in ranks))
    return result


numbers = st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(-1e9, 1e9), st.just(NAN))


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_values_are_sums_over_ranks(parts):
    known = np.isfinite(parts)
    for aggregate, of_rank in ((VKDNWAggregate(), math.log), (TeNas(), float)):
        values = aggregate.values([np.array(part) for part in parts])
        if not known.any(axis=1).all():
            assert np.isnan(values).all()
            continue
        for value, expected, any_known in zip(values, by_hand(parts, of_rank), known.any(axis=0)):
            assert value == pytest.approx(expected) if any_known else np.isnan(value)


@given(st.permutations(range(6)))
def test_the_best_of_all_parts_is_the_best(order):
    part = np.array(order, dtype=float)
    for aggregate in AGGREGATES.values():
        values = aggregate.values([part, 3 * part, np.exp(part)])
        assert values.argmax() == part.argmax() and values.argmin() == part.argmin()
        assert (np.argsort(values) == np.argsort(part)).all()


def test_a_single_bad_rank_weighs_more_in_az_nas_than_in_te_nas():
    parts = [
        np.array([4.0, 0, 2, 1, 3]),
        np.array([0.0, 4, 2, 1, 3]),
    ]  # the best and the worst; the third between
    of_logarithms, of_ranks = (AGGREGATES[name].values(parts) for name in ('az-nas', 'te-nas'))
    assert of_logarithms[0] < of_logarithms[2] and of_ranks[0] == pytest.approx(of_ranks[2])


def test_one_that_fails_in_a_part_is_ranked_last_there():
    values = find_score('az-nas').values([np.array([NAN, *range(1, 10)]), np.arange(10.0)])
    assert values[0] == pytest.approx(2 * math.log(1 / 10))


def test_names():
    for name, aggregate in AGGREGATES.items():
        assert find_score(name) is aggregate and isinstance(aggregate, Score)
        assert all(get_score(part).name == part for part in aggregate.parts)
    assert isinstance(find_score('mgm'), MGM)
    with pytest.raises(ValueError, match=r"unknown score 'az-na'.*, and the aggregates az-nas, te-nas, vkdnw-aggregate$"):
        find_score('az-na')


def test_one_network_has_no_rank():
    with pytest.raises(ScoringError, match='az-nas ranks candidates, and is no score of one network'):
        GradientKernelEvaluator((torch.randn(3, 4), torch.arange(3)), find_score('az-nas')).score(nn.Linear(4, 3))


def test_parts_are_asked_how_many_samples_they_need():
    with pytest.raises(ValueError, match='jacob-cov compares samples: batch_size is 1, take 2 or more'):
        find_score('vkdnw-aggregate').check(1)
    find_score('az-nas').check(1)


def test_each_part_once():
    scores = with_parts([get_score('vkdnw'), *AGGREGATES.values(), BASELINES[0]])
    names = [score.name for score in scores]
    assert names[0] == 'vkdnw' and names[-1] == 'parameters' and len(names) == len(set(names)) == 9


# On a benchmark.


@pytest.fixture(scope='module')
def measured():
    benchmark, cache = small_nats(10), ScoreCache(None)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([3, 1, 4, 1])
    measurements = [Measurement(benchmark, GradientKernelEvaluator(data, seed=seed), cache) for seed in (0, 1)]
    for each in measurements:
        measure(benchmark, each.kernel, list(benchmark.table.index), list(AGGREGATES.values()), cache)
    return measurements


@pytest.mark.parametrize('name', list(AGGREGATES))
def test_ranks_are_among_the_architectures_in_question(measured, name):
    aggregate, architectures = AGGREGATES[name], list(measured[0].benchmark.table.index)
    of_rank = float if name == 'te-nas' else math.log
    for some in (architectures, architectures[2:7]):
        parts = [measured[0].values(get_score(part), some) for part in aggregate.parts]
        assert measured[0].values(aggregate, some) == pytest.approx(by_hand(parts, of_rank))


def test_tables_have_them_like_scores(measured):
    architectures, scores = list(measured[0].benchmark.table.index), [*AGGREGATES.values(), get_score('az-expressivity')]
    table = correlation_table(measured, architectures, scores, ['one_test_acc'], 20).set_index('score')
    values = score_table(measured, architectures, scores, ['one_test_acc'])
    assert {f'{name}@{seed}' for name in AGGREGATES for seed in (0, 1)} < {*values.columns}
    for name in AGGREGATES:
        expected = [values[f'{name}@{seed}'].corr(values.one_test_acc, method='spearman') for seed in (0, 1)]
        assert table.spearman[name] == pytest.approx(np.mean(expected)) and table.failed[name] == 0
    draws = draw_candidates(architectures, 4, 3, 0)
    found = search_table(measured, draws, scores, ['one_test_acc'], [2])
    assert {*AGGREGATES} < {*found.score}


def test_where_a_part_does_not_apply_the_whole_does_not():
    benchmark, kernel, cache = tiny(6), tiny_kernel(), ScoreCache(None)
    architectures = list(benchmark.table.index)
    aggregate = type('Mixed', (Aggregate,), {'name': 'mixed', 'parts': ('snip', 'meco')})()
    measure(benchmark, kernel, architectures, [aggregate], cache)
    measurement = Measurement(benchmark, kernel, cache)
    assert np.isfinite(measurement.values(get_score('snip'), architectures)).all()
    assert np.isnan(measurement.values(aggregate, architectures)).all()
    assert measurement.reasons(aggregate, architectures) == ['NotApplicable: n/a: the network has no feature maps'] * 6


def test_costs_are_the_sum_of_the_parts():
    benchmark, kernel = tiny(2), tiny_kernel()
    aggregate = type('Mixed', (Aggregate,), {'name': 'mixed', 'parts': ('snip', 'mgm')})()
    other = type('Other', (Aggregate,), {'name': 'other', 'parts': ('snip', 'meco')})()
    scores = [aggregate, get_score('snip'), get_score('mgm'), other]
    table = cost(benchmark, kernel, list(benchmark.table.index), scores)
    assert list(table.index) == ['mixed', 'snip', 'mgm', 'other']
    for column in ('seconds', 'passes'):
        assert table[column]['mixed'] == pytest.approx(table[column]['snip'] + table[column]['mgm'])
        assert np.isnan(table[column]['other'])


def test_command(tmp_path, capsys):
    arguments = ['--benchmark', 'small_benchmarks:small_nats', '--image-size', '8', '--batch-size', '4', '--resamples', '20']
    arguments += ['--architectures', '5', '--metric', 'one_test_acc', '--output', str(tmp_path), '--cost-architectures', '1']
    assert main(['benchmark', *arguments, '--scores', 'az-nas,synflow']) == 0
    results = pd.read_csv(tmp_path / 'results.csv').set_index('score')
    assert {*results.index} == {'az-nas', 'synflow', 'parameters', 'flops', 'layers'}
    assert results.failed['az-nas'] == 0 and results.seconds['az-nas'] > 0
    assert 'az-nas' in capsys.readouterr().out


def test_command_on_networks_that_a_score_does_not_apply_to(tmp_path, capsys):
    arguments = [
        '--benchmark',
        'small_benchmarks:tiny',
        '--data',
        'small_benchmarks:vectors_data',
        '--output',
        str(tmp_path),
    ]
    arguments += ['--architectures', '5', '--cost-architectures', '0', '--resamples', '20']
    assert main(['benchmark', *arguments, '--scores', 'meco,snip']) == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith('meco  ')]
    assert line.split()[1:3] == ['n/a', 'n/a'] and line.split()[-1] == '5'
    assert 'meco is n/a: the network has no feature maps' in text
