"""Candidates near the best: which are drawn and when, and that an interruption changes nothing of it."""

from __future__ import annotations

import nni
import numpy as np
import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.space import SimplifiedModelSpace
from searches import run
from spaces import FaultySpace, Many, TinySpace, lines, prefer_small, tiny_kernel, write_line

from nni_knas import KNAS
from nni_knas.engine import InProcess, Placement, Scorer, Workers
from nni_knas.networks import encode_sample
from nni_knas.record import Record, near_of
from nni_knas.scores import MGM
from nni_knas.search import coarse
from nni_knas.search.near import draw_near

NEAR = {'candidates': 60, 'near_best': 20, 'top_k': 8, 'effort': 'full'}


def learn(space=None, kernel=None, **options):
    evaluator = {name: options.pop(name) for name in ('sign', 'log', 'dies_at') if name in options}
    options = {**NEAR, 'choose': 'learn', 'evaluator': FunctionalEvaluator(prefer_small, **evaluator), **options}
    return run(space or Many(), kernel or tiny_kernel(), **options)


def record_of(strategy):
    return strategy._opened_record()


def outcome(record):
    """All that a run comes to."""
    candidates = [(each.id, each.sample, each.quick, each.score, each.status, each.metric) for each in record.explored()]
    return candidates, record.choices(), record.endings(), near_of(record)


def prefer_by_weights(network):
    nni.report_final_result(network.last.weight.sum().item())


def report_the_same(network):
    nni.report_final_result(0.5)


class Dying(MGM):
    """Scores so many networks and is interrupted then; each is written to a log."""

    def __init__(self, log, most):
        self.log, self.most = log, most

    def __call__(self, gradients):
        if len(lines(self.log)) == self.most:
            write_line(self.log, 'dies')
            raise KeyboardInterrupt
        write_line(self.log, 'scored')
        return super().__call__(gradients)


class Backwards(InProcess):
    """The last one that came is scored first."""

    def get(self):
        self._waiting.rotate()
        return super().get()


@pytest.fixture(scope='module')
def searched():
    return learn()


@pytest.fixture(scope='module')
def record(searched):
    return record_of(searched)


@pytest.fixture(scope='module')
def by_mgm():
    return record_of(learn(kernel=tiny_kernel(score=MGM())))


def differences(one, other):
    return sum(one[label] != other[label] for label in one)


