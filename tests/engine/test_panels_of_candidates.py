"""The panels of candidates where these are scored: in verdicts, in what travels, and for candidates that are one network."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import nni
import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution.event import IntermediateMetricEvent
from nni.nas.space import SimplifiedModelSpace
from panels import choosy
from placements import Shuffled
from simulated_service import Service
from spaces import TinySpace, tiny_kernel, train

from nni_knas.basics.names import PANEL
from nni_knas.engine import Scorer, ScoringEngine, Task, Verdict, trials
from nni_knas.networks import hyper_parameters_of
from nni_knas.record import Record
from nni_knas.scores import MGM

SAMPLE = {'width': 8, 'inner': 'relu', 'outer': 'tanh'}
SIGMOID = {'width': 8, 'inner': 'relu', 'outer': 'sigmoid'}
REASON = 'ScoringError: no sigmoids, please'
MADE_UP = {name: number / 7 - 1 for number, name in enumerate(PANEL)}


def scorer_of(kernel, evaluator=None, **options):
    space = SimplifiedModelSpace.from_model(TinySpace(), evaluator)
    return Scorer(kernel, space, hyper_parameters_of(space), **options)


class Infinite(MGM):
    def __call__(self, gradients):
        return super().__call__(gradients) * math.inf


class TestVerdicts:
    @pytest.mark.parametrize('quick', [False, True])
    def test_have_the_panel_of_their_pass(self, quick):
        kernel, scorer = tiny_kernel(), scorer_of(tiny_kernel())
        expected = (kernel.quick() if quick else kernel).judge(scorer.build(SAMPLE))
        verdict = scorer.score(SAMPLE, quick)
        assert (verdict.score, verdict.panel) == expected

    def test_without_one_keep_their_score(self):
        verdict = scorer_of(choosy()).score(SIGMOID)
        assert verdict.score == scorer_of(tiny_kernel()).score(SIGMOID).score
        assert verdict.panel == REASON and verdict.reason is None

    def test_without_a_score_keep_their_panel(self):
        verdict = scorer_of(tiny_kernel(score=Infinite())).score(SAMPLE)
        assert (verdict.score, verdict.reason) == (None, 'the score is inf')
        assert verdict.panel == scorer_of(tiny_kernel()).score(SAMPLE).panel

    def test_without_either_say_why_once(self):
        verdict = scorer_of(choosy(score=Infinite())).score(SIGMOID)
        assert verdict._replace(seconds=0) == Verdict(None, 'the score is inf', 0)

    def test_of_filtered_candidates_have_none(self):
        assert scorer_of(tiny_kernel(), constraints={'parameters': 10}).score(SAMPLE).panel is None

    def test_are_the_same_where_they_travel_to(self):
        for sample in (SAMPLE, SIGMOID):
            here, there = (each.score(sample) for each in (scorer_of(choosy()), Scorer.loads(scorer_of(choosy()).dumps())))
            assert here._replace(seconds=0) == there._replace(seconds=0)


class TestReports:
    """What a trial says of a candidate, as NNI carries it."""

    def reported(self, verdict):
        text = nni.dump({'value': nni.dump({'default': 1, **trials._entries_of(3, verdict)})})
        return nni.load(nni.load(json.loads(json.dumps(text)))['value']), len(text)

    @pytest.mark.parametrize(
        'panel',
        [
            MADE_UP,
            dict.fromkeys(PANEL, 5e-324),
            dict.fromkeys(PANEL, -1.7976931348623157e308),
            dict.fromkeys(PANEL, 3.0),
            'ScoringError: see https://example.org/#panel',
            None,
        ],
    )
    def test_come_back_as_they_were(self, panel):
        """To the last bit, and as floats."""
        verdict = Verdict(1 / 3, None, 0.5, {'parameters': 9.0}, panel=panel)
        report, _ = self.reported(verdict)
        assert trials._verdict_of(report) == verdict
        if isinstance(panel, dict):
            assert list(report['panel']) == list(panel) and {type(value) for value in report['panel'].values()} == {float}

    def test_stay_small(self):
        """NNI keeps each in its database. A statistic takes its name and its digits."""
        (_, without), (_, size) = (self.reported(Verdict(1 / 3, None, 0.5, panel=panel)) for panel in (None, MADE_UP))
        assert size - without < 60 * len(PANEL)

    def test_of_an_earlier_version_have_no_panel(self):
        report = {'default': 1, 'candidate': 3, 'kernel_score': 0.5, 'seconds': 0.1}
        assert trials._verdict_of(report) == Verdict(0.5, None, 0.1)

    @pytest.mark.parametrize('quick', [False, True])
    def test_of_a_chunk_in_its_trial(self, quick, monkeypatch):
        scorer, reports = scorer_of(choosy()), []
        monkeypatch.setattr(nni, 'report_intermediate_result', lambda report: reports.append(nni.load(nni.dump(report))))
        tasks = [Task(number, sample, quick) for number, sample in enumerate((SAMPLE, SIGMOID), start=1)]
        nni.load(nni.dump(trials.Chunk(1, tasks, trials._packed_scorer(scorer)))).execute()
        verdicts = [trials._verdict_of(report)._replace(seconds=0) for report in reports[1:]]
        assert verdicts == [scorer.score(task.sample, quick)._replace(seconds=0) for task in tasks]

    def test_reach_who_scores_in_trials(self, simulate):
        service = Service()
        placement = simulate(service)
        for number in range(1, 5):
            placement.put(Task(number, {'n': number}))
        [chunk] = placement._chunks
        report = {**trials._entries_of(2, Verdict(0.5, None, 0.1, panel=MADE_UP)), 'default': 1}
        placement._on_event(IntermediateMetricEvent(chunk, report))
        assert placement.get() == [(Task(2, {'n': 2}), Verdict(0.5, None, 0.1, panel=MADE_UP))]

    def test_are_taken_over_after_a_restart(self, simulate):
        before = simulate(Service())
        for number in range(1, 5):
            before.put(Task(number, {'n': number}))
        [chunk] = before._chunks
        chunk = trials.Chunk(chunk.number, chunk.tasks, '', kernel=chunk.kernel)
        service = Service()
        parameters = SimpleNamespace(parameters=json.loads(nni.dump(chunk)))
        service.jobs = [SimpleNamespace(trialJobId='t', status='SUCCEEDED', logPath='there', hyperParameters=[parameters])]
        report, _ = self.reported(Verdict(0.5, None, 0.1, panel=MADE_UP))
        service.metrics = {'t': [SimpleNamespace(data=report)]}
        placement = simulate(service)
        placement.put(Task(7, {'n': 3}))
        assert placement.get() == [(Task(7, {'n': 3}), Verdict(0.5, None, 0.1, panel=MADE_UP))]


class WithPanels(Shuffled):
    """A panel of each candidate's number."""

    def get(self):
        return [(task, verdict._replace(panel=panel_of(task.number))) for task, verdict in super().get()]


