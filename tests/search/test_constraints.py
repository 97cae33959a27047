"""Constraints on costs: candidates that break one are not scored, do not use up the budget, and change nothing else."""

from __future__ import annotations

import math
import random

import nni
import pandas as pd
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import SimplifiedModelSpace
from nni.nas.strategy import TPE, GridSearch, Random, RegularizedEvolution
from placements import Shuffled
from spaces import FaultySpace, LoggedMGM, TinySpace, lines, tiny_kernel, train
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.engine import InProcess, Scorer, ScoringEngine, Verdict, Workers
from nni_knas.gradients import seeded
from nni_knas.networks.candidates import hyper_parameters_of
from nni_knas.networks.costs import COSTS, measure
from nni_knas.record import Record
from nni_knas.search.coarse import CoarseStage
from nni_knas.search.explorers import Checkpoints, explorer_state, learns, no_pauses, restore_explorer

SIZES = {4: 43, 8: 83, 16: 163}
"""Parameters of TinySpace's networks, by width."""


class Wide(ModelSpace):
    """A space of many candidates of different sizes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            LayerChoice(
                {
                    **{f'linear {i}': nn.Linear(6, 6, bias=i % 2 == 0) for i in range(4)},
                    'tanh': nn.Tanh(),
                    'relu': nn.ReLU(),
                },
                label=f'layer{k}',
            )
            for k in range(5)
        )
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def engine_of(
    space,
    record,
    candidates,
    placement,
    explorer=None,
    *,
    kernel=None,
    quick=False,
    merge=False,
    ahead=8,
    constraints=None,
    costs=(),
    patience=500,
):
    scorer = Scorer(
        kernel or tiny_kernel(),
        space,
        hyper_parameters_of(space),
        merge_identical=merge,
        constraints=constraints,
        costs=costs,
    )
    engine = ScoringEngine(scorer, record, candidates, placement, ahead=ahead, quick=quick)
    engine.patience = patience
    engine.elastic = explorer is not None and not learns(explorer)
    return engine


def explore(explorer, space=None, record=None, candidates=12, placement=None, **options):
    """As the coarse stage does it: with checkpoints, and from the explorer's first state."""
    space = SimplifiedModelSpace.from_model(space or TinySpace()) if not hasattr(space, 'evaluator') else space
    record = record if record is not None else Record(None)
    engine = engine_of(space, record, candidates, placement or InProcess(), explorer, **options)
    if not engine.budget_available():
        return record
    with seeded(0), no_pauses(), engine.opened(SequentialExecutionEngine()):
        explorer.initialize(space, engine)
        before = record.get_meta('explorer')
        if before is not None:
            restore_explorer(explorer, before)
        else:
            record.set_meta('explorer', explorer_state(explorer))
        checkpoints = Checkpoints(explorer, engine, record)
        checkpoints.restore()
        engine.after_submission = checkpoints
        explorer.run()
        engine.wait_models()
    return record


def table(record, *without):
    frame = record.frame().sort_values('candidate').drop(columns=['seconds', *without])
    return frame.astype({'architecture': str}).reset_index(drop=True)


EXPLORERS = {
    'random': lambda: Random(dedup=False, seed=3),
    'random without duplicates': lambda: Random(seed=3),
    'evolution': lambda: RegularizedEvolution(population_size=8, sample_size=4, mutation_prob=0.4, dedup=False, seed=3),
    'evolution without duplicates': lambda: RegularizedEvolution(population_size=8, sample_size=4, seed=3),
    'grid': lambda: GridSearch(seed=3),
}


