"""Two losses are one to a resumed run if they compute the same."""

from __future__ import annotations

import functools
import runpy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nni_knas import GradientKernelEvaluator
from nni_knas.kernel.identity import name_of_loss

WEIGHT = 0.5


def scaled(outputs, targets, by=1.0):
    return by * F.cross_entropy(outputs, targets)


def closed_over(weight):
    return lambda outputs, targets: weight * F.cross_entropy(outputs, targets)


def recursive(outputs, targets):
    return recursive(outputs, targets)


class Weighted:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, outputs, targets):
        return self.weight * F.cross_entropy(outputs, targets)

    def method(self, outputs, targets):
        return self(outputs, targets)


DIFFERENT = {
    'lambdas': (lambda o, t: F.cross_entropy(o, t), lambda o, t: F.cross_entropy(o, 1 - t)),
    'constants': (lambda o, t: 2 * F.cross_entropy(o, t), lambda o, t: 3 * F.cross_entropy(o, t)),
    'names': (lambda o, t: F.mse_loss(o, t), lambda o, t: F.l1_loss(o, t)),
    'closures': (closed_over(1.0), closed_over(2.0)),
    'closed over tensors': (closed_over(torch.ones(3)), closed_over(torch.arange(3.0))),
    'partials': (functools.partial(scaled, by=1.0), functools.partial(scaled, by=2.0)),
    'objects': (Weighted(1), Weighted(2)),
    'methods': (Weighted(1).method, Weighted(2).method),
    'modules': (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.2)),
    'weights of modules': (nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.arange(3.0))),
    'functions': (F.mse_loss, F.l1_loss),
    'none': (None, F.cross_entropy),
}


@pytest.mark.parametrize('name', DIFFERENT)
def test_different_losses_differ(name):
    one, other = DIFFERENT[name]
    assert name_of_loss(one) != name_of_loss(other)
    assert name_of_loss(one) == name_of_loss(one)


@pytest.mark.parametrize(
    'loss', [closed_over(1.0), Weighted(1), nn.CrossEntropyLoss(), recursive, functools.partial(scaled)]
)
def test_the_name_is_readable(loss):
    assert name_of_loss(loss).split()[0] in (
        'closed_over.<locals>.<lambda>',
        'Weighted',
        'CrossEntropyLoss',
        'recursive',
        'partial',
    )


def test_a_global_that_is_read_counts(monkeypatch):
    before = name_of_loss(reads_global)
    monkeypatch.setitem(globals(), 'WEIGHT', 0.25)
    assert name_of_loss(reads_global) != before


def reads_global(outputs, targets):
    return WEIGHT * F.cross_entropy(outputs, targets)


def test_a_rerun_script_has_the_same_losses(tmp_path):
    script = tmp_path / 'script.py'
    lines = ['import torch, functools', 'from torch.nn import functional as F', 'weight = torch.ones(3)']
    lines += [
        'losses = [lambda o, t: F.cross_entropy(o, t), lambda o, t: F.cross_entropy(o, t, weight), torch.nn.MSELoss()]'
    ]
    script.write_text('\n'.join(lines))
    first = [*map(name_of_loss, runpy.run_path(str(script))['losses'])]
    script.write_text('\n'.join(['"""Moved by a line."""', *lines]))
    assert [*map(name_of_loss, runpy.run_path(str(script))['losses'])] == first
    assert len(set(first)) == 3


def test_of_a_kernel():
    data = torch.randn(4, 3), torch.arange(4) % 3
    one, other = (GradientKernelEvaluator(data, loss=loss, batch_size=4).settings() for loss in DIFFERENT['lambdas'])
    assert {name for name in one if one[name] != other[name]} == {'loss'}
    assert GradientKernelEvaluator(data, batch_size=4).settings()['loss'] == 'cross-entropy'


def test_fewer_samples_than_asked_for_are_told(caplog):
    data = torch.randn(4, 3), torch.arange(4) % 3
    assert GradientKernelEvaluator(data, batch_size=1_000_000).minibatch.size == 4
    assert 'batch_size is 1000000, but the data have 4 samples' in caplog.text
    caplog.clear()
    assert GradientKernelEvaluator(data, batch_size=4).minibatch.size == 4
    assert caplog.text == ''