def panel_of(number):
    return dict.fromkeys(PANEL, number / 7) if number % 3 else f'no panel of {number}'


class TestTwins:
    """Candidates that differ in the learning rate alone are one network."""

    RATES = (0.1, 0.2, 0.3)

    def search(self, outers, record, quick=False):
        evaluator = FunctionalEvaluator(train, learning_rate=nni.choice('learning_rate', list(self.RATES)))
        scorer = scorer_of(tiny_kernel(), evaluator)
        engine = ScoringEngine(scorer, record, 20, WithPanels(), ahead=4, quick=quick)
        samples = [{**SAMPLE, 'outer': outer, 'learning_rate': rate} for outer, rate in outers]
        engine.submit_models(*[scorer.space.freeze(sample) for sample in samples])
        engine.wait_models()
        return engine

    def panels(self, record):
        return [record.panel(number) for number in range(1, len(record) + 1)]

    def test_share_their_panel(self):
        record = Record(None)
        self.search([(outer, rate) for outer in ('tanh', 'relu', 'sigmoid') for rate in self.RATES], record)
        assert self.panels(record) == [panel_of(number) for number in (1, 1, 1, 4, 4, 4, 7, 7, 7)]

    def test_have_that_of_the_record(self):
        record = Record(None)
        for rate in self.RATES:
            self.search([('tanh', rate), ('relu', rate), ('sigmoid', rate)], record)
        assert self.panels(record) == [panel_of(number) for number in (1, 2, 3)] * 3

    def test_of_one_in_full_get_its_panel_with_its_score(self):
        """Meanwhile they have none: beside a quick score a panel is taken for one of a quick pass."""
        record = Record(None)
        self.search([('tanh', 0.1), ('relu', 0.1)], record, quick=True)
        full = dict.fromkeys(PANEL, 5.0)
        record.rate(1, 3.0, None, 0.1, full)
        engine = self.search([('tanh', 0.1), ('relu', 0.1), ('tanh', 0.2), ('relu', 0.2)], record, quick=True)
        assert self.panels(record) == [full, panel_of(2), None, panel_of(2)]
        engine.finish(1)
        assert record.panel(3) == full and record.get(3).score == 3.0
