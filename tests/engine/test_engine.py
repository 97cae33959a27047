"""The scoring engine: order of results, window, budget, duplicates, checkpoints, against placements that tell all."""

from __future__ import annotations

import math

import nni
import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.execution.event import ModelEventType
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from nni.nas.strategy import GridSearch, Random, RegularizedEvolution
from nni.nas.strategy.utils import _to_hashable
from placements import Shuffled, judge
from spaces import Digits, TinySpace, tiny_kernel, train

from nni_knas import KNAS
from nni_knas.engine import InProcess, Scorer, ScoringEngine
from nni_knas.networks.candidates import hyper_parameters_of
from nni_knas.record import Record
from nni_knas.search.explorers import Checkpoints, space_size


def simplified(space=None, evaluator=None):
    return SimplifiedModelSpace.from_model(space or TinySpace(), evaluator)


def engine_of(placement, space=None, candidates=20, record=None, **options):
    space = space or simplified()
    record = record if record is not None else Record(None)
    return ScoringEngine(Scorer(tiny_kernel(), space, hyper_parameters_of(space)), record, candidates, placement, **options)


def listen(engine):
    """Samples and scores in the order in which they are told."""
    told = []
    engine.register_model_event_callback(ModelEventType.FinalMetric, lambda event: told.append([event.model, event.metric]))
    engine.register_model_event_callback(ModelEventType.TrainingEnd, lambda event: told.append([event.model, event.status]))
    return told


def grid(space, count):
    models = {str(model.sample): dict(model.sample) for model in space.grid()}
    return [space.freeze(sample) for sample in list(models.values())[:count]]


def table(record):
    return [(c.id, c.sample, c.score, c.status, c.reason) for c in record.explored()]


class TestOrder:
    @pytest.mark.parametrize('ahead', [1, 2, 7, 50])
    def test_results_are_told_in_the_order_of_submission(self, ahead):
        space = simplified()
        engine = engine_of(Shuffled(), space, ahead=ahead)
        told, known = listen(engine), []
        models = grid(space, 20)
        for model in models:
            known.append(len({id(each) for each, _ in told}))
            engine.submit_models(model)
        assert known == [max(0, j - ahead) for j in range(1, 21)]
        engine.wait_models()
        ended = [each for each, what in told if isinstance(what, ModelStatus)]
        assert [id(each) for each in ended] == [id(each) for each in models]
        for model in models:
            assert model.metric == judge(model.sample).score
            assert model.status == (ModelStatus.Trained if model.metric is not None else ModelStatus.Failed)

    def test_known_ones_wait_for_their_turn(self):
        space = simplified()
        models = grid(space, 8)
        record = Record(None)
        engine_of(Shuffled(), space, record=record, ahead=1).submit_models(*models[4:])
        engine = engine_of(Shuffled(), space, record=record, ahead=6)
        told = listen(engine)
        engine.submit_models(*grid(space, 8)[:5])
        assert told == []
        engine.wait_models()
        assert [model.sample for model, what in told if isinstance(what, ModelStatus)] == [m.sample for m in models[:5]]

    def test_waiting_for_one_model_tells_no_more_than_that(self):
        space = simplified()
        engine = engine_of(Shuffled(), space, ahead=10)
        models = grid(space, 6)
        engine.submit_models(*models)
        engine.wait_models(models[2])
        assert [model.status.completed() for model in models] == [True] * 3 + [False] * 3

    def test_ids_are_the_numbers_of_exploration(self):
        tables = []
        for placement in (Shuffled(1), Shuffled(2)):
            space, record = simplified(), Record(None)
            engine = engine_of(placement, space, record=record, ahead=9)
            models = grid(space, 20)
            engine.submit_models(*models)
            engine.wait_models()
            assert [row[1] for row in table(record)] == [model.sample for model in models]
            assert placement.scored != sorted(placement.scored)
            tables.append(table(record))
        assert tables[0] == tables[1]

    def test_the_grid_changes_samples_that_it_gave_out(self):
        space, record = simplified(), Record(None)
        shared = {}
        engine = engine_of(Shuffled(), space, record=record, ahead=5)
        for model in grid(space, 10):
            shared.clear()
            shared.update(model.sample)
            model.sample = shared
            engine.submit_models(model)
        engine.wait_models()
        assert len({str(row[1]) for row in table(record)}) == 10
        assert all(row[2] == judge(row[1]).score for row in table(record))


