"""The scores themselves, and how they are found by name."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import reference
import reference_peers
import torch
from torch import nn
from torch.nn import functional as F

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import TARGETS
from nni_knas.gradients import seeded
from nni_knas.scores import MGM, RECOMMENDED, HalfCovariance, MGMSampled, Score, base, get_score, register, score_names
from nni_knas.scores.mgm import _draw


class Known:
    """Gradients that are given rather than computed."""

    def __init__(self, per_sample, seed=0):
        self.values = per_sample
        self.seed = seed
        self.parameters = {name: g[0] for name, g in per_sample.items()}

    def mean(self):
        return {name: g.mean(0) for name, g in self.values.items()}

    def per_sample(self, names):
        return {name: self.values[name] for name in names}

    def used(self):
        return list(self.values)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mgm_by_hand():
    gradients = Known({'a': torch.tensor([[1.0, 2.0], [3.0, 0.0]]), 'b': torch.tensor([[2.0], [-4.0]])})
    # <g1, g1> = 9, <g2, g2> = 25, <g1, g2> = 3 - 8 = -5
    assert MGM()(gradients) == pytest.approx((9 + 25 - 2 * 5) / 4)


def test_mgm_sampled_is_the_mean_over_large_tensors():
    tensors = {'small': normal(4, 49), 'fifty': normal(4, 50, seed=1), 'large': normal(4, 10, 20, seed=2)}
    fifty = tensors['fifty'].mean(0).square().sum()
    drawn = tensors['large'].flatten(1)[:, _draw(tensors['large'][0], 7, 1)].mean(0).square().sum()
    assert MGMSampled()(Known(tensors, seed=7)) == pytest.approx(float(fifty + drawn) / 2)


def test_draw_is_of_fifty_different_entries_and_depends_on_seed_and_place():
    tensor = normal(200)
    drawn = {place: _draw(tensor, *place) for place in [(0, 0), (0, 1), (1, 0)]}
    assert all(len(set(each.tolist())) == 50 for each in drawn.values())
    assert torch.equal(_draw(tensor, 0, 1), drawn[0, 1])
    assert len({tuple(each.tolist()) for each in drawn.values()}) == 3


def test_half_covariance_takes_the_first_entries_of_the_first_tensors():
    tensors = {f'{i}': normal(6, 60, seed=i) for i in range(12)} | {'small': normal(6, 49)}
    tensors = {'small': tensors.pop('small'), **tensors}
    score = HalfCovariance()(Known(tensors))
    entries = torch.cat([tensors[f'{i}'][:, :50] for i in range(11)], 1)
    a, b = entries[:3] - entries[:3].mean(0), entries[3:] - entries[3:].mean(0)
    assert score == pytest.approx(float((a * b).sum()) / 36)
    tensors['0'][:, 50:] = 100
    tensors['11'] += 100 * normal(6, 60)
    assert HalfCovariance()(Known(tensors)) == score


def test_half_covariance_is_signed_and_blind_to_constant_shifts():
    half = normal(4, 50)
    same, opposite = Known({'a': torch.cat([half, half + 3])}), Known({'a': torch.cat([half, -half])})
    assert HalfCovariance()(same) == pytest.approx(-HalfCovariance()(opposite))
    assert HalfCovariance()(same) == pytest.approx(float((half - half.mean(0)).square().sum()) / 64)


def test_scores_add_up_in_double_precision():
    # In float32 1 + 2**-26 is 1, so the norms of many tensors must not be added up in it.
    gradients = Known({f'{i}': torch.full((1, 1), 1.0 if i == 0 else 2.0**-13, dtype=torch.float32) for i in range(5)})
    assert MGM()(gradients) == 1 + 4 * 2.0**-26


# By name.


def test_names():
    of_panel = {'two-way-rank', *TARGETS}  # see test_panel.py and test_targets.py
    known = {*reference.SCORES, *reference.OF_PASSES, *reference_peers.PEERS, *reference_peers.AZ, *of_panel}
    assert known == set(score_names())
    assert score_names() == sorted(score_names())
    for name in score_names():
        assert get_score(name).name == name
    assert get_score(None).name == RECOMMENDED


def test_score_objects_are_kept():
    score = MGMSampled()
    assert get_score(score) is score
    assert repr(score) == 'MGMSampled()'


@pytest.mark.parametrize(
    ('name', 'near'), [('mgn', 'mgm'), ('mgm_sampled', 'mgm-sampled'), ('half-covarience', 'half-covariance')]
)
def test_unknown_name_suggests_a_close_one(name, near):
    with pytest.raises(ValueError, match=f"unknown score '{name}'.*did you mean '{near}'") as caught:
        get_score(name)
    assert all(known in str(caught.value) for known in score_names())


def test_unknown_name_that_is_close_to_none():
    with pytest.raises(ValueError, match="unknown score 'accuracy': the known scores are ") as caught:
        get_score('accuracy')
    assert str(caught.value).endswith(', '.join(score_names()))


@pytest.mark.parametrize('wrong', [3, MGM, ['mgm']])
def test_neither_name_nor_score(wrong):
    with pytest.raises(TypeError, match=r'score must be a name .*mgm.* or a Score object'):
        get_score(wrong)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(base, '_REGISTRY', dict(base._REGISTRY))


def test_own_score(registry):
    @register
    class L1(Score):
        name = 'l1'
        passes = '1'

        def __call__(self, gradients):
            return sum(float(g.abs().sum()) for g in gradients.mean().values())

    assert 'l1' in score_names()
    network = nn.Linear(3, 2).double()
    x, y = normal(4, 3), torch.tensor([0, 1, 1, 1])
    gradients = torch.autograd.grad(nn.functional.cross_entropy(network(x), y), list(network.parameters()))
    expected = sum(float(g.abs().sum()) for g in gradients)
    assert GradientKernelEvaluator((x, y), 'l1').score(network) == pytest.approx(expected)
    assert GradientKernelEvaluator((x, y), L1()).score(network) == pytest.approx(expected)


def test_score_without_a_rule():
    class Empty(Score):
        name = 'empty'

    with pytest.raises(NotImplementedError, match=r'Empty does not say how it scores: define __call__\(gradients\)'):
        Empty()(Known({}))


@pytest.mark.parametrize('samples', [1, 3])
def test_half_covariance_needs_four_samples(samples):
    sentence = f'needs two halves of at least 2 samples: batch_size is {samples}, take 4 or more'
    with pytest.raises(ValueError, match=sentence):
        HalfCovariance().check(samples)
    HalfCovariance().check(4)
    x, y = normal(10, 3), torch.zeros(10, dtype=torch.long)
    with pytest.raises(ValueError, match=sentence):
        GradientKernelEvaluator((x, y), 'half-covariance', batch_size=samples)
    with pytest.raises(ValueError, match=sentence):  # the data are fewer than batch_size
        GradientKernelEvaluator((x[:samples], y[:samples]), 'half-covariance').score(nn.Linear(3, 60).double())


@pytest.mark.parametrize('name', score_names())
def test_every_score_says_its_formula_source_and_cost(name):
    score = get_score(name)
    doc = inspect.cleandoc(type(score).__doc__ or '')
    assert re.search(r'\bsources?\b', doc, re.IGNORECASE), name
    assert ':math:' in doc or '.. math::' in doc, name
    assert re.match(r'\d', type(score).passes), name
    assert doc != inspect.cleandoc(Score.__doc__)


LEAST_SAMPLES = {
    'half-covariance': 4,
    'label-alignment': 3,
    **dict.fromkeys(['jacob-cov', 'linear-regions', 'naswot', 'swap'], 2),
    'snr': 2,
    'zico': 2,
    **dict.fromkeys(TARGETS, 64),
    **{f'{kernel}-{function}': 2 for kernel in reference.KERNELS for function in reference.FUNCTIONS},
}


@pytest.mark.parametrize('name', score_names())
def test_least_number_of_samples(name):
    least = LEAST_SAMPLES.get(name, 1)
    x, y = normal(10 + least, 60), torch.arange(10 + least) % 3
    for samples in {*range(1, min(least, 5)), least - 1} - {0}:
        sentence = f'^{name} .*: batch_size is {samples}, take {least} or more$'
        with pytest.raises(ValueError, match=sentence):
            GradientKernelEvaluator((x, y), score=name, batch_size=samples)
        with pytest.raises(ValueError, match=sentence):  # the data are fewer than batch_size
            GradientKernelEvaluator((x[:samples], y[:samples]), name, least).score(nn.Linear(60, 3).double())
    with seeded(0):  # there are scores of feature maps, of blocks and of ReLUs
        image = nn.Sequential(nn.Unflatten(1, (1, 6, 10)), *(nn.Conv2d(c, 2, 3, padding=1) for c in (1, 2)), nn.ReLU())
        network = nn.Sequential(image, nn.Flatten(), nn.Linear(120, 60), nn.Tanh(), nn.Linear(60, 3)).double()
    assert np.isfinite(GradientKernelEvaluator((x, y), score=name, batch_size=least).score(network))


# The references.


CLASSES = 5


def images(n=6, seed=0):
    return normal(n, 3, 5, 5, seed=seed), torch.tensor([0, 3, 1, 1, 4, 0, 2])[:n]


def sequences(n=6, seed=0):
    return normal(n, 4, 8, seed=seed), images(n)[1]


class Lambda(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, x):
        return self.function(*self.parts, x)


def convolutional(bias=False):
    # The norms take a bias away up to rounding, and the deviation of what is left is rounding, too.
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=bias),
        nn.BatchNorm2d(6),
        nn.Tanh(),
        nn.Conv2d(6, 4, 3, bias=bias),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(36, CLASSES),
    )


def separable():
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.Tanh(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Tanh(),
        nn.Conv2d(6, 8, 3, groups=2),
        nn.GroupNorm(2, 8),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


def encoder(bias=False):
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.3, batch_first=True, bias=bias)
    return Lambda(
        lambda encode, head, x: head(encode(x).mean(1)),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Linear(8, CLASSES),
    )


def attention():
    return Lambda(
        lambda attend, head, x: head(attend(x, x, x)[0].mean(1)),
        nn.MultiheadAttention(8, 2, batch_first=True),
        nn.Linear(8, CLASSES),
    )


def twice():
    return Lambda(
        lambda first, shared, head, x: head(shared(shared(first(x)).tanh()).tanh().mean(1)),
        nn.Linear(8, 6),
        nn.Linear(6, 6),
        nn.Linear(6, CLASSES),
    )


def unused():
    network = Lambda(lambda first, head, x: head(first(x).tanh()), nn.Linear(8, 7), nn.Linear(7, CLASSES))
    network.spare = nn.Linear(3, 2)
    network.parts[0].bias.requires_grad = False
    return network


def mlp(outputs=CLASSES):
    return nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, outputs))


MAIN_AND_OTHER = {
    'a tuple': lambda a, b, x: (b(a(x).tanh()), a(x)),
    'a dict': lambda a, b, x: {'other': a(x), 'logits': b(a(x).tanh())},
}

# network, data, loss, normalizations
NETWORKS = {
    'convolutions and BatchNorm': (convolutional, images, None, ('sample', 'batch')),
    'BatchNorm after biases': (lambda: convolutional(bias=True), images, None, ('sample', 'batch')),
    'BatchNorm of single values': (
        lambda: nn.Sequential(nn.Linear(8, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, CLASSES)),
        lambda: (normal(6, 8), images()[1]),
        None,
        ('sample', 'batch'),
    ),
    'grouped convolutions': (separable, lambda: images(7), None, ('sample',)),
    'linear': (
        lambda: nn.Sequential(nn.Linear(8, 9), nn.Linear(9, CLASSES)),
        lambda: (normal(6, 8), images()[1]),
        None,
        ('sample',),
    ),
    'ReLU': (mlp, lambda: (normal(7, 8), images(7)[1]), None, ('sample', 'batch')),
    'encoder': (encoder, sequences, None, ('sample',)),
    'encoder with biases': (lambda: encoder(bias=True), sequences, None, ('sample', 'batch')),
    'attention': (attention, sequences, None, ('sample',)),
    'LSTM': (
        lambda: Lambda(
            lambda layer, head, x: head(layer(x)[0][:, -1]), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, CLASSES)
        ),
        sequences,
        None,
        ('sample', 'batch'),
    ),
    'embedding': (
        lambda: nn.Sequential(nn.Embedding(20, 6), nn.Flatten(), nn.Linear(24, CLASSES)),
        lambda: ((normal(6, 4) * 100).long() % 20, images()[1]),
        None,
        ('sample',),
    ),
    'a tuple': (
        lambda: Lambda(MAIN_AND_OTHER['a tuple'], nn.Linear(8, 7), nn.Linear(7, CLASSES)),
        lambda: (normal(6, 8), images()[1]),
        None,
        ('sample',),
    ),
    'a dict': (
        lambda: Lambda(MAIN_AND_OTHER['a dict'], nn.Linear(8, 7), nn.Linear(7, CLASSES)),
        lambda: (normal(6, 8), images()[1]),
        None,
        ('sample',),
    ),
    'a layer twice': (twice, sequences, None, ('sample',)),
    'unused and frozen parameters': (unused, lambda: (normal(6, 8), images()[1]), None, ('sample',)),
    'label smoothing': (mlp, lambda: (normal(6, 8), images()[1]), nn.CrossEntropyLoss(label_smoothing=0.2), ('sample',)),
    'regression': (lambda: mlp(2), lambda: (normal(6, 8), normal(6, 2, seed=1)), nn.MSELoss(), ('sample',)),
    'regression of one value': (lambda: mlp(1), lambda: (normal(6, 8), normal(6, 1, seed=1)), F.mse_loss, ('batch',)),
}
NOISE = {'BatchNorm after biases': 'snr', 'encoder with biases': 'snr', 'attention': 'snr'}
"""Where a score reads parameters whose gradient is zero but for rounding: there is nothing to compare."""


@pytest.mark.parametrize(
    ('name', 'normalization'), [(name, each) for name, (*_, normalizations) in NETWORKS.items() for each in normalizations]
)
def test_scores_are_those_of_the_reference(name, normalization):
    build, data, loss, _ = NETWORKS[name]
    with seeded(3):
        network = build().double()
        for module in network.modules():  # norms off their initial values
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)) and module.bias is not None:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    x, y = data()
    passes = reference.Passes(network, x, y, loss, normalization, seed=5)
    for score, function in reference.OF_PASSES.items():
        if score == NOISE.get(name) or (score.startswith('fisher') and loss is not None and 'regression' in name):
            continue
        kernel = GradientKernelEvaluator((x, y), score, seed=5, loss=loss, normalization=normalization)
        assert kernel.score(network) == pytest.approx(function(passes), rel=2e-7, abs=1e-9), score


def test_references_see_something():
    """None of the references is at a bound of its score, where a wrong score could agree."""
    with seeded(3):
        network = convolutional().double()
    passes = reference.Passes(network, *images(), seed=5)
    for name, function in reference.OF_PASSES.items():
        assert np.isfinite(function(passes)) and function(passes) != 0, name
        if name.endswith('entropy') and name != 'channel-entropy':
            assert 0.1 < function(passes) < np.log(6) - 0.02, name
        if name.endswith('effective-rank'):
            assert 1.1 < function(passes) < 5.9, name
        if name.endswith('condition'):
            assert -15 < function(passes) < -0.5, name


@pytest.mark.parametrize('name', sorted(reference.KERNELS))
def test_labels_and_signs_are_drawn_by_the_seed(name):
    with seeded(3):
        network = convolutional().double()
    x, y = images()
    scores = [GradientKernelEvaluator((x, y), f'{name}-entropy', seed=seed).score(network) for seed in range(4)]
    expected = [reference.OF_PASSES[f'{name}-entropy'](reference.Passes(network, x, y, seed=seed)) for seed in range(4)]
    assert scores == pytest.approx(expected, rel=1e-7)
    assert (len({round(score, 6) for score in scores}) > 1) == (name != 'gram')


def test_zico_is_of_two_batches():
    with seeded(3):
        network = separable().double()
    x, y = images(7)
    weights = [p for p in network.parameters() if p.dim() > 1]
    a, b = (torch.autograd.grad(F.cross_entropy(network(x[i : i + 3]), y[i : i + 3]), weights) for i in (0, 3))
    expected = sum(np.log(float(((g.abs() + h.abs()) / (g - h).abs()).sum())) for g, h in zip(a, b))
    assert GradientKernelEvaluator((x, y), 'zico').score(network) == pytest.approx(expected, rel=1e-7)


def test_mgm_logits_is_the_mean_of_the_tangent_kernel():
    """With two outputs there are two draws but for the sign: their mean is the kernel summed over outputs."""
    with seeded(3):
        network = mlp(2).double()
    x, y = normal(6, 8), torch.tensor([0, 1, 1, 0, 1, 0])
    scores = {round(GradientKernelEvaluator((x, y), 'mgm-logits', seed=seed).score(network), 12) for seed in range(12)}
    expected = 0.0
    for c in range(2):
        gradients = torch.autograd.grad(network(x)[:, c].mean(), list(network.parameters()))
        expected += sum(float(g.square().sum()) for g in gradients)
    assert len(scores) == 2
    assert sum(scores) / 2 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('name', ['mgm-logits', 'ntk-entropy', 'ntk-condition', 'ntk-effective-rank'])
def test_scores_of_the_outputs_read_no_targets(name):
    with seeded(3):
        network = convolutional().double()
    x, y = images()
    scores = [GradientKernelEvaluator((x, targets), name).score(network) for targets in (y, y.flip(0))]
    assert scores[0] == scores[1]


# What the recommended score costs.


def passes_of(score, n=6):
    with seeded(3):
        network = convolutional()
    seen = []

    def count(module, inputs, output):
        seen.append('forward')
        if output.requires_grad:
            output.register_hook(lambda gradient: seen.append('backward'))

    network.register_forward_hook(count)
    x, y = images(n)
    GradientKernelEvaluator((x.float(), y), score).score(network)
    return seen


@pytest.mark.parametrize(
    'score', [None, 'gradient-rank', 'gradient-norm', 'snip', 'log-l1', 'log-mgm', 'channel-entropy', 'channel-rank']
)
def test_one_forward_and_one_backward_pass(score):
    assert passes_of(score) == ['forward', 'backward']


def test_mgm_logits_takes_one_backward_pass():
    assert passes_of('mgm-logits') == ['forward', 'forward', 'backward']


@pytest.mark.parametrize('score', ['snr', 'zico', 'label-alignment', 'ntk-entropy', 'fisher-entropy', 'gram-entropy'])
def test_per_sample_scores_do_not_loop_over_samples(score):
    assert len(passes_of(score, 3)) == len(passes_of(score, 7)) <= 3
