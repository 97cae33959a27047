"""What holds of the scores whatever the gradients: bounds, invariances, and no score for what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hub import images, random_network
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nni_knas import GradientKernelEvaluator
from nni_knas.basics.names import TARGETS
from nni_knas.gradients import Minibatch, NotApplicable, ScoringError, seeded
from nni_knas.scores import get_score, score_names
from nni_knas.scores.alignment import _centred, _label_kernel
from nni_knas.scores.channel_entropy import _covariance
from nni_knas.scores.matrices import effective_ranks, entropy, norms, participation_ratio, spectrum

NOT_FINITE = 'a gradient is not finite: the network explodes at its initial weights'
SCALES = [1e-30, 1e-25, 1e-20, 1e-10, 1e10, 1e20, 1e25, 1e30]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(n, seed):
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


sizes = st.integers(1, 9)


@st.composite
def matrices(draw):
    """Of all ranks, with singular values of one or of different sizes."""
    rows, columns, seed = draw(sizes), draw(sizes), draw(st.integers(0, 999))
    rank = draw(st.integers(1, min(rows, columns)))
    values = torch.logspace(0, -draw(st.sampled_from([0, 0, 1, 3, 6])), rank, dtype=torch.float64)
    return orthogonal(rows, seed)[:, :rank] * values @ orthogonal(columns, seed + 1)[:rank]


def rank_of(matrix):
    return float(effective_ranks([matrix])[0])


# Effective ranks.


@given(matrices())
def test_effective_rank_is_that_of_the_singular_values(matrix):
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    assert rank_of(matrix) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-6)


@given(matrices())
def test_effective_rank_has_its_bounds(matrix):
    assert 1 - 1e-12 <= rank_of(matrix) <= min(matrix.shape) + 1e-12


@given(rows=sizes, columns=sizes, seed=st.integers(0, 99), data=st.data())
def test_equal_singular_values_count_themselves(rows, columns, seed, data):
    rank = data.draw(st.integers(1, min(rows, columns)))
    matrix = 3.7 * orthogonal(rows, seed)[:, :rank] @ orthogonal(columns, seed + 1)[:rank]
    assert rank_of(matrix) == pytest.approx(rank, rel=1e-6)


@given(matrices(), st.integers(0, 99))
def test_effective_rank_is_that_of_the_transpose_and_of_rotations(matrix, seed):
    rank = rank_of(matrix)
    assert rank_of(matrix.T) == pytest.approx(rank, rel=1e-6)
    rotated = orthogonal(len(matrix), seed) @ matrix @ orthogonal(matrix.shape[1], seed + 1)
    assert rank_of(rotated) == pytest.approx(rank, rel=1e-6)


@given(matrices(), st.floats(-20, 20), st.sampled_from([-1, 1]))
def test_effective_rank_has_no_scale(matrix, exponent, sign):
    assert rank_of(sign * 10**exponent * matrix) == pytest.approx(rank_of(matrix), rel=1e-6)


@pytest.mark.parametrize('scale', SCALES)
def test_effective_rank_has_no_scale_in_single_precision(scale):
    matrix = normal(5, 7).float()
    assert rank_of(matrix * scale) == pytest.approx(rank_of(matrix), rel=1e-5)


@given(
    st.lists(
        st.one_of(matrices(), st.builds(torch.zeros, sizes, sizes, dtype=st.just(torch.float64))), min_size=1, max_size=6
    )
)
def test_matrices_of_any_sizes_together_are_as_one_by_one(several):
    ranks = effective_ranks(several)
    assert ranks.dtype == torch.float64 and ranks.shape == (len(several),)
    assert ranks.tolist() == pytest.approx([rank_of(matrix) for matrix in several], rel=1e-6)
    assert [rank == 0 for rank in ranks] == [not matrix.any() for matrix in several]


@pytest.mark.parametrize('wrong', [math.nan, math.inf, -math.inf])
def test_matrices_that_are_not_finite(wrong):
    matrix = normal(3, 4)
    matrix[1, 2] = wrong
    with pytest.raises(ScoringError, match=NOT_FINITE):
        effective_ranks([normal(3, 4), matrix])
    with pytest.raises(ScoringError, match=NOT_FINITE):
        spectrum(matrix[:, :3])


# Spectra.


@st.composite
def kernels(draw):
    matrix = draw(matrices())
    return matrix @ matrix.T


@given(kernels(), st.sampled_from([1e-200, 1e-20, 1.0, 1e20, 1e200]))
def test_spectra_are_parts_of_one(kernel, scale):
    parts = spectrum(kernel * scale)
    n = len(kernel)
    assert parts.shape == (n,) and parts.dtype == torch.float64
    assert (parts >= 0).all() and (parts.diff() >= 0).all()
    assert float(parts.sum()) == pytest.approx(1)
    assert parts.tolist() == pytest.approx(spectrum(kernel).tolist(), abs=1e-12)
    values = np.linalg.eigvalsh(kernel.numpy())
    assert parts.tolist() == pytest.approx(list(values / values.sum()), abs=1e-9)
    assert -1e-12 <= entropy(parts) <= math.log(n) + 1e-12
    assert 1 - 1e-12 <= participation_ratio(parts) <= n + 1e-12
    assert participation_ratio(parts) <= math.exp(entropy(parts)) + 1e-9  # orders 2 and 1 of Renyi's entropies


@pytest.mark.parametrize('n', [1, 2, 7])
def test_spectra_at_their_bounds(n):
    even, one, none = spectrum(torch.eye(n)), spectrum(torch.ones(n, n)), spectrum(torch.zeros(n, n))
    assert (entropy(even), participation_ratio(even)) == pytest.approx((math.log(n), n))
    assert (entropy(one), participation_ratio(one)) == pytest.approx((0, 1), abs=1e-12)
    assert none.tolist() == [0] * n and entropy(none) == participation_ratio(none) == 0


@pytest.mark.parametrize('order', [1, 2])
def test_norms(order):
    tensors = [normal(3), normal(2, 3, 4, seed=1), torch.zeros(2)]
    expected = [np.linalg.norm(tensor.numpy().ravel(), order) for tensor in tensors]
    assert norms(tensors, order).tolist() == pytest.approx(expected)
    assert norms([tensor.float() for tensor in tensors], order).dtype == torch.float64


@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 99), st.floats(-3, 3))
def test_covariance_of_channels(positions, channels, seed, shift):
    delta = normal(positions, channels, seed=seed)
    expected = np.atleast_2d(np.cov(delta.numpy(), rowvar=False))
    covariance = _covariance(delta + shift)
    assert torch.allclose(covariance / covariance.trace(), torch.tensor(expected / np.trace(expected)), atol=1e-9)


@pytest.mark.parametrize('scale', SCALES)
def test_covariance_of_channels_has_no_scale_in_single_precision(scale):
    delta = normal(6, 4).float()
    assert spectrum(_covariance(delta * scale)).tolist() == pytest.approx(spectrum(_covariance(delta)).tolist(), abs=1e-5)


class Given:
    """Gradients that are given rather than computed, of the losses and of the outputs alike."""

    def __init__(self, kernel=None, targets=None, per_sample=None):
        self.kernel, self.minibatch, self.values = kernel, Minibatch(torch.zeros(3), targets), per_sample

    def gram(self):
        return self.kernel

    def of_outputs(self):
        return self

    def of_predictions(self):
        return self

    def mean(self):
        return {name: g.mean(0) for name, g in self.values.items()}

    def per_sample(self, names=None):
        return self.values


@given(st.lists(st.floats(-30, 0), min_size=2, max_size=6), st.integers(0, 99))
def test_condition_knows_no_more_than_single_precision(exponents, seed):
    values = torch.tensor([*exponents, 0.0], dtype=torch.float64).exp()
    basis = orthogonal(len(values), seed)
    score = get_score('gram-condition')(Given(basis * values @ basis.T))
    assert score == pytest.approx(max(min(exponents), -23 * math.log(2)), abs=1e-6)


def test_condition_of_no_gradient_is_the_worst():
    for kernel in ('gram', 'ntk', 'fisher'):
        assert get_score(f'{kernel}-condition')(Given(torch.zeros(3, 3))) == -math.inf


# Alignment.


@given(st.lists(st.integers(-2, 3), min_size=3, max_size=8), st.integers(0, 99))
def test_alignment_has_its_bounds(labels, seed):
    assume(len(set(labels)) > 1)
    rows, targets = normal(len(labels), 4, seed=seed), torch.tensor(labels)
    score = get_score('label-alignment')
    assert -1 <= score(Given(rows @ rows.T, targets)) <= 1
    same = targets[:, None].eq(targets).double()
    assert score(Given(same, targets)) == pytest.approx(1)
    assert score(Given(2.5 * same + 3, targets)) == pytest.approx(1)  # centring takes a constant away
    assert score(Given(-same, targets)) == pytest.approx(-1)
    assert torch.equal(_label_kernel(targets), same)


@given(st.integers(3, 8), st.integers(1, 3), st.integers(0, 99))
def test_alignment_with_values(n, outputs, seed):
    targets = normal(n, outputs, seed=seed)
    score = get_score('label-alignment')
    assert score(Given(targets @ targets.T, targets)) == pytest.approx(1)
    rows = normal(n, 5, seed=seed + 1)
    expected = score(Given(rows @ rows.T, targets))
    for scale in (1e-6, 1e6):
        assert score(Given(scale * rows @ rows.T, targets)) == pytest.approx(expected)


@given(st.integers(1, 7), st.integers(0, 99))
def test_centring(n, seed):
    kernel = normal(n, n, seed=seed)
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    torch.testing.assert_close(_centred(kernel), centre @ kernel @ centre)


@pytest.mark.parametrize('scale', [1e-6, 1e6])
def test_alignment_does_not_depend_on_the_scale_of_the_targets(scale):
    rows, targets = normal(6, 5), normal(6, 2, seed=1)
    score = get_score('label-alignment')
    assert score(Given(rows @ rows.T, scale * targets)) == pytest.approx(score(Given(rows @ rows.T, targets)))


@pytest.mark.parametrize('targets', [torch.tensor([2, 2, 2, 2]), torch.full((4, 2), 0.3)], ids=['class', 'value'])
def test_alignment_needs_two_kinds_of_targets(targets):
    with pytest.raises(ScoringError, match='all targets of the minibatch are the same: label-alignment needs'):
        get_score('label-alignment')(Given(normal(4, 4), targets))


def test_alignment_needs_targets_in_one_tensor():
    with pytest.raises(ScoringError, match='label-alignment needs targets that are one tensor'):
        get_score('label-alignment')(Given(normal(4, 4), {'class': torch.arange(4)}))


# Signal to noise.


@given(st.integers(2, 6), st.integers(0, 99), st.sampled_from([1e-9, 1.0, 1e9]))
def test_signal_to_noise_has_no_scale_and_leaves_out_what_is_constant(n, seed, scale):
    values = {'a': normal(n, 3, 4, seed=seed), 'b': normal(n, 5, seed=seed + 1)}
    spared = {name: scale * g for name, g in values.items()} | {'zero': torch.zeros(n, 4, 2), 'one': torch.ones(n, 2, 2)}
    for name in ('snr', 'zico'):
        assert get_score(name)(Given(per_sample=spared)) == pytest.approx(get_score(name)(Given(per_sample=values)))


def test_signal_to_noise_by_hand():
    values = {'a': torch.tensor([[[1.0, 2.0]], [[3.0, -2.0]]]), 'b': torch.tensor([[0.0], [4.0]])}
    # deviations 1, 2 and 2; mean sizes 2, 2 and 2
    assert get_score('snr')(Given(per_sample=values)) == pytest.approx(math.log(1 + 2 + 1) + math.log(1 + 1))
    assert get_score('zico')(Given(per_sample=values)) == pytest.approx(math.log(2 + 1))


def test_zico_of_samples_that_are_the_same():
    with pytest.raises(ScoringError, match='no parameter of two dimensions or more has gradients that differ'):
        get_score('zico')(Given(per_sample={'a': torch.ones(4, 2, 2), 'b': normal(4, 3)}))


@pytest.mark.parametrize('value', [0.1, 1 / 3, 0.7])
@pytest.mark.parametrize('n', [3, 6, 7])
def test_signal_to_noise_takes_no_rounding_for_deviation(value, n):
    """The mean of equal numbers need not be that number."""
    values = {'a': normal(n, 3, 4)}
    same = {'same': torch.full((n, 2, 2), value)}
    assert get_score('snr')(Given(per_sample=values | same)) == pytest.approx(get_score('snr')(Given(per_sample=values)))


# Networks.


def network_and_data(scale=1.0):
    with seeded(1):
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Conv2d(6, 8, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    with torch.no_grad():
        network[3].weight.mul_(scale)
    return network, (normal(6, 3, 5, 5).float(), torch.tensor([0, 4, 2, 1, 3, 2]))


FREE_OF_SCALE = [
    'gradient-rank',
    'snr',
    'zico',
    'channel-entropy',
    'channel-rank',
    'gram-entropy',
    'gram-condition',
    'gram-effective-rank',
]


@pytest.mark.parametrize('name', FREE_OF_SCALE)
@pytest.mark.parametrize('scale', [1e-3, 7.0, 1e4])
def test_scale_of_the_loss_does_not_matter(name, scale):
    network, (x, y) = network_and_data()
    network, x = network.double(), x.double()
    scores = [
        GradientKernelEvaluator((x, y), name, loss=loss).score(network)
        for loss in (F.cross_entropy, lambda outputs, targets: scale * F.cross_entropy(outputs, targets))
    ]
    assert scores[1] == pytest.approx(scores[0], rel=1e-6)


@given(st.floats(-18, 18), st.integers(0, 5))
def test_gradient_rank_does_not_depend_on_the_scale_of_the_loss_in_single_precision(exponent, seed):
    network, (x, y) = network_and_data()
    scale = 10**exponent
    scores = [
        GradientKernelEvaluator((x, y), 'gradient-rank', seed=seed, loss=loss).score(network)
        for loss in (F.cross_entropy, lambda outputs, targets: scale * F.cross_entropy(outputs, targets))
    ]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)


def test_gradient_rank_of_a_layer_without_gradient_is_nothing():
    with seeded(1):
        dead = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)).double()
    with torch.no_grad():
        dead[0].bias.fill_(-100)
    x, y = normal(6, 4), torch.tensor([0, 4, 2, 1, 3, 2])
    kernel = GradientKernelEvaluator((x, y), 'gradient-rank')
    assert kernel.score(dead) == 0
    with pytest.raises(ScoringError, match='no parameter of two dimensions or more receives a gradient'):
        kernel.score(nn.Sequential(nn.Linear(4, 5).requires_grad_(False), nn.LayerNorm(5)).double())


def test_gradient_rank_by_hand():
    mean = {
        'two': torch.diag(torch.tensor([2.0, 2.0, 0.0])),
        'vector': torch.ones(50),
        'kernel': torch.ones(2, 3, 2, 2),
        'half': torch.tensor([[3.0, 0.0], [0.0, 1.0]]),
    }
    # ranks 2, 1 and (3 + 1)^2 / (9 + 1)
    expected = 4 * math.log(9) + math.log(24) + 1.6**2 * math.log(4)
    gradients = Given(per_sample={name: g[None] for name, g in mean.items()})
    assert get_score('gradient-rank')(gradients) == pytest.approx(expected)


def test_no_convolution_or_linear_layer():
    network = nn.Sequential(nn.Flatten(), nn.LayerNorm(8)).double()
    for name in ('channel-entropy', 'channel-rank'):
        with pytest.raises(ScoringError, match='no convolution or linear layer receives a gradient'):
            GradientKernelEvaluator((normal(6, 8), torch.arange(6)), name).score(network)


@pytest.mark.parametrize('wrong', [math.nan, math.inf])
@pytest.mark.parametrize('name', [name for name in score_names() if name not in ('az-complexity', *TARGETS)])
def test_gradients_that_are_not_finite_give_no_score(name, wrong):
    """Either the score is not finite and the evaluator says so, or the score itself says why."""
    network, (x, y) = network_and_data()
    network[3] = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Identity())
    network[3][1].forward = lambda x: x * torch.tensor(wrong)
    network[4] = nn.Identity()
    network[2] = nn.ReLU()
    kernel = GradientKernelEvaluator((x, y), name)
    with pytest.raises(ScoringError, match=r'not finite|the score is (nan|-?inf)') as caught:
        kernel.evaluate(network)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize('name', ['label-alignment', 'snr', 'zico'])
def test_one_gradient_that_is_not_finite_gives_no_score(name):
    values = {'a': normal(6, 3, 4), 'b': normal(6, 2, 4)}
    values['b'][2, 1, 1] = math.nan
    given = Given(values['a'].flatten(1) @ values['a'].flatten(1).T + values['b'].sum(), torch.arange(6), values)
    try:
        score = get_score(name)(given)
    except ScoringError as error:
        assert 'not finite' in str(error)
    else:
        assert not math.isfinite(score)


@pytest.mark.parametrize('name', [name for name in score_names() if name.startswith('fisher')])
def test_fisher_is_of_classifiers(name):
    network, (x, y) = network_and_data()
    sentence = 'labels can be drawn from the predictions of a classifier with cross-entropy only'
    with pytest.raises(ScoringError, match=sentence):
        GradientKernelEvaluator((x, F.one_hot(y, 5).float()), name, loss=nn.MSELoss()).score(network)
    with pytest.raises(ScoringError, match=sentence):
        GradientKernelEvaluator((normal(6, 3, 8), torch.zeros(6, 5, dtype=torch.long)), name).score(
            nn.Conv1d(3, 4, 4).double()
        )


# Spaces of the hub.


@pytest.fixture(scope='module')
def of_hub():
    return {
        space: (
            random_network(space).float(),
            tuple(part.float() if part.is_floating_point() else part for part in images(space, 4)),
        )
        for space in ('NasBench201', 'DARTS', 'AutoformerSpace')
    }


@pytest.mark.parametrize('space', ['NasBench201', 'DARTS', 'AutoformerSpace'])
@pytest.mark.parametrize('name', [name for name in score_names() if name not in TARGETS])  # they need more samples
def test_every_score_of_the_hub_is_finite_and_reproducible(of_hub, name, space):
    network, (x, y) = of_hub[space]
    y = torch.tensor([1, 7, 1, 3])
    try:
        scores = [GradientKernelEvaluator((x, y), name, seed=seed).score(network) for seed in (2, 2)]
    except NotApplicable:
        assert space == 'AutoformerSpace'  # it has no ReLU
        return
    except ScoringError as error:
        assert name == 'az-trainability' and 'a block passes on just what it gets' in str(error)
        return
    assert type(scores[0]) is float and math.isfinite(scores[0])
    assert scores[0] == scores[1]


def test_steady_rank_by_hand():
    mean = {'two': torch.diag(torch.tensor([2.0, 2.0, 0.0])), 'vector': torch.ones(7)}
    size = math.sqrt((8 + 7) / 16)
    gradients = Given(per_sample={name: g[None] for name, g in mean.items()})
    assert get_score('steady-rank')(gradients) == pytest.approx(4 * math.log(9) * math.log(1 + 1 / size))


def test_steady_rank_prefers_the_smaller_gradient_of_the_same_rank():
    small, large = (Given(per_sample={'w': scale * torch.eye(3)[None]}) for scale in (1.0, 10.0))
    assert get_score('steady-rank')(small) > get_score('steady-rank')(large) > 0


def test_steady_rank_of_no_gradient_at_all():
    with pytest.raises(ScoringError, match='the gradient is zero everywhere'):
        get_score('steady-rank')(Given(per_sample={'w': torch.zeros(1, 3, 3)}))
