"""The panel and the score that is made of it, against their definition, and how they behave."""

from __future__ import annotations

import math

import pytest
import reference_panel
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import PANEL
from nni_knas.gradients import Gradients, ScoringError, seeded
from nni_knas.networks import build_network
from nni_knas.scores import TwoWayRank, matrices, statistics
from nni_knas.scores.matrices import in_stacks, participation_ratios

N, CLASSES = 6, 4


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, tokens):
        return self.head(self.layer(self.words(tokens)).mean(1))


class Recurrent(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.cells = nn.LSTM(5, 7, batch_first=batch_first)
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x):
        states = self.cells(x if self.batch_first else x.transpose(0, 1))[0]
        return self.head(states[:, -1] if self.batch_first else states[-1])


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 70, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(70, CLASSES),
    )


def shared():
    """One layer, called twice."""
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.GELU(), nn.Linear(5, CLASSES))


def nasbench201():
    sample = {
        f'cell/{edge}': op for edge, op in zip(('0_1', '0_2', '1_2', '0_3', '1_3', '2_3'), ['conv_3x3'] * 3 + ['none'] * 2)
    }
    sample |= {'cell/1_3': 'skip_connect', 'cell/2_3': 'conv_1x1'}
    space = SimplifiedModelSpace.from_model(NasBench201(stem_out_channels=8, num_modules_per_stack=1, num_labels=CLASSES))
    return build_network(space.freeze(sample), 0)


def images(*shape):
    return torch.randn(N, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


NETWORKS = {
    'convolutions': (convolutions, images(3, 12, 12)),
    'attention': (Attention, torch.randint(20, (N, 9), generator=torch.Generator().manual_seed(0))),
    'recurrent': (lambda: Recurrent(True), images(11, 5)),
    'recurrent, time first': (lambda: Recurrent(False), images(11, 5)),
    'linear': (lambda: nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, CLASSES)), images(5)),
    'shared': (shared, images(5)),
    'NAS-Bench-201': (nasbench201, images(3, 16, 16)),
}
TARGETS = torch.arange(N) % CLASSES


def network_of(name, dtype=torch.float64):
    with seeded(1):
        return NETWORKS[name][0]().to(dtype)


def kernel_of(name, score=None, **options):
    return GradientKernelEvaluator((NETWORKS[name][1], TARGETS), score, **options)


@pytest.mark.parametrize('name', NETWORKS)
def test_statistics_are_those_of_their_definition(name):
    panel = kernel_of(name).statistics(network_of(name))
    expected = reference_panel.panel_of(network_of(name).train(), NETWORKS[name][1], TARGETS)
    assert tuple(panel) == PANEL
    assert panel == pytest.approx({key: expected[key] for key in PANEL}, rel=1e-6, abs=1e-9)
    assert kernel_of(name, 'two-way-rank').score(network_of(name)) == pytest.approx(reference_panel.two_way_rank(expected))


