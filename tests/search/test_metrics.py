"""What an evaluator may report as its metric, and what becomes of a report that is no number."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import nni
import numpy as np
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution.event import FinalMetricEvent, IntermediateMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from ready_engine import ReadyEngine
from searches import run, search
from spaces import TinySpace, tiny_kernel

from nni_knas import KNAS, open_run
from nni_knas.bridge.fields import number_of

NUMBERS = {
    'int': (1, 1.0),
    'numpy': (np.float32(0.5), 0.5),
    'numpy integer': (np.int64(3), 3.0),
    'array': (np.array(0.25), 0.25),
    'array of one': (np.array([[0.25]]), 0.25),
    'tensor': (torch.tensor(0.5), 0.5),
    'tensor of one': (torch.tensor([0.5], requires_grad=True), 0.5),
    'bfloat': (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    'decimal': (Decimal('0.5'), 0.5),
    'fraction': (Fraction(1, 4), 0.25),
    'dict': ({'default': np.float64(0.5), 'loss': torch.tensor(2.0)}, 0.5),
    'JSON': ('{"default": 0.5}', 0.5),
}
OTHERS = {
    'nothing': None,
    'truth': True,
    'numpy truth': np.bool_(True),
    'tensor of truth': torch.tensor(True),
    'text': 'good',
    'several': np.array([0.5, 0.25]),
    'tensor of several': torch.zeros(3),
    'nan': math.nan,
    'infinite': -math.inf,
    'large': 10**400,
    'complex': np.complex64(1),
    'list': [0.5],
    'no default': {'accuracy': 0.5},
    'dict of nan': {'default': torch.tensor(math.nan)},
}


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers(name):
    metric, expected = NUMBERS[name]
    assert number_of(metric) == expected and type(number_of(metric)) is float


@pytest.mark.parametrize('name', OTHERS)
def test_what_is_no_number(name):
    assert number_of(OTHERS[name]) is None


def tell(network, metric, intermediate=0.5):
    nni.report_intermediate_result(intermediate)
    nni.report_final_result(metric)


@pytest.mark.parametrize('name', NUMBERS)
def test_on_the_sequential_engine(name, tmp_path):
    metric, expected = NUMBERS[name]
    strategy = KNAS(tiny_kernel(), candidates=3, top_k=1)
    search(strategy, tmp_path, evaluator=FunctionalEvaluator(tell, metric=metric, intermediate=metric))
    opened = open_run(next(tmp_path.glob('*/knas')).parent)
    assert opened.metric == expected and opened.curves().metric.tolist() == [expected]
    assert opened.metrics() == ({'loss': 2.0} if name == 'dict' else {})


@pytest.mark.parametrize('name', OTHERS)
def test_failures_on_the_sequential_engine(name, caplog):
    with pytest.raises(
        RuntimeError, match=f'the evaluator reported .*({"default" if name == "no default" else "no finite number"})'
    ):
        run(TinySpace(), tiny_kernel(), 3, 1, evaluator=FunctionalEvaluator(tell, metric=OTHERS[name]))


def test_intermediate_metrics_that_are_none_are_left_out(caplog):
    evaluator = FunctionalEvaluator(tell, metric=0.5, intermediate=math.nan)
    strategy = run(TinySpace(), tiny_kernel(), 3, 1, evaluator=evaluator)
    assert strategy.scores().metric.tolist()[0] == 0.5 and len(strategy.open_run().curves()) == 0
    assert any('reported nan as its metric' in line for line in caplog.messages)


class Reporting(ReadyEngine):
    """Passes on what was reported as it is."""

    def __init__(self, *metrics):
        super().__init__()
        self.metrics = metrics

    def submit_models(self, *models):
        for model in models:
            for metric in self.metrics:
                self.dispatch_model_event(IntermediateMetricEvent(model, metric))
                self.dispatch_model_event(FinalMetricEvent(model, metric))
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))


@pytest.mark.parametrize('metrics', [(math.nan,), (0.5, None), (np.array([1.0, 2.0]),)], ids=str)
def test_failures_on_other_engines(metrics):
    strategy = KNAS(tiny_kernel(), 3, 1)
    with pytest.raises(RuntimeError, match=r'the evaluator reported .* no finite number'):
        strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(tell)), Reporting(*metrics))
    assert strategy.scores().status.tolist()[0] == 'training-failed'


def test_the_last_metric_counts():
    strategy = KNAS(tiny_kernel(), 3, 1)
    strategy(SimplifiedModelSpace.from_model(TinySpace(), FunctionalEvaluator(tell)), Reporting(None, np.float32(0.5)))
    assert strategy.scores().metric.tolist()[0] == 0.5
