"""What a strategy cannot do with what it is given: a sentence says so before anything is scored."""

from __future__ import annotations

import pytest
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.strategy import DARTS, Random
from searches import search
from spaces import LoggedMGM, lines, tiny_kernel, train, vectors
from torch import nn

from nni_knas import KNAS, GradientKernelEvaluator


class WideSpace(ModelSpace):
    """Expects vectors of 9 numbers."""

    def __init__(self):
        super().__init__()
        self.layer = LayerChoice([nn.Linear(9, 3), nn.Linear(9, 3, bias=False)], label='layer')

    def forward(self, x):
        return self.layer(x)


class TestBadInput:
    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(candidates=3, top_k=5), 'top_k=5 is more than candidates=3'),
            (dict(candidates=0, top_k=0), 'candidates is 0'),
            (dict(candidates=-3), 'candidates is -3'),
            (dict(candidates=5, top_k=-1), 'top_k is -1'),
            (dict(candidates=2.5), 'candidates is 2.5'),
        ],
    )
    def test_counts(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            KNAS(tiny_kernel(), **arguments)

    def test_one_shot_explorer(self):
        with pytest.raises(ValueError, match='DARTS is a one-shot strategy'):
            KNAS(tiny_kernel(), explorer=DARTS())

    def test_no_explorer(self):
        with pytest.raises(TypeError, match='multi-trial strategy'):
            KNAS(tiny_kernel(), explorer='random')

    def test_knas_in_knas(self):
        with pytest.raises(ValueError, match='KNAS cannot explore for KNAS'):
            KNAS(tiny_kernel(), explorer=KNAS(tiny_kernel()))

    def test_no_kernel(self):
        with pytest.raises(TypeError, match='GradientKernelEvaluator'):
            KNAS(FunctionalEvaluator(train))

    def test_explorer_used_twice(self, tmp_path):
        explorer = Random(seed=0)
        second = KNAS(tiny_kernel(), 3, 0, explorer)
        search(KNAS(tiny_kernel(), 3, 0, explorer), tmp_path / 'a')
        with pytest.raises(ValueError, match='explored before'):
            KNAS(tiny_kernel(), 3, 0, explorer)
        with pytest.raises(ValueError, match='explored before'):
            search(second, tmp_path / 'b')

    def test_batch_that_no_network_takes(self, tmp_path):
        log = tmp_path / 'log'
        strategy = KNAS(tiny_kernel(score=LoggedMGM(str(log))), 2, 1)
        with pytest.raises(ValueError, match='cannot take inputs of shape 16x6'):
            search(strategy, tmp_path, space=WideSpace())
        assert lines(log) == [] and len(strategy.scores(all=True)) == 0

    def test_targets_that_do_not_fit(self, tmp_path):
        inputs, targets = vectors()
        strategy = KNAS(GradientKernelEvaluator((inputs, targets + 5)), 5, 1)
        with pytest.raises(ValueError, match='classes 5 to 7, but the network has 3 outputs'):
            search(strategy, tmp_path)
        assert len(strategy.scores(all=True)) == 0

    def test_record_of_another_kernel(self, tmp_path):
        record = tmp_path / 'record.sqlite'
        search(KNAS(tiny_kernel(), 3, 0, record=record), tmp_path)
        with pytest.raises(ValueError, match=r'another kernel.*seed'):
            search(KNAS(tiny_kernel(seed=1), 3, 0, record=record), tmp_path)