class TestSearch:
    def test_as_many_are_scored_as_without(self, record):
        assert record.scored() == len(record) == 60
        assert near_of(record).numbers(record) == list(range(41, 61))

    def test_one_choice_away_from_those_of_which_most_was_expected(self, record):
        near = near_of(record)
        parents = [record.get(number).sample for number in near.parents]
        assert len(parents) == 10 and near.over and near.first == 40
        for number in near.numbers(record):
            assert min(differences(record.get(number).sample, parent) for parent in parents) == 1

    def test_after_those_that_were_trained_before(self, record):
        choices = [choice.candidate for choice in record.choices()]
        assert max(choices[:4]) <= 40  # 0.4 of 8
        assert max(choices[4:]) > 40
        told = dict(record.endings()[:4])
        assert max(told, key=told.get) in near_of(record).parents

    def test_the_learner_goes_on_with_their_panels(self, searched):
        panels = searched.scores(all=True, panel=True).set_index('candidate')
        assert panels.loc[41:, 'gradient-norm'].notna().all()

    def test_scoring_them_is_no_training(self, record):
        stages = [energy.stage for energy in record.energies()]
        assert 'coarse' in stages[stages.index('fine') :] and stages[-1] == 'fine'

    def test_none_by_default(self):
        assert near_of(record_of(learn(near_best=0, top_k=1))) is None

    def test_the_seed_says_which(self, record):
        assert near_of(record_of(learn(kernel=tiny_kernel(seed=1)))).samples != near_of(record).samples

    def test_metrics_have_to_differ(self):
        record = record_of(learn(evaluator=FunctionalEvaluator(report_the_same)))
        assert len(record) == 40 and record.count('trained') == 8 and near_of(record).samples == ()

    def test_where_all_are_scored_at_the_start_none_is_left(self):
        with pytest.warns(UserWarning, match='only 27 candidates'):
            record = record_of(learn(TinySpace(), candidates=30))
        assert len(record) == 27 and near_of(record) is None

    def test_of_a_space_all_that_is_left(self):
        record = record_of(learn(TinySpace(), candidates=27, near_best=12))
        assert len(record) == 27 and len(near_of(record).samples) == 12

    def test_quickly_and_in_full_as_the_explorers(self):
        record = record_of(learn(candidates=180, near_best=60, top_k=8, effort='adaptive'))
        near = near_of(record).numbers(record)
        rows = [record.get(number) for number in near]
        assert near == list(range(121, 181)) and all(row.quick is not None for row in rows)
        assert 0 < sum(row.score is not None for row in rows) < 60

    def test_those_that_fail_are_recorded(self):
        evaluator = FunctionalEvaluator(prefer_by_weights)
        record = record_of(learn(FaultySpace(), candidates=15, near_best=7, top_k=4, evaluator=evaluator))
        failed = [record.get(number).status for number in near_of(record).numbers(record)].count('failed')
        assert len(record) == 15 and failed > 0 and near_of(record).over

    def test_those_over_a_limit_do_not_count(self):
        two_linear_layers = {'parameters': 63 + 2 * 42}
        record = record_of(learn(candidates=80, near_best=40, constraints=two_linear_layers, sign=1.0))
        assert record.counted() == 80 and record.count('filtered') > 0
        near = near_of(record)
        assert len(near.samples) > 40 and near.scored(record) == 40

    @pytest.mark.slow
    def test_in_worker_processes_the_same(self, record):
        assert outcome(record_of(learn(placement=Workers(2)))) == outcome(record)

    def test_in_whatever_order_they_are_scored(self, record):
        assert outcome(record_of(learn(placement=Backwards()))) == outcome(record)

    @pytest.mark.parametrize(
        'place, then', [('process', InProcess), ('workers', Workers), ('trials', InProcess), (Placement(), InProcess)]
    )
    def test_where_they_are_scored(self, place, then):
        strategy = KNAS(tiny_kernel(), placement=place, choose='learn', near_best=100)
        stage = strategy.coarse_stage(SimplifiedModelSpace.from_model(Many()), Record(None))
        assert type(stage._engine_near().placement) is then


ADAPTIVE = {'candidates': 180, 'near_best': 60, 'effort': 'adaptive'}


