"""Searches on tables: what is drawn, trained and ranked, and what is said of it over all tasks."""

from __future__ import annotations

import dataclasses
import json

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from public_tables import TABLES
from search_tables import pool
from small_benchmarks import faulty, small_nats, tiny
from spaces import tiny_kernel

from nni_knas.basics.names import PANEL
from nni_knas.benchmark import (
    Benchmark,
    Measurement,
    Plan,
    Pool,
    ScoreCache,
    Task,
    Traces,
    encode,
    have_matplotlib,
    load_benchmark,
    measure,
    overall_table,
    panel_scores,
    panel_table,
    plot_searches,
    pool_size,
    search_all,
    search_protocol,
    task_table,
    verdict,
)
from nni_knas.benchmark.search_protocol import run
from nni_knas.benchmark.searches import Candidates, Search
from nni_knas.scores import get_score

TASK = Task('made', 'by_choices')


def plan(**others) -> Plan:
    return Plan(**({'top_k': (2, 4), 'candidates': 100, 'repeats': 3, 'searches': ('random', 'robot')} | others))


class InOrder(Search):
    """Writes down what it is told."""

    name = 'in order'

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.seen: list[list[int]] = []

    def choose(self) -> int:
        self.seen.append(list(self.told))
        return int(np.flatnonzero(self.free)[0])


class TestRun:
    @pytest.mark.parametrize('concurrency, known', [(1, [0, 1, 2, 3, 4, 5]), (4, [0, 0, 0, 0, 1, 2]), (9, [0] * 6)])
    def test_what_is_known_when_one_is_asked(self, concurrency, known):
        search = InOrder(Candidates(pd.DataFrame({'score': np.zeros(8)}), np.zeros((8, 1))), 6, 0)
        assert run(search, np.arange(8.0), 6, concurrency) == list(range(6))
        assert search.seen == [list(range(n)) for n in known]


class TestSearchAll:
    def test_by_hand(self):
        made, asked = pool(), plan(searches=())
        traces = search_all({'made': made}, asked)
        assert list(traces) == [TASK, Task('made', 'by_statistics')]
        for repeat, places in enumerate(made.draws(asked)):
            assert len(set(places)) == len(places) == 100 == traces[TASK].candidates
            score, metric = made.panels[0].score.to_numpy()[places], made.metrics.by_choices.to_numpy()[places]
            best = [metric[np.argsort(-score)[:k]].max() for k in range(1, 5)]
            np.testing.assert_array_equal(traces[TASK].best['rank'][repeat], best)
            ranks = [1 + (metric > value).sum() for value in best]
            np.testing.assert_array_equal(traces[TASK].ranks['rank'][repeat], ranks)
            lowest = metric[np.argsort(made.panels[0].flops.to_numpy()[places])[:4]].max()
            assert traces[TASK].best['least flops'][repeat, -1] == lowest
        assert (pool_size(1000), pool_size(100), pool_size(1)) == (1250, 125, 1)

    def test_draws_differ_and_are_a_part_of_few(self):
        draws = pool(50).draws(plan())
        assert [len(draw) for draw in draws] == [40] * 3 and len({tuple(sorted(draw)) for draw in draws}) == 3

    def test_a_seed_is_a_measurement_and_processes_change_nothing(self, monkeypatch):
        def spread(function, work, processes):
            """What processes do: the function travels, and what is begun first need not end first."""
            yield from map(cloudpickle.loads(cloudpickle.dumps(function)), reversed(work))

        monkeypatch.setattr(search_protocol, 'spread', spread)
        pools, every = {'made': pool(50), 'other': pool(60, 1)}, plan(searches=('learn', 'robot', 'random'))
        first, there, other = (
            search_all(pools, every),
            search_all(pools, every, 2),
            search_all(pools, every._replace(seed=1)),
        )
        for task, traces in first.items():
            for name, best in traces.best.items():
                np.testing.assert_array_equal(best, there[task].best[name])
                np.testing.assert_array_equal(traces.ranks[name], there[task].ranks[name])
        assert not np.array_equal(first[TASK].best['random'], other[TASK].best['random'])

    def test_a_search_that_depends_on_the_budget(self):
        """It has a run for each, and nothing is said of what lies between."""
        together = search_all({'made': pool()}, plan())[TASK].best['robot']
        alone = search_all({'made': pool()}, plan(top_k=(2,)))[TASK].best['robot']
        assert np.isnan(together[:, [0, 2]]).all() and np.isfinite(together[:, [1, 3]]).all()
        np.testing.assert_array_equal(together[:, 1], alone[:, -1])

    def test_fewer_candidates_than_trainings(self):
        traces = search_all({'made': pool(4)}, plan(top_k=(2, 40)))
        table = task_table(traces, (2, 40))
        assert traces[TASK].candidates == 3
        assert (table[table.k == 40]['rank'] == 1).all()

    def test_each_seed_has_its_own_panel(self):
        one, other = pool(), pool(seed=5)
        both = dataclasses.replace(one, panels=[one.panels[0], other.panels[0]], others=one.others * 2)
        mixed, alone = (search_all({'made': each}, plan(searches=()))[TASK].best['layers'] for each in (both, one))
        np.testing.assert_array_equal(mixed[::2], alone[::2])
        assert not np.array_equal(mixed[1], alone[1])