class TestDuplicates:
    def test_of_a_pending_candidate_share_its_verdict(self):
        space, placement, record = simplified(), Shuffled(), Record(None)
        engine = engine_of(placement, space, record=record, ahead=10)
        models = [*grid(space, 3), *grid(space, 3)]
        engine.submit_models(*models)
        assert len(placement.tasks) == 3
        engine.wait_models()
        assert len(record) == 3 and sorted(placement.scored) == [1, 2, 3]
        assert [model.metric for model in models[:3]] == [model.metric for model in models[3:]]

    def test_that_differ_in_the_evaluator_alone_are_one_network(self):
        evaluator = FunctionalEvaluator(train, learning_rate=nni.choice('learning_rate', [0.1, 0.2, 0.3]))
        space, placement, record = simplified(evaluator=evaluator), Shuffled(), Record(None)
        engine = engine_of(placement, space, record=record, ahead=3)
        samples = [
            {'width': 4, 'inner': 'relu', 'outer': outer, 'learning_rate': rate}
            for outer in ('tanh', 'relu')
            for rate in (0.1, 0.2, 0.3)
        ]
        engine.submit_models(*[space.freeze(sample) for sample in samples])
        engine.wait_models()
        assert sorted(placement.scored) == [1, 4]
        assert [row[0] for row in table(record)] == [1, 2, 3, 4, 5, 6]
        assert [len({row[2] for row in table(record)[i : i + 3]}) for i in (0, 3)] == [1, 1]
        assert record.frame().seconds.sum() == 0.5

    def test_of_a_failed_network_fail_for_its_reason(self):
        evaluator = FunctionalEvaluator(train, learning_rate=nni.choice('learning_rate', [0.1, 0.2, 0.3]))
        space, record = simplified(evaluator=evaluator), Record(None)
        engine = engine_of(Shuffled(), space, record=record, ahead=2)
        for rate in (0.1, 0.2, 0.3):
            engine.submit_models(space.freeze({'width': 4, 'inner': 'sigmoid', 'outer': 'tanh', 'learning_rate': rate}))
        engine.wait_models()
        assert [row[3:] for row in table(record)] == [('failed', 'it is broken')] * 3


class TestBudget:
    def test_counts_what_is_pending(self):
        space = simplified()
        engine = engine_of(Shuffled(), space, candidates=5, ahead=10)
        models = grid(space, 5)
        engine.submit_models(*models[:3], space.freeze(dict(models[0].sample)), models[3])
        assert engine.budget_available()
        engine.submit_models(models[4])
        assert not engine.budget_available() and len(engine.record) == 0
        engine.wait_models()
        assert not engine.budget_available() and len(engine.record) == 5

    def test_patience(self):
        space = simplified()
        engine = engine_of(Shuffled(), space, candidates=5, ahead=3)
        engine.patience = 7
        model = grid(space, 1)[0]
        for _ in range(8):
            assert engine.budget_available()
            engine.submit_models(space.freeze(dict(model.sample)))
        assert not engine.budget_available()

    def test_an_exhausted_space_ends_the_search(self):
        strategy = KNAS(tiny_kernel(), candidates=27, top_k=0, placement=Shuffled(), explorer=Random(dedup=False, seed=0))
        strategy(simplified(), SequentialExecutionEngine())
        assert len(strategy.scores(all=True)) == 27

    def test_time_that_is_over_gives_up_what_is_pending(self):
        space, placement = simplified(), Shuffled()
        engine = engine_of(placement, space, ahead=10, deadline=float('-inf'))
        engine.submit_models(*grid(space, 4))
        engine.wait_models()
        assert placement.scored == [] and len(engine.record) == 0 and engine.running == []

    def test_a_placement_that_can_do_no_more_ends_the_search(self):
        class Tired(Shuffled):
            def get(self):
                return super().get() if len(self.scored) < 3 else []

        strategy = KNAS(tiny_kernel(), candidates=20, top_k=0, placement=Tired(), ahead=5)
        strategy(simplified(), SequentialExecutionEngine())
        assert 3 <= len(strategy.scores(all=True)) <= 5


