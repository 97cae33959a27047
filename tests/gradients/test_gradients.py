"""The scores of many kinds of networks are those of the reference, in one pass, with any micro-batch."""

from __future__ import annotations

import copy

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import (
    CLASSES,
    NORMALIZATIONS,
    SCORES,
    SEQUENCE_NETWORKS,
    Lambda,
    assert_reference,
    batch_of,
    branching,
    convolutional,
    gradients_of,
    kernel_of,
)
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nni_knas.gradients import seeded, undisturbed

# Random networks.


class RandomNetwork(nn.Module):
    """A stack of layers, of which some stand in it twice, and some parameters that nothing depends on."""

    def __init__(self, layers, unused):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.unused = nn.ParameterList([nn.Parameter(torch.randn(60)) for _ in range(unused)])

    def forward(self, x):
        return self.layers(x)


CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
DROPOUTS = {0: nn.Dropout, 1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}
ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Softplus, nn.PReLU]


@st.composite
def layers_after(draw, dims, channels, sizes):
    """One or two layers that keep the number of channels and the sizes."""
    kinds = ['weights', 'activation', 'dropout', 'batch', 'layer', 'group', 'twice']
    values = int(torch.Size(sizes).numel())
    kind = draw(st.sampled_from(kinds + ['instance'] if values > 1 else kinds))
    if kind in ('weights', 'twice'):
        layer = CONVS[dims](channels, channels, 3, padding=1) if dims else nn.Linear(channels, channels)
        return [layer, nn.Tanh(), layer] if kind == 'twice' else [layer]
    if kind == 'activation':
        return [draw(st.sampled_from(ACTIVATIONS))()]
    if kind == 'dropout':
        return [draw(st.sampled_from([DROPOUTS[dims], nn.AlphaDropout]))(0.5)]
    if kind == 'batch':
        affine, tracked = draw(st.booleans()), draw(st.booleans())
        momentum = draw(st.sampled_from([0.1, None]))
        # Tanh: values that normalisation puts at 0 up to rounding are not to meet the kink of a ReLU.
        return [BATCH_NORMS[dims](channels, affine=affine, track_running_stats=tracked, momentum=momentum), nn.Tanh()]
    if kind == 'layer':
        return [nn.LayerNorm([channels, *sizes]), nn.Tanh()]
    if kind == 'group':
        return [nn.GroupNorm(2, channels), nn.Tanh()]
    return [INSTANCE_NORMS[dims](channels, affine=draw(st.booleans()), track_running_stats=draw(st.booleans())), nn.Tanh()]


@st.composite
def networks(draw):
    """A network in double precision and the shape of a sample."""
    seed = draw(st.integers(0, 1000))
    dims = draw(st.integers(0, 3))
    with seeded(seed):
        sizes = draw(st.lists(st.integers(1, 3), min_size=dims, max_size=dims))
        shape = (draw(st.integers(1, 4)), *sizes)
        channels = draw(st.sampled_from([4, 6, 8]))
        first = CONVS[dims](shape[0], channels, 1) if dims else nn.Linear(shape[0], channels)
        layers = [first]
        for _ in range(draw(st.integers(0, 4))):
            layers += draw(layers_after(dims, channels, sizes))
        layers.append(nn.Flatten())
        width = draw(st.sampled_from([10, 12]))
        layers.append(nn.Linear(channels * int(torch.Size(sizes).numel()), width))
        for _ in range(draw(st.integers(0, 2))):
            layers += draw(layers_after(0, width, []))
        layers.append(nn.Linear(width, CLASSES))
        network = RandomNetwork(layers, unused=draw(st.integers(0, 2))).double()
        for module in network.modules():  # norms off their initial values, as in a network that starts elsewhere
            if getattr(module, 'affine', False) or isinstance(module, nn.LayerNorm):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
            if getattr(module, 'running_mean', None) is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
        for parameter in list(network.layers.parameters())[:-2]:  # the last layer can always learn
            parameter.requires_grad = draw(st.integers(0, 4)) > 0
    return network, shape


def custom_loss(outputs, targets):
    return (outputs.log_softmax(-1).exp() - F.one_hot(targets, CLASSES)).abs()


