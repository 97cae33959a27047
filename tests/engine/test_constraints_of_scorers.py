"""Constraints on costs where candidates are scored: in scorers, and in trials."""

from __future__ import annotations

import json

import nni
import pytest
from nni.nas.space import SimplifiedModelSpace
from spaces import FaultySpace, TinySpace, tiny_kernel

from nni_knas.engine import Scorer, trials


class TestScorer:
    def test_bounds_are_looked_at_from_the_cheapest_on(self):
        sample = {'width': 16, 'inner': 'relu', 'outer': 'relu'}

        def verdict(**options):
            return Scorer(tiny_kernel(), SimplifiedModelSpace.from_model(TinySpace()), **options).score(sample)

        assert verdict(constraints={'latency': 1e-9, 'memory': 1, 'flops': 1, 'parameters': 163}).costs == {
            'parameters': 163,
            'flops': 288,
        }
        broken = verdict(constraints={'memory': 100}, costs=['parameters', 'latency'])
        assert list(broken.costs) == ['parameters', 'memory'] and broken.filtered and broken.score is None
        assert broken.reason == f'memory {broken.costs["memory"]:.0f} is above 100'
        kept = verdict(constraints={'flops': 288})
        assert kept.score is not None and not kept.filtered and kept.costs == {'flops': 288}
        slow = verdict(constraints={'latency': 1e-9})
        assert slow.filtered and slow.reason.startswith('latency ') and slow.reason.endswith(' is above 1e-09')

    def test_what_fails_is_not_filtered(self):
        scorer = Scorer(tiny_kernel(), SimplifiedModelSpace.from_model(FaultySpace()), costs=['parameters', 'flops'])
        verdict = scorer.score({'middle': 'raises', 'last': 0})
        assert verdict[:2] == (None, 'RuntimeError: this layer is broken') and not verdict.filtered
        assert verdict.costs == {'parameters': 63}

    @pytest.mark.parametrize(
        'options, message',
        [
            ({'constraints': {'parameter': 3}}, "did you mean 'parameters'"),
            ({'constraints': {'parameters': -3}}, 'above 0'),
            ({'costs': ['energy']}, "unknown cost 'energy'"),
        ],
    )
    def test_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            Scorer(tiny_kernel(), SimplifiedModelSpace.from_model(TinySpace()), **options)

    def test_travels_with_its_constraints(self):
        scorer = Scorer(
            tiny_kernel(), SimplifiedModelSpace.from_model(TinySpace()), constraints={'parameters': 100}, costs=['memory']
        )
        there = Scorer.loads(scorer.dumps())
        for width in (4, 16):
            sample = {'width': width, 'inner': 'relu', 'outer': 'tanh'}
            assert there.score(sample)._replace(seconds=0) == scorer.score(sample)._replace(seconds=0)
        assert there.settings() == scorer.settings()


class TestTrials:
    def test_verdicts_travel_as_metrics_of_nni(self, monkeypatch):
        reports = []
        monkeypatch.setattr(trials.nni, 'report_intermediate_result', lambda metric: reports.append(json.dumps(metric)))
        monkeypatch.setattr(trials, '_started_again', lambda: False)
        scorer = Scorer(
            tiny_kernel(), SimplifiedModelSpace.from_model(TinySpace()), constraints={'parameters': 100}, costs=['flops']
        )
        samples = [{'width': width, 'inner': inner, 'outer': 'tanh'} for width in (4, 16) for inner in ('relu', 'tanh')]
        tasks = [trials.Task(number, sample) for number, sample in enumerate(samples, start=1)]
        nni.load(nni.dump(trials.Chunk(1, tasks, trials._packed_scorer(scorer)))).execute()
        verdicts = [trials._verdict_of(json.loads(report)) for report in reports[1:]]
        assert [verdict._replace(seconds=0) for verdict in verdicts] == [
            scorer.score(sample)._replace(seconds=0) for sample in samples
        ]
        assert [verdict.filtered for verdict in verdicts] == [False, False, True, True]

    def test_chunks_say_whether_costs_are_known(self):
        for measured in (False, True):
            chunk = trials.Chunk(1, [trials.Task(1, {'a': 1}, measured=measured)], '')
            assert nni.load(nni.dump(chunk)).tasks == chunk.tasks

    def test_what_was_scored_under_other_constraints_is_scored_again(self):
        space = SimplifiedModelSpace.from_model(TinySpace())
        kernel = tiny_kernel()
        settings = [
            Scorer(kernel, space, constraints=constraints).settings()
            for constraints in (None, {'parameters': 100}, {'parameters': 99})
        ]
        assert settings[0] == kernel.settings() and len({json.dumps(setting) for setting in settings}) == 3