class TestRecord:
    def test_is_written_in_any_order_the_moment_a_verdict_is_known(self):
        space, placement = simplified(), Shuffled(1)
        engine = engine_of(placement, space, ahead=12)
        models = grid(space, 20)
        gaps = 0
        for model in models:
            engine.submit_models(model)
            written = [candidate.id for candidate in engine.record.explored()]
            assert written == sorted(placement.scored)
            gaps += written != list(range(1, len(written) + 1))
        assert gaps > 0

    def test_ids_that_are_taken(self):
        space, record = simplified(), Record(None)
        models = grid(space, 9)
        for explored in (models[:4], models[2:9]):  # the second explorer explores anew
            engine = engine_of(Shuffled(), space, record=record, ahead=3)
            engine.submit_models(*[space.freeze(dict(model.sample)) for model in explored])
            engine.wait_models()
        assert [row[1] for row in table(record)[:4]] == [model.sample for model in models[:4]]
        assert sorted(str(sorted(row[1].items())) for row in table(record)) == sorted(
            str(sorted(model.sample.items())) for model in models
        )
        assert engine.state_dict() == {}

    def test_nothing_is_kept_of_what_was_told(self):
        space = simplified()
        engine = engine_of(Shuffled(), space, ahead=4)
        engine.submit_models(*grid(space, 20))
        assert len(engine.running) == 3
        assert len(engine._pending) <= 3 and len(engine._asked) <= 3 and len(engine._twins) <= 3
        engine.wait_models()
        assert not (engine._window or engine._pending or engine._asked or engine._twins)


EXPLORERS = {
    'random': lambda: Random(dedup=False, seed=3),
    'random without duplicates': lambda: Random(seed=3),
    'evolution': lambda: RegularizedEvolution(population_size=12, sample_size=4, mutation_prob=0.4, seed=3),
    'crossover': lambda: RegularizedEvolution(population_size=12, sample_size=4, crossover=True, dedup=False, seed=3),
    'grid': lambda: GridSearch(seed=3),
}


def explore(explorer, record, placement, space, candidates=100):
    strategy = KNAS(tiny_kernel(), candidates, 0, explorer, record=record, placement=placement)
    strategy.kernel.check = lambda network: None
    strategy(simplified(space), SequentialExecutionEngine())
    return strategy