LOSSES = {
    'default': (None, False),
    'smoothed': (nn.CrossEntropyLoss(label_smoothing=0.1), False),
    'weighted sum': (nn.CrossEntropyLoss(torch.arange(1.0, 6).double(), reduction='sum'), False),
    'unreduced': (nn.CrossEntropyLoss(reduction='none'), False),
    'mse': (F.mse_loss, True),
    'huber': (nn.HuberLoss(), True),
    'own': (custom_loss, False),
    'lambda': (lambda outputs, targets: (outputs * targets).sum().square(), True),
}


@given(
    drawn=networks(),
    n=st.integers(4, 7),
    loss=st.sampled_from(sorted(LOSSES)),
    normalization=st.sampled_from(NORMALIZATIONS),
    seed=st.integers(0, 100),
)
@settings(max_examples=120)
def test_random_networks_get_the_reference_scores(drawn, n, loss, normalization, seed):
    network, shape = drawn
    function, is_regression = LOSSES[loss]
    x, y = batch_of(n, *shape, seed=seed)
    assert_reference(network, x, batch_of(n, CLASSES, seed=seed + 1)[0] if is_regression else y, normalization, function)


@pytest.mark.parametrize('n', [1, 2, 3])
@pytest.mark.parametrize('score', ['mgm', 'mgm-sampled'])
def test_few_samples(score, n):
    x, y = batch_of(n, 3, 4, 4)
    assert_reference(convolutional(), x, y, scores=[score])


def test_odd_sample_is_left_out_of_the_halves():
    network = convolutional()
    x, y = batch_of(7, 3, 4, 4)
    assert_reference(network, x, y, scores=['half-covariance'])
    assert kernel_of(x, y, 'half-covariance').score(network) == pytest.approx(
        kernel_of(x[:6], y[:6], 'half-covariance').score(network), rel=1e-10
    )


def test_normalizations_differ():
    x, y = batch_of(6, 3, 4, 4)
    scores = [kernel_of(x, y, normalization=each).score(convolutional()) for each in NORMALIZATIONS]
    assert scores[0] != pytest.approx(scores[1], rel=1e-3)


def test_sampled_entries_depend_on_the_seed():
    network = convolutional()
    x, y = batch_of(6, 3, 4, 4)
    scores = [kernel_of(x, y, 'mgm-sampled', seed=seed).score(network) for seed in (0, 1, 2)]
    assert scores == [pytest.approx(reference.mgm_sampled(network, x, y, seed=seed), rel=1e-6) for seed in (0, 1, 2)]
    assert len(set(scores)) == 3


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('name', SEQUENCE_NETWORKS)
def test_sequence_networks(name, normalization):
    with seeded(2):
        network = SEQUENCE_NETWORKS[name]().double()
    x, y = batch_of(6, 5, 8)
    assert_reference(network, x, y, normalization)


def test_control_flow_that_depends_on_the_data():
    with seeded(2):
        network = branching().double()
    x, y = batch_of(6, 5, 8)
    means = x.mean(1).sum(1)
    assert (means > 0).any() and (means <= 0).any()
    assert_reference(network, x, y, scores=['mgm', 'mgm-sampled'])
    per_sample = gradients_of(network, x, y).per_sample()
    expected = reference.filled(reference.gradients_of_samples(network, x, y))
    for i, name in enumerate(per_sample):
        torch.testing.assert_close(per_sample[name], torch.stack([row[i] for row in expected]))


def test_operations_without_a_rule_of_functorch_make_no_noise(recwarn):
    """Torch warns that it is slower, which a user can do nothing about."""

    def forward(first, head, x):
        pooled, places = F.max_pool1d(first(x).unsqueeze(1), 2, return_indices=True)
        return head(F.max_unpool1d(pooled, places, 2).squeeze(1))

    with seeded(2):
        network = Lambda(forward, nn.Linear(8, 10), nn.Linear(10, CLASSES)).double()
    assert_reference(network, *batch_of(6, 8))
    assert not recwarn.list


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_per_sample_gradients_and_their_mean(normalization):
    network = convolutional()
    network[0].bias.requires_grad = False
    x, y = batch_of(5, 3, 4, 4)
    gradients = gradients_of(network, x, y, normalization=normalization)
    with undisturbed(network):
        mean, per_sample = gradients.mean(), gradients.per_sample()
    expected = reference.gradients_of_samples(network, x, y, normalization=normalization)
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    assert list(mean) == list(per_sample) == names and '0.bias' not in names
    for i, name in enumerate(names):
        rows = torch.stack([row[i] for row in expected])
        torch.testing.assert_close(per_sample[name], rows)
        torch.testing.assert_close(mean[name], rows.mean(0))