def traces_of(**ranks: list[float]) -> Traces:
    """Of ten candidates and one training, a rank a repeat."""
    found = {name: np.array(each, float)[:, None] for name, each in ranks.items()}
    return Traces(10, {name: 100 - each for name, each in found.items()}, found)


TRACES = {
    Task('a', 'x'): traces_of(learn=[1, 2, 1, 2], rank=[2, 1, 2, 1], units=[4, 4, 4, 4], random=[9, 9, 8, 9]),
    Task('b', 'y'): traces_of(learn=[1, 1, 1, 1], rank=[9, 9, 9, 9], units=[5, 5, 5, 5], random=[1, 9, 9, 9]),
}


class TestTables:
    def test_tasks(self):
        table = task_table(TRACES, [1], 200).set_index(['benchmark', 'search'])
        row = table.loc[('a', 'learn')]
        assert (row['rank'], row.percentile, row.metric_mean, row.candidates) == (1.5, 15, 98.5, 10)
        assert row.percentile_low <= 15 <= row.percentile_high
        assert (table.loc[('a', 'rank')].behind, table.loc[('b', 'rank')].behind) == (0, 80)
        assert table.loc['a']['first'].to_dict() == {'learn': 1, 'rank': 1, 'units': 0, 'random': 0}
        assert table.loc['b']['first'].to_dict() == {'learn': 1, 'rank': 0, 'units': 0, 'random': 0}
        assert table.kind.to_dict()['a', 'units'] == 'statistic'

    def test_overall(self):
        table = overall_table(TRACES, [1], 200).set_index('search')
        assert list(table.index) == ['learn', 'units', 'rank', 'random']
        assert table.percentile.to_dict() == {'learn': 12.5, 'units': 45, 'rank': 52.5, 'random': 78.75}
        assert (table.worst['rank'], table.worst_on['rank'], table['first']['learn']) == (90, 'b y', 2)
        assert table.best_fixed.to_dict() == {'learn': False, 'units': True, 'rank': False, 'random': False}

    def test_single_statistics_are_not_compared(self):
        """But for the one that is the best fixed choice: the best of all in each task would be chosen afterwards."""
        traces = {
            Task('a', 'x'): traces_of(learn=[5] * 4, rank=[6] * 4, units=[9] * 4, weights=[7] * 4),
            Task('b', 'y'): traces_of(learn=[5] * 4, rank=[6] * 4, units=[1] * 4, weights=[1] * 4),
        }
        table = task_table(traces, [1]).set_index(['benchmark', 'search'])
        assert np.isnan(table.loc[('b', 'units')]['first']) and table.loc[('b', 'weights')]['first'] == 1
        assert table.loc[('a', 'learn')]['first'] == 1

    def test_verdict(self):
        def said(traces):
            return verdict(overall_table(traces, [1]), task_table(traces, [1]), 1)

        sentence = said(TRACES)
        assert 'learn has a mean percentile of 12.50; the best fixed choice, units, has 45.00' in sentence
        assert 'a third of which is 15.00: learn is within it (10.00 is' in sentence and 'in 2 of 2 tasks.' in sentence
        assert 'ahead of rank in 1, and behind it in 0.' in sentence
        sentence = said(
            {TASK: traces_of(learn=[2, 3] * 2, rank=[1] * 4), Task('b', 'y'): traces_of(learn=[1] * 4, rank=[1] * 4)}
        )
        assert 'learn is above it' in sentence and 'in 1 of 2 tasks, not in made by_choices.' in sentence
        assert 'ahead of rank in 0, and behind it in 1: made by_choices.' in sentence
        assert said({TASK: traces_of(rank=[1, 2], random=[3, 4])}) == ''

    def test_to_rank(self):
        table = task_table(TRACES, [1]).set_index(['benchmark', 'search'])
        assert table.to_rank['b', 'learn'] == table.to_rank_high['b', 'learn'] == -80
        assert table.to_rank_low['a', 'learn'] < table.to_rank['a', 'learn'] == 0 < table.to_rank_high['a', 'learn']

    @pytest.mark.skipif(not have_matplotlib(), reason='needs matplotlib')
    def test_plots(self, tmp_path):
        paths = plot_searches(TRACES, ['learn', 'rank'], tmp_path)
        assert {path.name for path in paths} == {
            f'search-{kind}.{end}' for kind in ('percentile', 'metric') for end in ('png', 'svg')
        }
        assert paths[0].read_bytes()[:4] == b'\x89PNG' and '<svg' in paths[1].read_text()