@pytest.mark.usefixtures('frequent_checkpoints')
class TestResume:
    @pytest.mark.parametrize('name', EXPLORERS)
    def test_an_interrupted_exploration_goes_on_as_if_nothing_had_happened(self, name, tmp_path):
        whole = explore(EXPLORERS[name](), tmp_path / 'whole', Shuffled(1), Digits())
        for i, stop in enumerate((3, 40, 80)):
            with pytest.raises(KeyboardInterrupt):
                explore(EXPLORERS[name](), tmp_path / 'parts', Shuffled(10 + i, dies_at=stop), Digits())
        scored = {candidate.id for candidate in Record(tmp_path / 'parts').explored()}
        assert len(scored) >= 65
        placement = Shuffled(20)
        explore(EXPLORERS[name](), tmp_path / 'parts', placement, Digits())
        assert table(Record(tmp_path / 'parts')) == table(whole._opened_record())
        assert not scored & set(placement.scored)

    def test_after_the_time_was_over(self, tmp_path):
        """What was given up is explored again."""

        class Tired(Shuffled):
            def get(self):
                return super().get() if len(self.scored) < 50 else []

        whole = explore(EXPLORERS['evolution'](), tmp_path / 'whole', Shuffled(1), Digits())
        explore(EXPLORERS['evolution'](), tmp_path / 'parts', Tired(2), Digits())
        assert 50 <= len(Record(tmp_path / 'parts')) < 55
        explore(EXPLORERS['evolution'](), tmp_path / 'parts', Shuffled(3), Digits())
        assert table(Record(tmp_path / 'parts')) == table(whole._opened_record())

    def test_in_a_space_with_failures_and_duplicates(self, tmp_path):
        """Failures keep evolution's population small; then there are moments that it cannot be taken up at."""

        def explorer():
            return RegularizedEvolution(population_size=10, sample_size=5, mutation_prob=0.5, dedup=False, seed=8)

        whole = explore(explorer(), tmp_path / 'whole', Shuffled(1), TinySpace(), 25)
        for i, stop in enumerate((11, 14, 17, 18, 19, 20, 22)):
            with pytest.raises(KeyboardInterrupt):
                explore(explorer(), tmp_path / 'parts', Shuffled(10 + i, dies_at=stop), TinySpace(), 25)
        explore(explorer(), tmp_path / 'parts', Shuffled(20), TinySpace(), 25)
        assert table(Record(tmp_path / 'parts')) == table(whole._opened_record())
        assert {row[3] for row in table(whole._opened_record())} == {'scored', 'failed'}

    @pytest.mark.parametrize('name', ['random', 'evolution'])
    def test_does_not_explore_again_from_the_beginning(self, name, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            explore(EXPLORERS[name](), tmp_path / 'record', Shuffled(1, dies_at=120), Digits(), 150)
        known = len(Record(tmp_path / 'record'))
        finds = []
        find = Record.find
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Record, 'find', lambda self, sample: finds.append(sample) or find(self, sample))
            explore(EXPLORERS[name](), tmp_path / 'record', Shuffled(2), Digits(), 150)
        assert len(finds) < 150 - known + 45

    def test_evolution_remembers_what_it_has_tried(self, tmp_path):
        interrupted = EXPLORERS['evolution']()
        with pytest.raises(KeyboardInterrupt):
            explore(interrupted, tmp_path / 'record', Shuffled(1, dies_at=120), Digits(), 150)
        record, resumed = Record(tmp_path / 'record'), EXPLORERS['evolution']()
        engine = engine_of(Shuffled(2), simplified(Digits()), 150, record)
        resumed.initialize(engine.scorer.space, engine)
        Checkpoints(resumed, engine, record).restore()
        tried = {_to_hashable(candidate.sample) for candidate in record.explored() if candidate.id <= engine.number}
        assert tried <= resumed._dedup_helper._history <= interrupted._dedup_helper._history
        assert len(resumed._dedup_helper._history) == engine.number > 100

    def test_evolution_is_not_taken_up_where_it_would_begin_again(self):
        """It fills up its population with random candidates at the start, and not later, when failures have thinned it."""
        explorer = RegularizedEvolution(population_size=3, sample_size=2, seed=0)
        engine = engine_of(Shuffled(), simplified(), ahead=3)
        explorer.initialize(engine.scorer.space, engine)
        checkpoints = Checkpoints(explorer, engine, engine.record)
        engine.submit_models(*grid(engine.scorer.space, 3))
        for population, taken in ((1, False), (2, False), (3, True)):
            explorer._population.extend([None] * (population - len(explorer._population)))
            checkpoints()
            assert (engine.record.get_meta(f'checkpoint of {explorer!r}') is not None) == taken

    def test_checkpoints_are_few(self, tmp_path, monkeypatch):
        monkeypatch.undo()
        numbers = []
        set_meta = Record.set_meta

        def noted(self, key, value):
            if key.startswith('checkpoint'):
                numbers.append(len(value))
            set_meta(self, key, value)

        monkeypatch.setattr(Record, 'set_meta', noted)
        monkeypatch.setattr(Checkpoints, 'cost', math.inf)  # on a busy machine there are fewer
        explore(EXPLORERS['random'](), tmp_path / 'record', Shuffled(), Digits(), 3000)
        assert 10 <= len(numbers) <= 25 and max(numbers) < 20_000

    def test_a_window_stays_as_wide_as_it_was(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            explore(EXPLORERS['evolution'](), tmp_path / 'record', Shuffled(1, dies_at=30), Digits())
        wide = Shuffled(2)
        wide.ahead = 100
        strategy = explore(EXPLORERS['evolution'](), tmp_path / 'record', wide, Digits())
        assert strategy._coarse.scoring.ahead == 12  # evolution's population


class TestPlacement:
    def test_is_stopped_whatever_happens(self):
        for error in (KeyboardInterrupt, ValueError):
            placement = Shuffled()

            def get(error=error):
                raise error('no')

            placement.get = get
            with pytest.raises(error):
                KNAS(tiny_kernel(), 20, 0, placement=placement)(simplified(), SequentialExecutionEngine())
            assert placement.stopped

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(placement='moon'), "unknown placement 'moon': it is one of process, workers, gpus, trials"),
            (dict(workers=0), 'workers is 0'),
            (dict(workers=True), 'workers is True'),
            (dict(ahead=0), 'ahead is 0'),
            (dict(placement='trials', workers=2), 'workers=2 goes with placement="workers"'),
            (dict(placement=InProcess(), workers=2), 'workers=2 goes with placement="workers"'),
            (dict(explorer=RegularizedEvolution(population_size=5, sample_size=2), ahead=6), "more than the explorer's"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            KNAS(tiny_kernel(), **arguments)

    def test_no_placement(self):
        with pytest.raises(TypeError, match='placement is 3'):
            KNAS(tiny_kernel(), placement=3)


def test_size_of_a_large_space_is_not_counted(monkeypatch):
    space = simplified(Digits())
    monkeypatch.setattr(type(space), 'grid', None)
    assert space_size(space, 100_000) == 10**6
