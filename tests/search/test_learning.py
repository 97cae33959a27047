"""A fine stage that learns: what it chooses, by what, and that an interruption changes nothing of it."""

from __future__ import annotations

import math

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from ready_engine import ReadyEngine
from searches import run
from spaces import Many, TinySpace, lines, prefer_small, size_of, tiny_kernel

from nni_knas import KNAS
from nni_knas.record import Record, keys, stop_of


def learn(top_k=8, space=None, candidates=27, **options):
    evaluator = {name: options.pop(name) for name in ('sign', 'log', 'dies_at', 'fails') if name in options}
    options = {'choose': 'learn', 'evaluator': FunctionalEvaluator(prefer_small, **evaluator), **options}
    return run(space or TinySpace(), tiny_kernel(), candidates, top_k, **options)


def choices(strategy):
    return strategy._opened_record().choices()


def numbers(strategy):
    return [choice.candidate for choice in choices(strategy)]


@pytest.fixture(scope='module')
def learnt():
    return learn()


class TestChoices:
    def test_it_finds_what_the_score_has_last(self, learnt):
        by_rank = learn(choose='rank')
        best = learn(27, choose='rank').scores().metric.max()
        assert learnt.scores().metric.max() == best > by_rank.scores().metric.max()
        assert [(each.reason, each.rank, each.predicted) for each in choices(by_rank)] == [
            ('score', rank, None) for rank in range(1, 9)
        ]

    def test_what_is_recorded_of_each(self, learnt):
        made, frame = choices(learnt), learnt.scores(all=True)
        assert len(made) == 8 and {each.candidate for each in made} == set(frame.candidate[frame.status == 'trained'])
        assert (made[0].rank, made[0].reason) == (1, 'score') and 'learned' in {each.reason for each in made}
        assert [frame.candidate[each.rank] for each in made] == [each.candidate for each in made]
        metrics = frame.set_index('candidate').metric
        told = [metrics[[each.candidate for each in made[:i]]].nunique() for i in range(8)]
        assert [each.predicted is not None for each in made] == [count > 1 for count in told]
        assert all(-500 < each.predicted < 0 < each.deviation for each in made if each.predicted is not None)
        assert [number for number, _ in learnt._opened_record().endings()] == [each.candidate for each in made]

    def test_minimised_it_is_the_same_in_the_metric_of_the_user(self, learnt):
        minimised = learn(sign=1.0, optimize_mode='minimize')
        assert numbers(minimised) == numbers(learnt)
        for one, other in zip(choices(minimised), choices(learnt)):
            assert one.predicted == pytest.approx(None if other.predicted is None else -other.predicted)

    def test_failures_are_told_and_count(self):
        strategy = learn(12, fails=True)
        frame = strategy.scores(all=True)
        assert frame.status.isin(['trained', 'training-failed']).sum() == 12 == len(choices(strategy))
        assert (frame.status == 'training-failed').any()
        assert [metric for _, metric in strategy._opened_record().endings()].count(None) == (
            frame.status == 'training-failed'
        ).sum()

    def test_all_that_there_are(self):
        assert sorted(numbers(learn(27))) == list(range(1, 28))

    def test_those_of_a_front_are_trained_in_an_order_that_is_learnt(self):
        front, ranked = (learn(6, choose=choose, front='parameters') for choose in ('learn', 'rank'))
        assert sorted(numbers(front)) == sorted(numbers(ranked)) and len(numbers(front)) == 6

    def test_without_panels_there_is_the_score(self, monkeypatch):
        monkeypatch.setattr(Record, 'statistics', lambda record: [])
        monkeypatch.setattr('nni_knas.record.record.Record._packed', lambda record, panel: None)
        assert len(numbers(learn(3))) == 3


class TestResume:
    @pytest.mark.parametrize('dies_at, fails', [((0,), False), ((3,), True), ((2, 5, 6), False)])
    def test_goes_on_as_if_nothing_had_happened(self, tmp_path, dies_at, fails):
        whole = learn(fails=fails)
        options = dict(record=tmp_path / 'record', log=str(tmp_path / 'log'), dies_at=dies_at, fails=fails)
        for _ in dies_at:
            with pytest.raises(KeyboardInterrupt):
                learn(**options)
        resumed = learn(**options)
        assert choices(resumed) == choices(whole)
        assert resumed._opened_record().endings() == whole._opened_record().endings()
        assert lines(tmp_path / 'log').count('trained') == 8  # and so nothing twice

    def test_a_choice_that_was_not_begun_is_the_first(self, tmp_path, learnt):
        learn(0, record=tmp_path / 'record')
        with Record(tmp_path / 'record').transaction():
            Record(tmp_path / 'record').add_choice(choices(learnt)[3])
        assert numbers(learn(record=tmp_path / 'record'))[0] == choices(learnt)[3].candidate

    def test_a_finished_run_stays_so_and_more_are_trained_when_asked_for(self, tmp_path, learnt):
        first = learn(5, record=tmp_path / 'record')
        assert choices(learn(5, record=tmp_path / 'record')) == choices(first) == choices(learnt)[:5]
        assert choices(learn(8, record=tmp_path / 'record')) == choices(learnt)

    def test_what_was_trained_by_rank_is_learnt_from(self, tmp_path):
        learn(12, choose='rank', record=tmp_path / 'record')
        made = choices(learn(14, record=tmp_path / 'record'))
        assert [each.rank for each in made[:12]] == list(range(1, 13)) and len(made) == 14
        assert made[12].predicted is not None and made[12].reason != 'score'


