"""The scores themselves, and how they are found by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_knas import GradientKernelEvaluator
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
    gradients = Known({'a': torch.tensor([[1., 2.], [3., 0.]]), 'b': torch.tensor([[2.], [-4.]])})
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
    assert {'mgm', 'mgm-sampled', 'half-covariance'} <= set(score_names())
    assert score_names() == sorted(score_names())
    for name in score_names():
        assert get_score(name).name == name
    assert get_score(None).name == RECOMMENDED


def test_score_objects_are_kept():
    score = MGMSampled()
    assert get_score(score) is score
    assert repr(score) == 'MGMSampled()'


@pytest.mark.parametrize(('name', 'near'), [('mgn', 'mgm'), ('mgm_sampled', 'mgm-sampled'),
                                            ('half-covarience', 'half-covariance')])
def test_unknown_name_suggests_a_close_one(name, near):
    with pytest.raises(ValueError, match=f"unknown score '{name}'.*did you mean '{near}'") as caught:
        get_score(name)
    assert all(known in str(caught.value) for known in score_names())


def test_unknown_name_that_is_close_to_none():
    with pytest.raises(ValueError, match="unknown score 'accuracy': the known scores are half-covariance, mgm"):
        get_score('accuracy')


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
