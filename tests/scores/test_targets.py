"""What features tell of the targets, against ridge regressions that leave out one sample after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import PANEL, TARGETS
from nni_knas.gradients import ScoringError, Trace
from nni_knas.scores.targets import LEAST_SAMPLES, of_targets

N = LEAST_SAMPLES


def trace_of(features):
    return Trace(torch.as_tensor(features), None, 1)


def fit_of(rows, y):
    """The share of the variance that is explained of samples left out: n regressions with an intercept."""
    centred = rows - rows.mean(0)
    ridge = 0.1 * (centred**2).sum()
    errors = []
    for i in range(len(rows)):
        rest = np.delete(np.arange(len(rows)), i)
        x, t = rows[rest], y[rest]
        z = x - x.mean(0)
        weights = np.linalg.solve(z.T @ z + ridge * np.eye(x.shape[1]), z.T @ (t - t.mean(0)))
        errors.append(((y[i] - t.mean(0) - (rows[i] - x.mean(0)) @ weights) ** 2).sum())
    return 1 - sum(errors) / ((y - y.mean(0)) ** 2).sum()


def alignment_of(rows, y):
    z, t = rows - rows.mean(0), y - y.mean(0)
    k, labels = z @ z.T, t @ t.T
    return (k * labels).sum() / np.linalg.norm(k) / np.linalg.norm(labels)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), classes=st.integers(2, 4), scale=st.floats(1e-6, 1e6))
def test_of_classes_against_loops(seed, classes, scale):
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(N) % classes)
    y = np.eye(classes)[targets]
    layers = [scale * (3 + generator.normal(size=(N, 1, 5)) + strength * y[:, None] @ generator.normal(size=(classes, 5)))
              for strength in (0.3, 1.5)]  # fmt: skip
    values = dict(of_targets([trace_of(layer) for layer in layers], torch.from_numpy(targets)))
    assert list(values) == list(TARGETS)
    rows = [layer.reshape(N, -1) for layer in layers]
    assert values['target-fit'] == pytest.approx(max(fit_of(each, y) for each in rows), rel=1e-6, abs=1e-9)
    assert values['target-alignment'] == pytest.approx(max(alignment_of(each, y) for each in rows), rel=1e-6)


def test_of_numbers():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(N, 2, 3))
    y = rows.reshape(N, -1) @ generator.normal(size=6)
    values = dict(of_targets([trace_of(rows)], torch.from_numpy(y)))
    assert values['target-fit'] == pytest.approx(fit_of(rows.reshape(N, -1), y[:, None]))
    assert values['target-fit'] > 0.3


def test_features_that_tell_nothing_fit_nothing():
    generator = torch.Generator().manual_seed(0)
    noise, constant = torch.randn(N, 1, 20, generator=generator), torch.ones(N, 1, 20)
    y = torch.arange(N) % 2
    assert dict(of_targets([trace_of(noise)], y))['target-fit'] < 0.1
    values = dict(of_targets([trace_of(constant)], y))
    assert values['target-alignment'] == 0 and values['target-fit'] <= 0


def test_what_has_no_such_statistics():
    features = trace_of(torch.randn(N, 1, 3))
    for targets in (torch.arange(N - 1) % 2, torch.zeros(N), torch.zeros(N, 2, 2), {'a': torch.zeros(N)}):
        assert dict(of_targets([features], targets)) == {}
    assert dict(of_targets([], torch.arange(N) % 2)) == {}


def network_and_data(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randn(n, 6, generator=generator) + 2 * y[:, None]
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)), (x, y)


def test_they_come_to_the_panel_of_many_samples():
    network, data = network_and_data(N)
    panel = GradientKernelEvaluator(data, batch_size=N).statistics(network)
    assert list(panel) == [*PANEL, *TARGETS]
    assert panel['target-fit'] > 0.3
    few = GradientKernelEvaluator(data, batch_size=N - 1).statistics(network)
    assert list(few) == list(PANEL)


@pytest.mark.parametrize('name', TARGETS)
def test_they_are_scores_too(name):
    network, (x, y) = network_and_data(N)
    kernel = GradientKernelEvaluator((x, y), name, batch_size=N)
    assert kernel.score(network) == kernel.statistics(network)[name]
    shuffled = y[torch.randperm(N, generator=torch.Generator().manual_seed(1))]
    assert GradientKernelEvaluator((x, shuffled), name, batch_size=N).score(network) < kernel.score(network) / 2
    with pytest.raises(ValueError, match=f'{name} .*: batch_size is 16, take {N} or more'):
        GradientKernelEvaluator((x, y), name)
    with pytest.raises(ScoringError, match='that differ'):
        GradientKernelEvaluator((x, torch.zeros(N, dtype=torch.long)), name, batch_size=N).score(network)


def test_parts_of_a_minibatch_make_no_difference():
    network, data = network_and_data(N)
    whole, parts = (GradientKernelEvaluator(data, batch_size=N, micro_batch=m).statistics(network) for m in (None, 10))
    for name in TARGETS:
        assert math.isclose(whole[name], parts[name], rel_tol=1e-4)