class Slots(ReadyEngine):
    """As many trials at a time as it has slots, of ``total`` in all; the last one that began is the first to end."""

    def __init__(self, slots, total):
        super().__init__()
        self.slots, self.total, self.running, self.most, self.submitted = slots, total, [], 0, 0

    def submit_models(self, *models):
        self.running += models
        self.submitted += len(models)
        self.most = max(self.most, len(self.running))

    def idle_worker_available(self):
        if len(self.running) == self.slots:
            self._end()
        return True

    def budget_available(self):
        if self.submitted == self.total and self.running:
            self._end()
        return True

    def _end(self):
        model = self.running.pop()
        self.dispatch_model_event(FinalMetricEvent(model, -float(size_of(model.executable_model()))))
        self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))


def test_a_trial_that_ends_asks_for_the_next_while_others_go_on():
    engine = Slots(2, 12)
    strategy = KNAS(tiny_kernel(), 27, 12, choose='learn')
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(prefer_small)), engine)
    made, ended = choices(strategy), [number for number, _ in strategy._opened_record().endings()]
    assert engine.most == 2 and len({each.candidate for each in made}) == 12
    assert ended[-1] == made[0].candidate  # the first one was under way all the time
    assert {each.reason for each in made} & {'learned', 'explore'} and made[-1].predicted is not None


@pytest.fixture(scope='module')
def adaptive():
    return learn(12, Many(), 120)


class TestAdaptiveEffort:
    def test_what_is_trained_has_a_full_score(self, adaptive):
        frame = adaptive.scores(all=True)
        trained = frame[frame.status == 'trained']
        assert len(trained) == 12 and trained.score.notna().all()
        assert frame.score.isna().sum() > 20

    def test_it_goes_beyond_what_was_scored_in_full(self, adaptive):
        """Of all the networks the smallest are best, and the race to the best by score has left most of them out."""
        ranked = learn(12, Many(), 120, choose='rank').scores(all=True).set_index('candidate')
        assert any(math.isnan(ranked.score[number]) for number in numbers(adaptive))

    def test_resumed_it_is_the_same(self, adaptive, tmp_path):
        options = dict(record=tmp_path / 'record', log=str(tmp_path / 'log'), dies_at=(7,))
        with pytest.raises(KeyboardInterrupt):
            learn(12, Many(), 120, **options)
        assert choices(learn(12, Many(), 120, **options)) == choices(adaptive)


class TestStop:
    def test_ends_when_little_is_left_to_find(self, tmp_path, caplog):
        caplog.set_level('INFO', logger='nni.knas')
        strategy = learn(27, stop_when=0.9, record=tmp_path / 'record')
        record = strategy._opened_record()
        stop = stop_of(record)
        assert 2 <= record.count('trained') < 27 and stop.stop_when == 0.9 > stop.chance and stop.top_k == 27
        assert any(
            line.startswith('No more are trained: the chance that a better one is among the rest')
            for line in caplog.messages
        )
        assert choices(learn(27, stop_when=0.9, record=tmp_path / 'record')) == choices(strategy)
        assert len(numbers(learn(27, record=tmp_path / 'record'))) == 27  # without it the others are, too
        assert stop_of(Record(tmp_path / 'record')) is None

    def test_off_by_default(self, learnt):
        assert learnt._opened_record().get_meta(keys.STOPPED) is None

    @pytest.mark.parametrize(
        'options, sentence',
        [
            ({'choose': 'guess'}, 'unknown choose \'guess\': it is "learn" or "rank"'),
            ({'choose': 'learn', 'stop_when': 1}, 'stop_when is 1: it has to be a chance above 0 and below 1'),
            ({'choose': 'learn', 'stop_when': True}, 'stop_when is True'),
            ({'choose': 'rank', 'stop_when': 0.1}, 'stop_when=0.1 goes with choose="learn"'),
        ],
    )
    def test_mistakes(self, options, sentence):
        with pytest.raises(ValueError) as error:
            KNAS(tiny_kernel(), **options)
        assert sentence in str(error.value)