def test_embedding():
    with seeded(0):
        network = nn.Sequential(nn.Embedding(20, 6, padding_idx=0), nn.Flatten(), nn.Linear(24, CLASSES)).double()
        tokens = torch.randint(0, 20, (6, 4))
    assert_reference(network, tokens, batch_of(6, 1)[1])


def test_parameters_that_stand_in_the_network_twice():
    with seeded(0):
        table, head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        head.weight = table.weight
        shared = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        network = Lambda(
            lambda embed, first, second, head, tokens: head(second(first(embed(tokens)).mean(1))),
            table,
            shared,
            shared,
            head,
        ).double()
        tokens = torch.randint(0, 20, (6, 4))
    parameters = dict(network.named_parameters())
    assert_reference(network, tokens, batch_of(6, 1)[1])
    assert all(p is parameters[name] and type(p) is nn.Parameter for name, p in network.named_parameters())
    assert network.parts[3].weight is network.parts[0].weight is table.weight


@pytest.mark.parametrize(
    'build',
    [
        lambda sparse: nn.Sequential(nn.Embedding(20, 8, sparse=sparse), nn.Flatten(), nn.Linear(32, CLASSES)),
        lambda sparse: nn.Sequential(nn.EmbeddingBag(20, 8, sparse=sparse), nn.Linear(8, CLASSES)),
    ],
    ids=['embedding', 'bag'],
)
def test_sparse_gradients(build):
    with seeded(0):
        dense, sparse = build(False).double(), build(True).double()
        tokens = torch.randint(0, 20, (6, 4))
    sparse.load_state_dict(dense.state_dict())
    y = batch_of(6, 1)[1]
    assert_reference(dense, tokens, y)
    for score in SCORES:
        kernel = kernel_of(tokens, y, score)
        assert kernel.score(sparse) == pytest.approx(kernel.score(dense), rel=1e-10)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_samples_of_several_rows(normalization):
    """Tokens or frames are often folded into the first dimension: all rows of a sample share its statistics."""

    def tokens(layer, norm, head, x):
        return head(norm(layer(x.flatten(0, 1))).tanh().unflatten(0, (len(x), -1)).mean(1))

    def frames(layer, norm, head, x):
        return head(norm(layer(x.flatten(0, 1).unsqueeze(1))).tanh().mean(2).unflatten(0, (len(x), -1)).mean(1))

    x, y = batch_of(6, 4, 8)
    with seeded(0):
        head = nn.Linear(10, CLASSES)
        assert_reference(Lambda(tokens, nn.Linear(8, 10), nn.BatchNorm1d(10), head).double(), x, y, normalization)
        assert_reference(Lambda(frames, nn.Conv1d(1, 10, 3), nn.BatchNorm1d(10), head).double(), x, y, normalization)


def test_reparametrised_layers():
    parametrizations = nn.utils.parametrizations
    with seeded(0):
        network = nn.Sequential(
            nn.Linear(8, 10),
            nn.Tanh(),
            parametrizations.weight_norm(nn.Linear(10, 10)),
            nn.Tanh(),
            parametrizations.orthogonal(nn.Linear(10, CLASSES)),
        ).double()
    assert_reference(network, *batch_of(6, 8))


def test_activation_checkpointing():
    """The layers are computed a second time on the way back."""

    def forward(conv, norm, head, x):
        return head(checkpoint(lambda x: norm(conv(x)).tanh(), x, use_reentrant=False).mean(2))

    with seeded(0):
        network = Lambda(forward, nn.Conv1d(4, 10, 3), nn.BatchNorm1d(10), nn.Linear(10, CLASSES)).double()
    assert_reference(network, *batch_of(6, 4, 8), scores=['mgm'])


def test_copies_of_a_network_within_have_norms_of_their_own():
    network, (x, y) = convolutional(), batch_of(4, 3, 4, 4)
    with undisturbed(network):
        other = copy.deepcopy(network)
        with torch.no_grad():
            other[1].weight.fill_(3)
        found = gradients_of(other, x, y).mean()
        expected = gradients_of(network, x, y).mean()
    assert not torch.allclose(found['7.weight'], expected['7.weight'])
    assert 'forward' not in vars(network[1])