@pytest.mark.parametrize('name', NETWORKS)
def test_single_precision_is_near(name):
    double = kernel_of(name).statistics(network_of(name))
    assert kernel_of(name).statistics(network_of(name, torch.float32)) == pytest.approx(double, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize('name', ['convolutions', 'attention', 'recurrent, time first'])
@pytest.mark.parametrize('size', [1, 2, 4])
def test_micro_batches_change_nothing(name, size):
    whole = kernel_of(name).statistics(network_of(name))
    assert kernel_of(name, micro_batch=size).statistics(network_of(name)) == pytest.approx(whole, rel=1e-9)


class Branching(nn.Module):
    """What a sample passes through depends on it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        y = self.first(x)
        return self.head(self.second(y) if float(x[0, 0]) > 0 else y)


def test_parts_that_go_different_ways_have_no_panel_and_another_score():
    inputs = torch.tensor([[1.0, 2, 3, 4], [-1, 2, 3, 4]])
    kernel = GradientKernelEvaluator((inputs, torch.tensor([0, 1])), 'log-l1', batch_size=2, micro_batch=1, device='cpu')
    judged = kernel.judge(Branching())
    assert judged.score > 0
    with pytest.raises(ScoringError, match='different ways'):
        kernel.statistics(Branching())


def test_traces_are_to_be_had_after_the_mean_gradient():
    with kernel_of('linear').gradients(network_of('linear')) as gradients:
        gradients.mean()
        gradients.tracing = True  # too late to share the pass
        assert len(gradients.traces()) == 2


def test_features_are_seen_before_a_later_layer_writes_into_them():
    """The rectifiers of these work in place."""
    inplace, apart = network_of('convolutions'), network_of('convolutions')
    for module in apart.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    assert kernel_of('convolutions').statistics(inplace) == kernel_of('convolutions').statistics(apart)


def test_score_and_panel_share_one_pass():
    network, passes = network_of('linear'), []
    network.register_forward_hook(lambda *_: passes.append('forward'))
    for score in (None, 'mgm', 'steady-rank'):
        passes.clear()
        judgement = kernel_of('linear', score).judge(network)
        assert passes == ['forward']
        assert judgement.panel == kernel_of('linear').statistics(network)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_score_alone_is_that_of_the_panel(name):
    """It asks the pass for no gradients at the outputs of layers, and comes to the same to the last bit."""
    kernel = kernel_of(name)
    with kernel.gradients(network_of(name)) as gradients:
        score = TwoWayRank()(gradients)
        assert all(trace.gradients is None for trace in gradients.traces(backward=False))
        assert any(trace.gradients is not None for trace in gradients.traces())
    assert score == kernel.judge(network_of(name)).score


def test_large_tensors_are_computed_by_themselves(monkeypatch):
    expected = kernel_of('convolutions').statistics(network_of('convolutions'))
    monkeypatch.setattr(matrices, 'LARGE', 30)
    assert kernel_of('convolutions').statistics(network_of('convolutions')) == pytest.approx(expected, rel=1e-12)


def test_tables_of_positions_leave_no_trace():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(N, 5))

        def forward(self):
            return self.table

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions, self.head = Positions(), nn.Linear(5, CLASSES)

        def forward(self, x):
            return self.head(x + self.positions().mean(0))

    assert kernel_of('linear').statistics(Network().double())['layers'] == 1


def test_a_network_that_nothing_passes_through_comes_last():
    dead = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, CLASSES)).double()
    with torch.no_grad():
        dead[0].bias.fill_(-100)
    score = kernel_of('linear').score(dead)
    assert math.isfinite(score)
    assert score < kernel_of('linear').score(network_of('linear')) - 5


def test_what_explodes_has_no_panel():
    network = network_of('linear', torch.float32)
    with torch.no_grad():
        network[0].weight.mul_(1e30)
        network[2].weight.mul_(1e30)
    with pytest.raises(ScoringError, match='explodes'):
        kernel_of('linear').statistics(network)


def test_score_does_not_read_the_scale_of_features():
    scaled = network_of('linear')
    with torch.no_grad():
        scaled[0].weight.mul_(8)
        scaled[0].bias.mul_(8)
        scaled[2].weight.div_(8)
    same = ('participation-share', 'feature-rank', 'feature-survival', 'backward-rank', 'weight-rank')
    panels = [kernel_of('linear').statistics(network) for network in (scaled, network_of('linear'))]
    assert [panels[0][name] for name in same] == pytest.approx([panels[1][name] for name in same])


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), power=st.integers(-25, 25), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_participation_ratio_is_a_rank(rows, columns, power, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    scaled, zero = matrix * 10.0**power, torch.zeros(rows, columns)
    stacks = in_stacks([matrix, scaled, zero, matrix.T.contiguous()])
    ratios = participation_ratios(stacks, lambda stacked: stacked, 4)
    assert 1 - 1e-5 <= ratios[0] <= min(rows, columns) + 1e-5
    assert ratios[1].item() == pytest.approx(ratios[0].item(), rel=1e-4)
    assert ratios[2] == 0
    assert ratios[3].item() == pytest.approx(ratios[0].item(), rel=1e-5)


def test_a_panel_is_computed_once(monkeypatch):
    network, kernel = network_of('linear'), kernel_of('linear')
    with kernel.gradients(network) as gradients:
        first = statistics(gradients)
        monkeypatch.setattr(Gradients, 'traces', lambda self: pytest.fail('it is computed anew'))
        assert statistics(gradients) == first
        first.clear()  # what a caller does with it is the caller's
        assert statistics(gradients)