class TestPanel:
    def test_what_the_kernel_says(self):
        benchmark, kernel, cache = tiny(3), tiny_kernel(seed=2), ScoreCache(None)
        names = list(benchmark.table.index)
        measure(benchmark, kernel, names, list(panel_scores(16).values()), cache)
        panel = panel_table(Measurement(benchmark, kernel, cache), names)
        assert list(panel) == [*PANEL, 'score', 'parameters', 'flops']
        network = benchmark.network(names[1], 2)
        assert panel.iloc[1][list(PANEL)].to_dict() == pytest.approx(kernel.statistics(network))
        with kernel.gradients(network) as gradients:
            assert panel.score.iloc[1] == pytest.approx(get_score()(gradients))

    def test_one_pass(self, monkeypatch):
        passes = []
        benchmark, kernel = tiny(2), tiny_kernel()
        original = type(kernel).gradients
        monkeypatch.setattr(type(kernel), 'gradients', lambda *given: passes.append(1) or original(*given))
        measure(benchmark, kernel, list(benchmark.table.index), list(panel_scores(16).values()), ScoreCache(None))
        assert len(passes) == 2

    def test_failures_are_missing(self):
        benchmark, kernel, cache = faulty(), tiny_kernel(), ScoreCache(None)
        names = list(benchmark.table.index)
        measure(benchmark, kernel, names, list(panel_scores(16).values()), cache)
        panel = panel_table(Measurement(benchmark, kernel, cache), names)
        missing = panel.score.isna()
        assert 0 < missing.sum() < len(names)
        found = search_all(
            {'faulty': Pool([panel], [panel[[]]], encode(benchmark, names), benchmark.table)}, Plan((2,), 9, 2)
        )
        [traces] = found.values()
        assert all(np.isfinite(each[:, -1]).all() for each in traces.best.values())


class TestTasks:
    @pytest.mark.parametrize(
        'columns, tasks',
        [
            (['valid_acc', 'test_acc', 'valtest_acc'], ['test_acc']),
            (['one_acc', 'two_acc', 'epochs'], ['one_acc', 'two_acc']),
            (['a_test', 'b'], ['a_test']),
        ],
    )
    def test_by_name(self, columns, tasks):
        benchmark = Benchmark('made', pd.DataFrame(1.0, ['x'], columns), lambda *_: None)
        assert benchmark.searched == tasks

    def test_of_the_public_spaces(self, tmp_path):
        (tmp_path / 'table.csv').write_text('\n'.join(TABLES['flexibert']))
        assert load_benchmark('flexibert', table=tmp_path / 'table.csv').searched == ['cola']  # glue is a mean


class TestEncoding:
    def encoded(self, *architectures: str, choices=None) -> list[list[int]]:
        table = pd.DataFrame({'acc': np.arange(len(architectures))}, index=list(architectures))
        return encode(Benchmark('made', table, lambda *_: None, choices=choices), architectures).tolist()

    def test_of_samples(self):
        samples = [{'a': 2, 'b': [0, 1], 'same': 1}, {'b': [1], 'a': 10, 'same': 1}]
        assert self.encoded(*map(json.dumps, samples)) == [[1, 0], [0, 1]]

    def test_of_words(self):
        assert self.encoded('x~0|+|y~1', 'x~1|+|y~1', 'z~1|+|z~1') == [[0, 0, 0], [0, 1, 0], [1, 1, 1]]

    def test_parts_of_different_lengths(self):
        """What stands after a part that is shorter is in the same place all the same."""
        assert self.encoded('2|a;b|5', '1|a|5', '1|a;b|6') == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]

    def test_the_benchmark_knows_better(self):
        assert self.encoded('ab', 'bb', choices=list) == [[0], [1]]

    def test_nothing_to_choose(self):
        assert self.encoded('a', 'a-', choices=lambda _: ['x']) == [[], []]

    def test_nats(self):
        assert encode(small_nats(10), list(small_nats(10).table.index)).shape == (10, 6)

    @pytest.mark.parametrize('name', TABLES)
    def test_of_the_public_spaces(self, name, tmp_path):
        """Each architecture is told from all others."""
        (tmp_path / 'table.csv').write_text('\n'.join(TABLES[name]))
        benchmark = load_benchmark(name, table=tmp_path / 'table.csv')
        codes = encode(benchmark, list(benchmark.table.index))
        assert len(np.unique(codes, axis=0)) == len(benchmark.table) and (codes.max(axis=0) > 0).all()