class TestSearch:
    @pytest.mark.parametrize('name', EXPLORERS)
    def test_only_candidates_that_keep_to_the_constraints_are_scored_and_counted(self, name, tmp_path):
        log = tmp_path / 'scored'
        record = explore(EXPLORERS[name](), constraints={'parameters': 100}, kernel=tiny_kernel(score=LoggedMGM(str(log))))
        rows = record.explored()
        assert record.count('scored') == record.counted() == len(lines(log)) == 12 and record.count('filtered') >= 2
        for row in rows:
            size = SIZES[row.sample['width']]
            assert row.costs == {'parameters': size}
            assert row.status == ('scored' if size <= 100 else 'filtered')
            assert row.reason == (None if size <= 100 else 'parameters 163 is above 100')
            assert (row.score is None) == (size > 100)
        assert [row.id for row in rows] == list(range(1, len(rows) + 1))

    def test_the_rest_of_the_scores_is_what_it_would_be_without(self):
        explored = {}
        for constraints in (None, {'parameters': 100}):
            record = explore(Random(dedup=False, seed=3), candidates=27, constraints=constraints)
            explored[constraints is None] = {str(row.sample): row.score for row in record.explored()}
        assert len(explored[True]) == len(explored[False]) == 27
        differ = [sample for sample, score in explored[False].items() if explored[True][sample] != score]
        assert len(differ) == 9 and all("'width': 16" in sample for sample in differ)

    @pytest.mark.usefixtures('forked_workers')
    @pytest.mark.parametrize('name', ['random', 'evolution'])
    def test_candidates_and_scores_do_not_depend_on_the_placement(self, name):
        here = explore(EXPLORERS[name](), Wide(), candidates=25, constraints={'parameters': 120}, costs=['flops'])
        assert here.count('scored') == 25 and here.count('filtered') > 5
        frame = table(here)
        assert frame.flops.notna().tolist() == (frame.status == 'scored').tolist()
        for placement in (Workers(2), Shuffled):
            if placement is Shuffled:
                placement = shuffled(Wide(), {'parameters': 120}, 5)
            there = explore(
                EXPLORERS[name](),
                Wide(),
                candidates=25,
                constraints={'parameters': 120},
                costs=['flops'],
                placement=placement,
            )
            pd.testing.assert_frame_equal(frame, table(there), check_exact=True)

    def test_with_a_tuner(self):
        tables = []
        for placement in (InProcess(), shuffled(TinySpace(), {'parameters': 100}, 1)):
            with seeded(5):
                record = explore(TPE(seed=1), constraints={'parameters': 100}, placement=placement)
            assert record.count('scored') == 12
            tables.append(table(record))
        pd.testing.assert_frame_equal(*tables, check_exact=True)

    def test_failed_candidates_count(self):
        record = explore(Random(seed=1), FaultySpace(), candidates=9, constraints={'parameters': 1000})
        assert len(record) == record.counted() == 9 and 0 < record.count('failed') < 9
        assert {row.costs['parameters'] for row in record.explored() if row.status == 'failed'} == {63}

    def test_without_constraints_nothing_is_measured(self, monkeypatch):
        monkeypatch.setattr('nni_knas.engine.scorer.measure', None)
        record = explore(Random(seed=1))
        assert len(record) == 12 and record.frame()[list(COSTS)].isna().all(axis=None)

    def test_costs_without_bounds(self):
        record = explore(Random(seed=1), costs=['latency', 'parameters'])
        frame = record.frame()
        assert record.count('scored') == len(record) == 12
        assert set(frame.parameters) <= set(SIZES.values()) and (frame.latency > 0).all() and frame.flops.isna().all()


def shuffled(space, constraints, seed):
    """A placement whose verdicts come in an order of its own."""

    class Placement(Shuffled):
        ahead = 1 + 7 * seed

        def start(self, scorer, engine):
            self.scorer = scorer

        def get(self):
            left = math.inf if self.dies_at is None else self.dies_at - len(self.scored)
            if left <= 0:
                raise KeyboardInterrupt
            self.random.shuffle(self.tasks)
            taken = [self.tasks.pop() for _ in range(min(len(self.tasks), self.random.randint(1, 3), left))]
            self.scored += [task.number for task in taken]
            return [(task, self.scorer.score(task.sample, task.quick, task.measured)) for task in taken]

    return Placement(seed)