class TestResume:
    @pytest.mark.parametrize('dies_at', [(0,), (4,), (5, 7)])
    def test_interrupted_while_one_is_trained(self, tmp_path, record, dies_at):
        options = {'record': tmp_path / 'record', 'log': str(tmp_path / 'log'), 'dies_at': dies_at}
        for _ in dies_at:
            with pytest.raises(KeyboardInterrupt):
                learn(**options)
        assert outcome(record_of(learn(**options))) == outcome(record)

    @pytest.mark.parametrize('most', [10, 40, 41, 50, 59])
    def test_interrupted_while_one_is_scored(self, tmp_path, by_mgm, most):
        log, path = str(tmp_path / 'log'), tmp_path / 'record'
        with pytest.raises(KeyboardInterrupt):
            learn(kernel=tiny_kernel(score=Dying(log, most)), record=path)
        resumed = learn(kernel=tiny_kernel(score=Dying(log, -1)), record=path)
        assert outcome(record_of(resumed)) == outcome(by_mgm)
        assert lines(log).count('scored') == 60  # nothing twice

    @pytest.mark.parametrize('name', ['set_near', 'score_near'])
    def test_interrupted_when_they_are_drawn_and_when_they_are_scored(self, tmp_path, monkeypatch, record, name):
        done = getattr(coarse, name)

        def interrupted(*arguments):
            done(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(coarse, name, interrupted)
            learn(record=tmp_path / 'record')
        assert outcome(record_of(learn(record=tmp_path / 'record'))) == outcome(record)

    def test_with_adaptive_effort(self, tmp_path, monkeypatch):
        whole, rate, rated = learn(**ADAPTIVE), Record.rate, []

        def interrupted(record, *arguments):
            rate(record, *arguments)
            rated.append(near_of(record).samples)
            if len([samples for samples in rated if samples]) == 3:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Record, 'rate', interrupted)
            learn(record=tmp_path / 'record', **ADAPTIVE)
        assert outcome(record_of(learn(record=tmp_path / 'record', **ADAPTIVE))) == outcome(record_of(whole))

    def test_a_finished_run_stays_so(self, tmp_path, record):
        learn(record=tmp_path / 'record')
        assert outcome(record_of(learn(record=tmp_path / 'record'))) == outcome(record)

    def test_more_candidates_are_the_explorers(self, tmp_path, record):
        learn(record=tmp_path / 'record')
        more = record_of(learn(record=tmp_path / 'record', candidates=70, top_k=10))
        assert len(more) == 70 and near_of(more) == near_of(record) and more.count('trained') == 10

    def test_another_number_before_they_are_drawn(self, tmp_path):
        learn(top_k=0, near_best=0, candidates=30, record=tmp_path / 'record')
        record = record_of(learn(record=tmp_path / 'record', near_best=30))
        assert len(record) == 60 and len(near_of(record).samples) == 30

    @pytest.mark.parametrize('near_best', [0, 30])
    def test_another_number_when_they_are_drawn(self, tmp_path, record, caplog, near_best):
        caplog.set_level('WARNING', logger='nni.knas')
        learn(record=tmp_path / 'record')
        resumed = record_of(learn(record=tmp_path / 'record', near_best=near_best))
        assert resumed.choices() == record.choices() and near_of(resumed).samples == near_of(record).samples
        sentence = f'near_best={near_best} changes nothing in this run: its 20 candidates near the best are drawn already.'
        assert caplog.messages == [sentence]

    def test_where_all_were_scored_before_there_is_none(self, tmp_path, caplog):
        caplog.set_level('INFO', logger='nni.knas')
        learn(top_k=0, near_best=0, record=tmp_path / 'record')
        record = record_of(learn(record=tmp_path / 'record'))
        assert len(record) == 60 and near_of(record).samples == () and record.count('trained') == 8
        assert 'There was no new candidate to score near the best.' in caplog.messages


def test_nothing_stops_the_search_before_they_are_known():
    record = record_of(learn(stop_when=0.99))
    assert record.count('trained') >= 4 and near_of(record).over


class TestDrawing:
    def draw(self, count, space, parent, known=()):
        space = SimplifiedModelSpace.from_model(space)
        scorer, random_state = Scorer(tiny_kernel(), space), np.random.RandomState(0)
        drawn = draw_near(space, [parent], count, [parent, *known].__contains__, scorer.canonical, random_state)
        assert len({encode_sample(sample) for sample in drawn}) == len(drawn) and all(map(space.contains, drawn))
        return [differences(sample, parent) for sample in drawn]

    def test_one_choice_is_changed(self):
        assert self.draw(10, Many(), {f'layer{place}': 'relu' for place in range(4)}) == [1] * 10

    def test_more_are_where_there_are_hardly_any_others_and_fewer_are_drawn_where_there_are_none(self):
        changes = self.draw(100, TinySpace(), TINY)
        assert len(changes) == 26 and changes[:5] == [1] * 5 and changes.count(1) == 6 and changes.count(3) == 8

    def test_none(self):
        others = [{'width': width, 'inner': one, 'outer': other} for width in (4, 8, 16) for one in KINDS for other in KINDS]
        assert self.draw(5, TinySpace(), TINY, others) == []


KINDS = ('relu', 'tanh', 'sigmoid')
TINY = {'width': 4, 'inner': 'relu', 'outer': 'relu'}


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'choose': 'rank'}, 'near_best=20 goes with choose="learn", not with "rank"'),
        ({'top_k': 0}, 'near_best=20 goes with a top_k of at least 4, not 0: they are drawn when 3'),
        ({'near_best': 60}, 'near_best=60 is too much of candidates=60: of these the explorer has'),
        ({'near_best': -1}, 'near_best is -1: it has to be a whole number, 0 or more'),
        ({'near_best': 2.5}, 'near_best is 2.5: it has to be a whole number'),
        ({'near_best': True}, 'near_best is True'),
    ],
)
def test_mistakes(options, sentence):
    with pytest.raises(ValueError) as error:
        KNAS(tiny_kernel(), **{**NEAR, 'choose': 'learn', **options})
    assert sentence in str(error.value)