class TestEnd:
    @pytest.mark.parametrize('name', EXPLORERS)
    def test_a_space_without_such_candidates(self, name):
        record = explore(EXPLORERS[name](), constraints={'parameters': 1})
        assert record.counted() == 0 and 20 <= record.count('filtered') <= 27
        assert record.best(5) == []
        assert record.frequent_reason('filtered')[0].endswith('is above 1')

    @pytest.mark.parametrize('name', ['random', 'evolution'])
    def test_patience(self, name):
        """It ends at the same candidate however far ahead a placement lets the explorer be."""
        tables = []
        for placement in (InProcess(), shuffled(Wide(), {}, 3), shuffled(Wide(), {}, 11)):
            record = explore(EXPLORERS[name](), Wide(), constraints={'parameters': 1}, placement=placement, patience=40)
            tables.append(table(record))
        assert len(tables[0]) == 40 + 7 and set(tables[0].status) == {'filtered'}
        for other in tables[1:]:
            pd.testing.assert_frame_equal(tables[0], other)

    def test_fewer_candidates_than_asked_for(self):
        record = explore(Random(dedup=False, seed=3), candidates=20, constraints={'parameters': 100})
        assert record.count('scored') == 18 and len(record) == 27

    def test_a_run_that_is_complete_is_not_gone_through_again(self):
        record = explore(Random(seed=3), constraints={'parameters': 100})
        engine = engine_of(
            SimplifiedModelSpace.from_model(TinySpace()), record, 12, InProcess(), constraints={'parameters': 100}
        )
        assert not engine.budget_available()

    def test_time_that_is_over(self):
        record = Record(None)
        space = SimplifiedModelSpace.from_model(TinySpace())
        engine = engine_of(space, record, 2, Shuffled(), constraints={'parameters': 100})
        engine.submit_models(*[space.freeze({'width': 16, 'inner': 'relu', 'outer': outer}) for outer in ('relu', 'tanh')])
        engine.deadline = float('-inf')
        assert not engine.budget_available() and len(record) == 0


class TestBudget:
    def test_looks_used_up_until_results_are_reported(self):
        """One by one, no more than it takes."""
        space, record = SimplifiedModelSpace.from_model(TinySpace()), Record(None)

        class Made(Shuffled):
            def get(self):
                return [
                    (
                        task,
                        Verdict(None, 'too large', 0.1, {'parameters': 9.0}, True)
                        if task.number in (2, 3)
                        else Verdict(1.0, None, 0.1),
                    )
                    for task in [self.tasks.pop(0)]
                ]

        engine = engine_of(space, record, 4, Made(), constraints={'parameters': 5})
        models = {str(model.sample): dict(model.sample) for model in space.grid()}
        models = [space.freeze(sample) for sample in list(models.values())[:6]]
        engine.submit_models(*models[:4])
        assert engine.budget_available() and [model.status.completed() for model in models[:4]] == [True] * 2 + [False] * 2
        engine.submit_models(models[4])
        assert engine.budget_available() and [model.status.completed() for model in models[:4]] == [True] * 3 + [False]
        engine.submit_models(models[5])
        assert not engine.budget_available()
        engine.wait_models()
        assert record.counted() == 4 and record.count('filtered') == 2

    def test_candidates_outside_of_the_space_do_not_count(self):
        record = explore(Random(seed=3))
        record.exclude([1, 2, 5])
        explore(Random(seed=4), record=record)
        assert record.counted() == 12 and record.count('outside') == 3 and len(record) == 15

    @pytest.mark.parametrize('constraints', [None, {'parameters': 200}])
    def test_another_exploration_of_the_same_record_counts_what_is_there(self, constraints):
        record = explore(Random(seed=3), Wide(), candidates=9, constraints=constraints)
        CoarseStage.forget_exploration(record)
        record.set_meta('explorer', explorer_state(Random(seed=77)))
        explore(Random(seed=77), Wide(), record=record, candidates=10, constraints=constraints)
        assert record.counted() == 10

    @pytest.mark.parametrize('name', EXPLORERS)
    def test_more_candidates_than_at_first(self, name):
        """An explorer that had learnt results early, when the budget was small, takes another way."""
        record = Record(None)
        for candidates in (10, 20, 21):
            explore(EXPLORERS[name](), Wide(), record=record, candidates=candidates, constraints={'parameters': 120})
            assert record.counted() == candidates


@pytest.mark.usefixtures('frequent_checkpoints')
class TestResume:
    @pytest.mark.parametrize('checkpoints', [True, False])
    @pytest.mark.parametrize('name', EXPLORERS)
    def test_as_if_nothing_had_happened(self, name, checkpoints, tmp_path, monkeypatch):
        if not checkpoints:
            monkeypatch.setattr(Checkpoints, '__call__', lambda self: None)
        options = dict(space=Wide(), candidates=30, constraints={'parameters': 150}, kernel=tiny_kernel(batch_size=4))
        whole = explore(EXPLORERS[name](), placement=shuffled(Wide(), {}, 1), **options)
        assert whole.count('scored') == 30 and whole.count('filtered') > 8
        total = len(whole)
        for i, stop in enumerate((3, total // 4, total // 5, 2, 1)):
            placement = shuffled(Wide(), {}, i)
            placement.dies_at = stop
            with pytest.raises(KeyboardInterrupt):
                explore(EXPLORERS[name](), record=Record(tmp_path / 'parts'), placement=placement, **options)
        before = {row.id for row in Record(tmp_path / 'parts').explored()}
        placement = shuffled(Wide(), {}, 9)
        parts = explore(EXPLORERS[name](), record=Record(tmp_path / 'parts'), placement=placement, **options)
        assert not before & set(placement.scored) and len(before) > total // 3
        pd.testing.assert_frame_equal(table(parts), table(whole), check_exact=True)

    @pytest.mark.parametrize('name', ['random', 'evolution'])
    def test_patience_holds_over_restarts(self, name, tmp_path):
        options = dict(space=Wide(), constraints={'parameters': 1}, patience=40)
        whole = explore(EXPLORERS[name](), **options)
        placement = shuffled(Wide(), {}, 1)
        placement.dies_at = 30
        with pytest.raises(KeyboardInterrupt):
            explore(EXPLORERS[name](), record=Record(tmp_path / 'parts'), placement=placement, **options)
        parts = explore(EXPLORERS[name](), record=Record(tmp_path / 'parts'), **options)
        pd.testing.assert_frame_equal(table(parts), table(whole))

    @pytest.fixture(scope='class')
    def whole(self):
        return explore(self.learning(), **self.options())

    @pytest.fixture(scope='class')
    def scored(self):
        """How many candidates are given to be scored; others share the score of one of these."""
        placement = shuffled(Wide(), {}, 1)
        explore(self.learning(), placement=placement, **self.options())
        return len(placement.scored)

    @staticmethod
    def learning():
        return RegularizedEvolution(population_size=8, sample_size=4, mutation_prob=0.4, dedup=False, seed=3)

    @staticmethod
    def options():
        return dict(space=Wide(), candidates=20, constraints={'parameters': 120}, kernel=tiny_kernel(batch_size=4))

    @pytest.mark.parametrize('last', range(1, 14))
    def test_close_to_the_end(self, last, whole, scored, tmp_path):
        """Where the budget looks used up, and results are reported early, an explorer that learns learns the same again."""
        placement = shuffled(Wide(), {}, 1)
        placement.dies_at = scored - last
        with pytest.raises(KeyboardInterrupt):
            explore(self.learning(), record=Record(tmp_path / 'parts'), placement=placement, **self.options())
        parts = explore(self.learning(), record=Record(tmp_path / 'parts'), **self.options())
        pd.testing.assert_frame_equal(table(parts), table(whole), check_exact=True)


class TestTwins:
    def test_that_differ_in_the_evaluator_alone_are_measured_once(self, monkeypatch):
        calls = []

        def noted(*arguments):
            calls.append(arguments)
            return measure(*arguments)

        monkeypatch.setattr('nni_knas.engine.scorer.measure', noted)
        evaluator = FunctionalEvaluator(train, learning_rate=nni.choice('learning_rate', [0.1, 0.2, 0.3]))
        space, record = SimplifiedModelSpace.from_model(TinySpace(), evaluator), Record(None)
        engine = engine_of(space, record, 9, InProcess(), constraints={'parameters': 100})
        with engine.opened(SequentialExecutionEngine()):
            for width in (4, 16):
                for rate in (0.1, 0.2, 0.3):
                    engine.submit_models(
                        space.freeze({'width': width, 'inner': 'relu', 'outer': 'relu', 'learning_rate': rate})
                    )
            engine.wait_models()
        assert len(calls) == 2
        assert [row.status for row in record.explored()] == ['scored'] * 3 + ['filtered'] * 3
        assert [row.costs['parameters'] for row in record.explored()] == [43] * 3 + [163] * 3

    def test_that_compute_the_same_at_different_costs_are_told_apart(self):
        class Dead(nn.Module):
            """A layer of which nothing comes out."""

            def __init__(self, width):
                super().__init__()
                self.layer = nn.Linear(6, width)

            def forward(self, x):
                self.layer(x)
                return x

        class Space(ModelSpace):
            def __init__(self):
                super().__init__()
                self.first = LayerChoice({'a': Dead(3), 'b': Dead(3), 'c': Dead(300)}, label='first')
                self.last = nn.Linear(6, 3)

            def forward(self, x):
                return self.last(self.first(x))

        space, alike = SimplifiedModelSpace.from_model(Space()), []
        for options in ({}, {'constraints': {'parameters': 100}}, {'costs': ['latency']}):
            identity = Scorer(tiny_kernel(), space, merge_identical=True, **options).identity
            alike.append(identity({'first': 'a'}) == identity({'first': 'c'}))
            assert identity({'first': 'a'}) == identity({'first': 'b'})
        assert alike == [True, False, True]
        record = explore(GridSearch(shuffle=False), space, candidates=3, merge=True, constraints={'parameters': 100})
        assert {row.sample['first']: row.status for row in record.explored()} == {
            'a': 'scored',
            'b': 'scored',
            'c': 'filtered',
        }


class TestAdaptive:
    def test_costs_are_measured_once(self, tmp_path):
        """In the quick pass, and on the sample as it is, not on one that was made smaller."""
        images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))

        class Images(ModelSpace):
            def __init__(self):
                super().__init__()
                self.first = LayerChoice(
                    {
                        str(width): nn.Sequential(
                            nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)
                        )
                        for width in range(1, 31)
                    },
                    label='width',
                )

            def forward(self, x):
                return self.first(x)

        kernel = GradientKernelEvaluator((images, torch.arange(8) % 3), batch_size=8, device='cpu')
        tasks = []

        class Noting(InProcess):
            def put(self, task):
                tasks.append(task)
                super().put(task)

        space, record = SimplifiedModelSpace.from_model(Images()), Record(None)
        explorer = GridSearch(seed=1)
        engine = engine_of(
            space,
            record,
            20,
            Noting(),
            explorer,
            kernel=kernel,
            quick=True,
            constraints={'parameters': 28 * 20 + 4 * 20},
            costs=['flops'],
        )
        with engine.opened(SequentialExecutionEngine()):
            explorer.initialize(space, engine)
            explorer.run()
            engine.wait_models()
            engine.finish(2)
        assert record.count('filtered') > 0 and record.count('screened', 'scored') == 20
        assert record.count('scored') >= 2
        for row in record.explored():
            width = int(row.sample['width'])
            assert (row.status == 'filtered') == (width > 20) == (row.quick is None) == ('flops' not in row.costs)
            if row.status != 'filtered':
                assert row.costs['flops'] == 2 * (27 * width * 30 * 30 + 3 * width)
        finished = {task.number for task in tasks if not task.quick}
        assert finished == {row.id for row in record.explored() if row.score is not None}
        assert all(task.measured != task.quick for task in tasks)

    def test_measured_candidates_are_not_measured_again(self, monkeypatch):
        scorer = Scorer(tiny_kernel(), SimplifiedModelSpace.from_model(TinySpace()), constraints={'parameters': 1})
        sample = {'width': 4, 'inner': 'relu', 'outer': 'relu'}
        assert scorer.score(sample).filtered
        verdict = scorer.score(sample, measured=True)
        assert verdict.score == scorer.kernel.score(scorer.build(sample)) and verdict.costs == {}


def test_random_explorations_are_prefixes_of_one_another():
    """What is explored does not depend on how far ahead an explorer is that does not learn."""
    tables = [
        table(
            explore(
                Random(dedup=False, seed=3),
                Wide(),
                candidates=15,
                constraints={'parameters': 120},
                ahead=ahead,
                placement=shuffled(Wide(), {}, random.Random(ahead).randint(1, 9)),
            )
        )
        for ahead in (1, 4, 30)
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, check_exact=True)
