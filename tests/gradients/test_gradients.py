"""The scores of many kinds of networks are those of the reference, in one pass, with any micro-batch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import reference
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nni.nas.hub.pytorch import DARTS
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointError, checkpoint

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import Gradients, Minibatch, MisfitError, ScoringError, seeded, undisturbed

CLASSES = 5
SCORES = sorted(reference.SCORES)
NORMALIZATIONS = ['sample', 'batch']


def kernel_of(x, y, score='mgm', **arguments):
    return GradientKernelEvaluator((x, y), score, **arguments)


def assert_reference(network, x, y, normalization='sample', loss=None, scores=SCORES):
    """All scores of the network are the reference's, to 1e-6."""
    for name in scores:
        expected = reference.SCORES[name](network, x, y, loss=loss, normalization=normalization)
        score = kernel_of(x, y, name, loss=loss, normalization=normalization).score(network)
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-13), name


def batch_of(n, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, *shape, generator=generator, dtype=torch.float64),
            torch.randint(0, CLASSES, (n,), generator=generator))


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
    'weighted sum': (nn.CrossEntropyLoss(torch.arange(1., 6).double(), reduction='sum'), False),
    'unreduced': (nn.CrossEntropyLoss(reduction='none'), False),
    'mse': (F.mse_loss, True),
    'huber': (nn.HuberLoss(), True),
    'own': (custom_loss, False),
    'lambda': (lambda outputs, targets: (outputs * targets).sum().square(), True),
}


@given(drawn=networks(), n=st.integers(4, 7), loss=st.sampled_from(sorted(LOSSES)),
       normalization=st.sampled_from(NORMALIZATIONS), seed=st.integers(0, 100))
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
        kernel_of(x[:6], y[:6], 'half-covariance').score(network), rel=1e-10)


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


def convolutional(norm=nn.BatchNorm2d):
    with seeded(3):
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm(6), nn.Tanh(), nn.Conv2d(6, 6, 3), norm(6), nn.Tanh(),
                             nn.Flatten(), nn.Linear(24, CLASSES)).double()


class Lambda(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, *arguments, **keywords):
        return self.function(*self.parts, *arguments, **keywords)


# Kinds of layers.


def attention():
    return Lambda(lambda attend, head, x: head(attend(x, x, x, need_weights=False)[0].mean(1)),
                  nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True), nn.Linear(8, CLASSES))


def attention_with_weights():
    return Lambda(lambda attend, head, x: head(attend(x, x, x)[0].mean(1)),
                  nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True), nn.Linear(8, CLASSES))


def encoder(norm_first=False):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True, norm_first=norm_first)
    return Lambda(lambda encode, head, x: head(encode(x)[:, 0]),
                  nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, CLASSES))


def scaled_attention():
    def forward(project, head, x):
        q, k, v = project(x).chunk(3, -1)
        return head(F.scaled_dot_product_attention(q, k, v).mean(1))
    return Lambda(forward, nn.Linear(8, 24), nn.Linear(8, CLASSES))


def recurrent(kind):
    return Lambda(lambda layer, head, x: head(layer(x)[0][:, -1]),
                  kind(8, 10, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(10, CLASSES))


def branching():
    def forward(first, second, head, x):  # which layer depends on the data: no function transform can follow this
        rows = [(first if float(row.sum()) > 0 else second)(row) for row in x.mean(1)]
        return head(torch.stack(rows).tanh())
    return Lambda(forward, nn.Linear(8, 10), nn.Linear(8, 10), nn.Linear(10, CLASSES))


SEQUENCE_NETWORKS = {
    'attention': attention,
    'attention with weights': attention_with_weights,
    'encoder': encoder,
    'encoder, norm first': lambda: encoder(norm_first=True),
    'scaled dot product': scaled_attention,
    'LSTM': lambda: recurrent(nn.LSTM),
    'GRU': lambda: recurrent(nn.GRU),
    'RNN': lambda: recurrent(nn.RNN),
    'without parameters': lambda: Lambda(lambda pool, flat, head, x: head(flat(pool(x))),
                                         nn.AvgPool1d(2), nn.Flatten(), nn.Linear(20, CLASSES)),
    'conv and norm over time': lambda: Lambda(lambda conv, norm, head, x: head(norm(conv(x)).tanh().mean(2)),
                                              nn.Conv1d(5, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)),
    'norm and recurrence': lambda: Lambda(lambda norm, layer, head, x: head(layer(norm(x))[0][:, -1]),
                                          nn.BatchNorm1d(5), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, CLASSES)),
}


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


def gradients_of(network, x, y, **arguments):
    kernel = kernel_of(x, y, **arguments)
    return Gradients(network, kernel.minibatch, normalization=kernel.normalization)


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
        network = Lambda(lambda embed, first, second, head, tokens: head(second(first(embed(tokens)).mean(1))),
                         table, shared, shared, head).double()
        tokens = torch.randint(0, 20, (6, 4))
    parameters = dict(network.named_parameters())
    assert_reference(network, tokens, batch_of(6, 1)[1])
    assert all(p is parameters[name] and type(p) is nn.Parameter for name, p in network.named_parameters())
    assert network.parts[3].weight is network.parts[0].weight is table.weight


@pytest.mark.parametrize('build', [lambda sparse: nn.Sequential(nn.Embedding(20, 8, sparse=sparse), nn.Flatten(),
                                                                nn.Linear(32, CLASSES)),
                                   lambda sparse: nn.Sequential(nn.EmbeddingBag(20, 8, sparse=sparse),
                                                                nn.Linear(8, CLASSES))], ids=['embedding', 'bag'])
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
        network = nn.Sequential(nn.Linear(8, 10), nn.Tanh(), parametrizations.weight_norm(nn.Linear(10, 10)), nn.Tanh(),
                                parametrizations.orthogonal(nn.Linear(10, CLASSES))).double()
    assert_reference(network, *batch_of(6, 8))


@pytest.mark.xfail(strict=True, raises=CheckpointError,
                   reason='the layers are computed a second time outside of the scoring mode')
def test_activation_checkpointing():
    def forward(conv, norm, head, x):
        return head(checkpoint(lambda x: norm(conv(x)).tanh(), x, use_reentrant=False).mean(2))

    with seeded(0):
        network = Lambda(forward, nn.Conv1d(4, 10, 3), nn.BatchNorm1d(10), nn.Linear(10, CLASSES)).double()
    assert_reference(network, *batch_of(6, 4, 8), scores=['mgm'])


# Inputs and outputs.


def two_layers(function):
    with seeded(4):
        return Lambda(function, nn.Linear(8, 10), nn.Linear(10, CLASSES)).double()


OUTPUTS = {
    'tensor': lambda main, other: main,
    'tuple': lambda main, other: (main, other),
    'list': lambda main, other: [main, other],
    'logits last': lambda main, other: {'hidden': other, 'logits': main},
    'tuple of dict': lambda main, other: ({'logits': main}, other),
}


@pytest.mark.parametrize('kind', OUTPUTS)
def test_outputs(kind):
    network = two_layers(lambda first, second, x: OUTPUTS[kind](second(first(x).tanh()), first(x)))
    plain = two_layers(lambda first, second, x: second(first(x).tanh()))
    x, y = batch_of(6, 8)
    assert_reference(network, x, y)
    for score in SCORES:
        assert kernel_of(x, y, score).score(network) == pytest.approx(kernel_of(x, y, score).score(plain), rel=1e-10)


def test_output_object_with_logits():
    network = two_layers(lambda first, second, x: SimpleNamespace(hidden=x, logits=second(first(x).tanh())))
    plain = two_layers(lambda first, second, x: second(first(x).tanh()))
    x, y = batch_of(6, 8)
    for score in SCORES:
        assert kernel_of(x, y, score).score(network) == pytest.approx(kernel_of(x, y, score).score(plain), rel=1e-10)


def test_own_loss_receives_all_outputs():
    def with_auxiliary(outputs, targets):
        return F.cross_entropy(outputs[0], targets) + 0.4 * outputs[1].square().mean()

    network = two_layers(lambda first, second, x: (second(first(x).tanh()), first(x)))
    x, y = batch_of(6, 8)
    assert_reference(network, x, y, loss=with_auxiliary)
    assert kernel_of(x, y, loss=with_auxiliary).score(network) != pytest.approx(kernel_of(x, y).score(network), rel=1e-3)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_auxiliary_head_of_darts(normalization):
    with seeded(1):
        space = DARTS(width=4, num_cells=3, dataset='cifar')
        sample = {}
        space.random(sample)
        network = DARTS.frozen_factory(sample)(width=4, num_cells=3, dataset='cifar', auxiliary_loss=True).double()
    x, y = batch_of(2, 3, 32, 32)
    assert isinstance(network.train()(x), tuple)
    assert_reference(network, x, y, normalization, scores=['mgm'])


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_tuple_and_dict_inputs(normalization):
    def forward(first, second, x, scale=None):
        return second(first(x).tanh() * scale)

    network = two_layers(forward)
    x, y = batch_of(6, 8)
    scale = batch_of(6, 10, seed=1)[0]
    assert_reference(network, (x, scale), y, normalization)
    assert_reference(network, {'scale': scale, 'x': x}, y, normalization)


def test_network_that_takes_a_tuple_or_a_dict_as_one_argument():
    class Paired(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 10), nn.Linear(10, CLASSES)

        def forward(self, pair):
            x, scale = pair.values() if isinstance(pair, dict) else pair
            return self.second(self.first(x).tanh() * scale)

    with seeded(4):
        network = Paired().double()
    x, y = batch_of(6, 8)
    scale = batch_of(6, 10, seed=1)[0]
    plain = two_layers(lambda first, second, x, scale: second(first(x).tanh() * scale))
    for score in SCORES:
        expected = kernel_of((x, scale), y, score).score(plain)
        assert kernel_of((x, scale), y, score).score(network) == pytest.approx(expected, rel=1e-10)
        assert kernel_of({'x': x, 'scale': scale}, y, score).score(network) == pytest.approx(expected, rel=1e-10)


def test_targets_of_several_parts():
    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets['class']) + F.mse_loss(outputs[:, :1], targets['value'])

    x, y = batch_of(6, 8)
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    assert_reference(network, x, {'class': y, 'value': batch_of(6, 1, seed=1)[0]}, loss=loss)


def test_classes_along_a_sequence():
    x, _ = batch_of(6, 3, 8)
    network = two_layers(lambda first, second, x: second(first(x).tanh()).transpose(1, 2))
    assert_reference(network, x, torch.arange(18).reshape(6, 3) % CLASSES)


def test_class_probabilities_as_targets():
    x, _ = batch_of(6, 8)
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    assert_reference(network, x, batch_of(6, CLASSES, seed=1)[0].softmax(1))


@pytest.mark.parametrize('score', SCORES)
def test_ignored_targets_have_zero_gradients(score):
    x, y = batch_of(6, 8)
    y[4:] = -100
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    expected = reference.SCORES[score](network, x, y, loss=nn.CrossEntropyLoss(reduction='sum'))
    assert expected != 0
    assert kernel_of(x, y, score).score(network) == pytest.approx(expected, rel=1e-6)


# What it costs.


class Counted(nn.Module):
    """Counts the forward and the backward passes through a network."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.forwards = self.backwards = 0

    def forward(self, x):
        self.forwards += 1
        out = self.network(x)
        if out.requires_grad:
            out.register_hook(self.count_backward)
        return out

    def count_backward(self, gradient):
        self.backwards += 1


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('score', ['mgm', 'mgm-sampled'])
@pytest.mark.parametrize('n', [2, 5, 40])
def test_mgm_takes_one_forward_and_one_backward(score, n, normalization):
    network = Counted(convolutional())
    kernel_of(*batch_of(n, 3, 4, 4), score, normalization=normalization).score(network)
    assert (network.forwards, network.backwards) == (1, 1)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_half_covariance_does_not_loop_over_samples(normalization):
    def forwards(n):
        network = convolutional()
        seen = []
        network.register_forward_hook(lambda *_: seen.append(1))
        kernel_of(*batch_of(n, 3, 4, 4), 'half-covariance', normalization=normalization).score(network)
        return len(seen)

    assert forwards(4) == forwards(24) <= 2


def test_half_covariance_of_a_recurrent_network_loops_over_samples():
    network = recurrent(nn.LSTM).double()
    seen = []
    network.register_forward_hook(lambda *_: seen.append(1))
    kernel_of(*batch_of(12, 5, 8), 'half-covariance').score(network)
    assert len(seen) >= 12


# Micro-batches and memory.


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('micro_batch', range(1, 9))
def test_micro_batch_changes_nothing(score, micro_batch):
    network = convolutional()
    x, y = batch_of(7, 3, 4, 4)
    whole = kernel_of(x, y, score).score(network)
    assert kernel_of(x, y, score, micro_batch=micro_batch).score(network) == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize('micro_batch', [1, 2, 5])
def test_micro_batch_with_coupled_normalization_but_no_batch_norm(micro_batch):
    network = convolutional(lambda channels: nn.GroupNorm(2, channels))
    x, y = batch_of(7, 3, 4, 4)
    for score in SCORES:
        whole = kernel_of(x, y, score, normalization='batch').score(network)
        parts = kernel_of(x, y, score, normalization='batch', micro_batch=micro_batch).score(network)
        assert parts == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize('score', SCORES)
def test_batch_normalization_with_micro_batch_is_refused(score):
    kernel = kernel_of(*batch_of(7, 3, 4, 4), score, normalization='batch', micro_batch=3)
    with pytest.raises(ScoringError, match='needs the whole minibatch at once'):
        kernel.score(convolutional())


def physical_size(x):
    """Number of samples that a tensor holds, those that a function transform hides included."""
    values = x.numel() // len(x)
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.numel() // values


class Limited(nn.Module):
    """A network that runs out of memory with more than some number of samples."""

    def __init__(self, network, limit, error):
        super().__init__()
        self.network, self.limit, self.error = network, limit, error
        self.sizes = []

    def forward(self, x):
        self.sizes.append(physical_size(x))
        if self.sizes[-1] > self.limit:
            raise self.error
        return self.network(x)


def refusal(allocate):
    """What is raised where so much memory is asked for that there is no address for it."""
    with pytest.raises(Exception) as caught:
        allocate(2**50)
    return caught.value


OUT_OF_MEMORY = {'CUDA': torch.OutOfMemoryError('CUDA out of memory.'), 'MPS': RuntimeError('MPS backend out of memory'),
                 'torch': refusal(lambda size: torch.empty(size, dtype=torch.uint8)), 'python': refusal(bytearray)}


@pytest.mark.parametrize('error', OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
@pytest.mark.parametrize('score', SCORES)
def test_out_of_memory_halves_the_part(score, error):
    network = Limited(convolutional(), 3, error)
    kernel = kernel_of(*batch_of(13, 3, 4, 4), score)
    whole = kernel.score(network.network)
    assert kernel.score(network) == pytest.approx(whole, rel=1e-10)
    assert max(network.sizes) == 13
    assert sum(size for size in network.sizes if 1 < size <= 3) >= 12  # parts, not a loop over single samples


def test_halving_goes_on_from_where_it_was():
    network = Limited(convolutional(), 3, MemoryError())
    kernel_of(*batch_of(13, 3, 4, 4)).score(network)
    assert network.sizes == [13, 6, 3, 3, 3, 3, 1]


def test_out_of_memory_with_a_single_sample_is_passed_on():
    error = torch.OutOfMemoryError('CUDA out of memory.')
    with pytest.raises(torch.OutOfMemoryError) as caught:
        kernel_of(*batch_of(5, 3, 4, 4)).score(Limited(convolutional(), 0, error))
    assert caught.value is error


def test_out_of_memory_with_coupled_samples_says_what_to_do():
    with pytest.raises(ScoringError, match='take a smaller batch_size'):
        kernel_of(*batch_of(8, 3, 4, 4), normalization='batch').score(Limited(convolutional(), 4, MemoryError()))


# Noise.


class DropPath(nn.Module):
    def forward(self, x):
        return x * torch.rand(len(x), *[1] * (x.dim() - 1)).ge(0.5).to(x) if self.training else x


DROPOUT_FUNCTIONS = {
    'F.dropout': lambda x: F.dropout(x, 0.5),
    'F.dropout inplace': lambda x: F.dropout(x * 1, 0.5, True, True),
    'F.dropout keywords': lambda x: F.dropout(input=x, p=0.5, training=True),
    'F.alpha_dropout': lambda x: F.alpha_dropout(x, 0.5, True),
    'F.feature_alpha_dropout': lambda x: F.feature_alpha_dropout(x, 0.5, True),
    'F.dropout1d': lambda x: F.dropout1d(x, 0.5),
    'torch.dropout': lambda x: torch.dropout(x, 0.5, True),
    'DropPath': DropPath(),
    'nn.Dropout': nn.Dropout(0.5),
    'nn.AlphaDropout': nn.AlphaDropout(0.5),
}


@pytest.mark.parametrize('name', DROPOUT_FUNCTIONS)
@pytest.mark.parametrize('score', SCORES)
def test_dropout_is_off(score, name):
    drop = DROPOUT_FUNCTIONS[name]
    noise = drop if isinstance(drop, nn.Module) else nn.Identity()
    with seeded(4):
        layers = nn.Linear(8, 10), nn.Linear(10, CLASSES)
    noisy = Lambda(lambda a, b, noise, x: b(drop(a(x).tanh())), *layers, noise).double()
    quiet = Lambda(lambda a, b, x: b(a(x).tanh()), *layers).double()
    kernel = kernel_of(*batch_of(6, 8), score)
    assert kernel.score(noisy) == pytest.approx(kernel.score(quiet), rel=1e-12)


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('rates', [{'dropout_p': 0.4}, {'attn_mask': None, 'dropout_p': 0.9}], ids=str)
def test_dropout_of_scaled_dot_product_attention_is_off(score, rates):
    kernel = kernel_of(*batch_of(6, 5, 8), score)
    network = scaled_attention().double()
    quiet = kernel.score(network)
    network.function = lambda project, head, x: head(
        F.scaled_dot_product_attention(*project(x).chunk(3, -1), **rates).mean(1))
    assert kernel.score(network) == pytest.approx(quiet, rel=1e-12)
    network.function = lambda project, head, x: head(
        F.scaled_dot_product_attention(*project(x).chunk(3, -1), None, 0.4).mean(1))
    assert kernel.score(network) == pytest.approx(quiet, rel=1e-12)


@pytest.mark.parametrize('with_weights', [True, False])
def test_dropout_of_attention_called_as_a_function_is_off(with_weights):
    def network_with(rate):
        def forward(head, attention, x):
            x = x.transpose(0, 1)
            out, _ = F.multi_head_attention_forward(
                x, x, x, 8, 2, attention.in_proj_weight, attention.in_proj_bias, None, None, False, rate,
                attention.out_proj.weight, attention.out_proj.bias, training=True, need_weights=with_weights)
            return head(out.mean(0))
        return Lambda(forward, *parts)

    with seeded(4):
        parts = nn.ModuleList([nn.Linear(8, CLASSES), nn.MultiheadAttention(8, 2)]).double()
    for score in SCORES:
        kernel = kernel_of(*batch_of(6, 5, 8), score)
        assert kernel.score(network_with(0.5)) == pytest.approx(kernel.score(network_with(0.0)), rel=1e-12)


def test_scaled_dot_product_attention_keeps_its_other_arguments():
    def forward(project, head, x):
        q, k, v = project(x).chunk(3, -1)
        return head(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.1).mean(1))

    with seeded(4):
        network = Lambda(forward, nn.Linear(8, 24), nn.Linear(8, CLASSES)).double()
    assert_reference(network, *batch_of(6, 5, 8))


# What cannot be scored.


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('build', [
    lambda: nn.Flatten(),
    lambda: nn.Sequential(nn.Linear(8, 10), nn.Linear(10, CLASSES)).requires_grad_(False),
    lambda: Lambda(lambda layer, x: layer(x).detach(), nn.Linear(8, 10)),
    lambda: Lambda(lambda layer, x: x, nn.Linear(8, 10)),
], ids=['no parameters', 'all frozen', 'detached', 'unused'])
def test_no_gradient(score, build):
    with pytest.raises(ScoringError, match='no parameter'):
        kernel_of(*batch_of(6, 8), score).score(build())


@pytest.mark.parametrize('score', ['mgm-sampled', 'half-covariance'])
def test_no_tensor_of_fifty_entries(score):
    with pytest.raises(ScoringError, match='no parameter tensor of at least 50 entries receives a gradient'):
        kernel_of(*batch_of(6, 8), score).score(nn.Linear(8, CLASSES).double())


def test_batch_norm_of_one_sample_with_batch_statistics():
    network = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.Linear(10, CLASSES)).double()
    x, y = batch_of(1, 8)
    with pytest.raises(ValueError) as of_torch:
        network(x)
    with pytest.raises(MisfitError) as caught:
        kernel_of(x, y, normalization='batch').score(network)
    assert str(caught.value) == f'the network cannot take inputs of shape 1x8 (float64): {of_torch.value}'


# The Gram matrix, the gradients at the outputs of layers, those of the outputs and of the predictions.


KINDS = {
    'gram': lambda gradients: gradients.gram(),
    'at_outputs': lambda gradients: gradients.at_outputs(),
    'of_outputs': lambda gradients: gradients.of_outputs().mean(),
    'of_outputs per sample': lambda gradients: gradients.of_outputs().per_sample(),
    'of_predictions': lambda gradients: gradients.of_predictions().mean(),
    'of_predictions gram': lambda gradients: gradients.of_predictions().gram(),
}


def asked(kind, network, x, y, **arguments):
    with undisturbed(network):
        result = KINDS[kind](Gradients(network, Minibatch(x, y), **arguments))
    return result if isinstance(result, dict) else {kind: result}


def assert_same(a, b):
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('build', [lambda: convolutional(), lambda: recurrent(nn.LSTM).double()], ids=['conv', 'LSTM'])
def test_gram_is_of_dot_products(build, normalization):
    with seeded(2):
        network = build()
    x, y = batch_of(6, 3, 4, 4) if isinstance(network, nn.Sequential) else batch_of(6, 5, 8)
    gram = asked('gram', network, x, y, normalization=normalization)['gram']
    rows = [torch.cat([g.flatten() for g in row]) for row in
            reference.gradients_of_samples(network, x, y, normalization=normalization)]
    assert gram.dtype == torch.float64
    torch.testing.assert_close(gram, torch.stack([torch.stack([a @ b for b in rows]) for a in rows]))


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_gram_is_kept_and_its_mean_is_mgm(normalization):
    network = convolutional()
    gradients = Gradients(network, Minibatch(*batch_of(6, 3, 4, 4)), normalization=normalization)
    with undisturbed(network):
        gram = gradients.gram()
        assert gradients.gram() is gram
        mgm = sum(float(g.square().sum()) for g in gradients.mean().values())
    assert float(gram.mean()) == pytest.approx(mgm, rel=1e-9)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@given(asks=st.lists(st.one_of(st.none(), st.sets(st.integers(0, 7), min_size=1),
                               st.sampled_from(['gram', 'mean', 'at_outputs', 'of_outputs', 'used'])), max_size=5))
@example(asks=[{0}, 'gram', {1}])
@example(asks=[{0}, {1}, {0, 1}])
@settings(max_examples=15)
def test_per_sample_gradients_are_complete_whatever_was_asked_before(normalization, asks):
    network = convolutional()
    x, y = batch_of(4, 3, 4, 4)
    names = list(dict(network.named_parameters()))
    fresh = asked_per_sample(network, x, y, normalization)
    rows = torch.cat([g.flatten(1) for g in fresh.values()], 1)
    gradients = Gradients(network, Minibatch(x, y), normalization=normalization)
    with undisturbed(network):
        for ask in [*asks, None]:
            if ask == 'gram':
                torch.testing.assert_close(gradients.gram(), rows @ rows.T)
                continue
            if isinstance(ask, str):
                getattr(gradients, ask)()
                continue
            chosen = None if ask is None else [names[i] for i in ask]
            found = gradients.per_sample(chosen)
            assert list(found) == [name for name in names if chosen is None or name in chosen]
            assert_same(found, {name: fresh[name] for name in found})


def asked_per_sample(network, x, y, normalization):
    rows = reference.filled(reference.gradients_of_samples(network, x, y, normalization=normalization))
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(dict(network.named_parameters()))}


def test_per_sample_gradients_are_taken_once():
    network = convolutional()
    seen = []
    network.register_forward_hook(lambda *_: seen.append(1))
    gradients = Gradients(network, Minibatch(*batch_of(4, 3, 4, 4)))
    with undisturbed(network):
        gradients.per_sample()
        once = len(seen)
        gradients.per_sample(['0.weight'])
        gradients.per_sample()
        gradients.gram()
    assert len(seen) == once == 1


@pytest.mark.parametrize('micro_batch', [1, 2, 3])
@pytest.mark.parametrize('kind', KINDS)
def test_micro_batch_changes_none_of_the_gradients(kind, micro_batch):
    network = convolutional()
    x, y = batch_of(7, 3, 4, 4)
    assert_same(asked(kind, network, x, y, micro_batch=micro_batch, seed=3), asked(kind, network, x, y, seed=3))


@pytest.mark.parametrize('kind', ['at_outputs', 'of_outputs', 'of_predictions'])
def test_coupled_samples_and_a_micro_batch(kind):
    with pytest.raises(ScoringError, match='a BatchNorm with normalization="batch" needs the whole minibatch at once'):
        asked(kind, convolutional(), *batch_of(7, 3, 4, 4), normalization='batch', micro_batch=3)


@pytest.mark.parametrize('kind', ['gram', 'of_outputs per sample', 'of_predictions gram'])
def test_coupled_samples_one_by_one_need_no_micro_batch(kind):
    network, (x, y) = convolutional(), batch_of(7, 3, 4, 4)
    assert_same(asked(kind, network, x, y, normalization='batch', micro_batch=3),
                asked(kind, network, x, y, normalization='batch'))


@pytest.mark.parametrize('kind', KINDS)
def test_out_of_memory_halves_the_part_for_all_gradients(kind):
    network = convolutional()
    x, y = batch_of(13, 3, 4, 4)
    whole = asked(kind, network, x, y)
    limited = Limited(network, 3, MemoryError())
    parts = asked(kind, limited, x, y)
    assert_same({name.removeprefix('network.'): g for name, g in parts.items()}, whole)
    assert len(limited.sizes) < 13 + 13 // 2


# At the outputs of layers.


def sorted_rows(rows):
    rows = torch.stack(list(rows)) if not isinstance(rows, torch.Tensor) else rows
    return torch.tensor(sorted(rows.tolist()), dtype=torch.float64)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('name', ['conv', *SEQUENCE_NETWORKS])
def test_gradients_at_outputs_are_those_of_the_reference(name, normalization):
    with seeded(2):
        network = convolutional() if name == 'conv' else SEQUENCE_NETWORKS[name]().double()
    x, y = batch_of(6, 3, 4, 4) if name == 'conv' else batch_of(6, 5, 8)
    found = asked('at_outputs', network, x, y, normalization=normalization)
    expected = reference.Passes(network, x, y, normalization=normalization).at_outputs
    assert list(found) == list(expected)
    for layer in found:
        torch.testing.assert_close(sorted_rows(found[layer]), sorted_rows(torch.tensor(row) for row in expected[layer]))


def test_gradients_at_outputs_are_in_the_order_of_samples():
    network = convolutional()
    x, y = batch_of(5, 3, 4, 4)
    found = asked('at_outputs', network, x, y)
    assert {name: tuple(g.shape) for name, g in found.items()} == {'0': (5 * 16, 6), '3': (5 * 4, 6), '7': (5, 5)}
    for i in range(5):
        alone = asked('at_outputs', network, x[i:i + 1], y[i:i + 1])
        for name, g in found.items():
            torch.testing.assert_close(g.unflatten(0, (5, -1))[i], alone[name])


def test_gradient_at_the_last_layer_is_that_of_cross_entropy():
    network = nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, CLASSES)).double()
    x, y = batch_of(6, 8)
    expected = network(x).softmax(1).detach() - F.one_hot(y, CLASSES)
    torch.testing.assert_close(asked('at_outputs', network, x, y)['2'], expected)


def test_gradients_at_outputs_that_are_changed_in_place():
    def network(inplace):
        with seeded(0):
            return nn.Sequential(nn.Linear(8, 10), nn.ReLU(inplace=inplace), nn.Linear(10, 10), nn.ReLU(inplace=inplace),
                                 nn.Linear(10, CLASSES)).double()

    x, y = batch_of(6, 8)
    assert_same(asked('at_outputs', network(True), x, y), asked('at_outputs', network(False), x, y))


@pytest.mark.parametrize('micro_batch', [None, 2])
def test_layer_that_is_called_twice_has_the_positions_of_both_calls(micro_batch):
    with seeded(0):
        network = Lambda(lambda first, shared, head, x: head(shared(shared(first(x)).tanh()).tanh()),
                         nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)).double()
    x, y = batch_of(5, 8)
    found = asked('at_outputs', network, x, y, micro_batch=micro_batch)
    assert {name: len(g) for name, g in found.items()} == {'parts.0': 5, 'parts.1': 10, 'parts.2': 5}
    expected = reference.Passes(network, x, y).at_outputs['parts.1']
    torch.testing.assert_close(sorted_rows(found['parts.1']), sorted_rows(torch.tensor(row) for row in expected))


def test_layers_that_the_loss_does_not_depend_on_are_left_out():
    network = two_layers(lambda first, second, x: second(first(x).tanh()))
    network.unused = nn.Linear(3, 3).double()
    network.idle = nn.Linear(8, 3).double()
    network.function = lambda first, second, x: (network.idle(x), second(first(x).tanh()))[1]
    network.parts[0].requires_grad_(False)
    assert list(asked('at_outputs', network, *batch_of(5, 8))) == ['parts.1']


@pytest.mark.parametrize('micro_batch', [None, 1, 2])
def test_layers_that_some_samples_pass_by(micro_batch):
    with seeded(2):
        network = branching().double()
    x, y = batch_of(6, 5, 8)
    found = asked('at_outputs', network, x, y, micro_batch=micro_batch)
    first = int((x.mean(1).sum(1) > 0).sum())
    assert {name: len(g) for name, g in found.items()} == {'parts.0': first, 'parts.1': 6 - first, 'parts.2': 6}


def test_convolutions_of_inputs_without_a_sample_dimension():
    with seeded(2):
        parts = nn.Conv1d(4, 6, 3).double(), nn.Linear(6, CLASSES).double()
    x, y = batch_of(5, 4, 8)
    single = Lambda(lambda conv, head, x: head(torch.stack([conv(row) for row in x]).tanh().mean(2)), *parts)
    together = Lambda(lambda conv, head, x: head(conv(x).tanh().mean(2)), *parts)
    found, expected = asked('at_outputs', single, x, y), asked('at_outputs', together, x, y)
    for name in expected:
        torch.testing.assert_close(sorted_rows(found[name]), sorted_rows(expected[name]))


def hooks_of(network):
    return [(len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in network.modules()]


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_leave_the_network_as_it_was(kind):
    network = convolutional()
    network.eval()
    network[0].weight.grad = torch.ones_like(network[0].weight)
    network[0].register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in network.state_dict().items()}, hooks_of(network)
    state = torch.get_rng_state()
    asked(kind, network, *batch_of(5, 3, 4, 4), micro_batch=2)
    assert hooks_of(network) == before[1] and not network.training
    assert all(torch.equal(value, before[0][name]) for name, value in network.state_dict().items())
    assert torch.equal(network[0].weight.grad, torch.ones_like(network[0].weight)) and network[3].weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('error', [ValueError('a fault of the network'), torch.OutOfMemoryError('CUDA out of memory.')],
                         ids=lambda error: type(error).__name__)
@pytest.mark.parametrize('when', ['forward', 'backward'])
def test_hooks_are_removed_when_the_pass_fails(when, error):
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            raise error

    class Faulty(nn.Module):
        def forward(self, x):
            if when == 'forward':
                raise error
            return Failing.apply(x)

    network = nn.Sequential(nn.Linear(8, 10), Faulty(), nn.Linear(10, CLASSES)).double()
    before = hooks_of(network)
    with pytest.raises(type(error)):
        asked('at_outputs', network, *batch_of(5, 8))
    assert hooks_of(network) == before


# Of the outputs and the predictions.


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('kind', OUTPUTS)
def test_gradients_of_outputs_are_of_their_sum_with_signs(kind, normalization):
    network = two_layers(lambda first, second, x: OUTPUTS[kind](second(first(x).tanh()), first(x)))
    x, y = batch_of(6, 8)
    signs = 2.0 * torch.randint(2, (CLASSES,), generator=torch.Generator().manual_seed(9)) - 1
    total = (network.parts[1](network.parts[0](x).tanh()) * signs).sum() / 6
    found = asked('of_outputs', network, x, y, normalization=normalization, seed=9)
    for g, expected in zip(found.values(), torch.autograd.grad(total, list(network.parameters()))):
        torch.testing.assert_close(g, expected)


def test_gradients_of_outputs_read_neither_loss_nor_targets():
    network = convolutional()
    x, y = batch_of(6, 3, 4, 4)
    expected = asked('of_outputs', network, x, y)
    found = asked('of_outputs', network, x, {'any': ['thing']}, loss=lambda outputs, targets: outputs.sum() * 0)
    assert_same(found, expected)


def test_signs_are_the_same_for_all_samples_and_places_of_a_sequence_differ():
    network = Lambda(lambda layer, x: layer(x), nn.Linear(2, 3)).double()
    with undisturbed(network):
        loss = Gradients(network, Minibatch(torch.zeros(4, 30, 2).double(), None), seed=1).of_outputs().loss
    every = torch.stack([torch.autograd.functional.jacobian(lambda out: loss(out, None), torch.zeros(1, 30, 3).double())[0]
                         for _ in range(2)])
    assert torch.equal(every[0], every[1]) and set(every.unique().tolist()) == {-1, 1}
    assert 0.3 < float(every[0].eq(1).double().mean()) < 0.7
    assert len({tuple(place) for place in every[0].squeeze(0).squeeze(0).tolist()}) == 8  # all that 3 signs can be


def test_drawn_labels_are_likely_ones_and_replace_the_targets():
    class Sure(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()).double())

        def forward(self, x):
            return x * self.scale

    network = Sure()
    logits = torch.zeros(4000, 3).double()
    logits[:, 1] = 1.0
    logits[0, 2] = 100.0
    with undisturbed(network):
        drawn = Gradients(network, Minibatch(logits, torch.zeros(4000, dtype=torch.long)), seed=1).of_predictions()
        again = Gradients(network, Minibatch(logits, torch.ones(4000, dtype=torch.long)), seed=1).of_predictions()
    targets = drawn.minibatch.targets
    assert targets[0] == 2 and torch.equal(targets, again.minibatch.targets)
    found = torch.bincount(targets, minlength=3) / 4000
    torch.testing.assert_close(found, torch.tensor([0., 1., 0.]).softmax(0), atol=0.03, rtol=0)


@pytest.mark.parametrize('loss', [None, nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), F.cross_entropy],
                         ids=['default', 'layer', 'smoothed', 'function'])
def test_cross_entropy_in_all_forms_has_predictions(loss):
    x, y = batch_of(6, 3, 4, 4)
    plain = asked('of_predictions', convolutional(), x, y)
    assert asked('of_predictions', convolutional(), x, y, loss=loss).keys() == plain.keys()


def test_predictions_that_are_not_finite():
    network = nn.Sequential(nn.Linear(8, 10), nn.Linear(10, CLASSES)).double()
    nn.init.constant_(network[1].bias, float('inf'))
    with pytest.raises(ScoringError, match='the outputs are not finite: the network explodes at its initial weights'):
        asked('of_predictions', network, *batch_of(6, 8))


def test_kernel_lends_its_gradients():
    network = convolutional()
    x, y = batch_of(6, 3, 4, 4)
    kernel = kernel_of(x, y, seed=4, normalization='batch', loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    network.eval()
    with kernel.gradients(network) as gradients:
        assert network.training and isinstance(gradients, Gradients)
        for each in (gradients, gradients.of_outputs(), gradients.of_predictions()):
            assert (each.seed, each.normalization, each.micro_batch) == (4, 'batch', 6)
        mgm = sum(float(g.square().sum()) for g in gradients.mean().values())
    assert not network.training
    assert mgm == pytest.approx(kernel.score(network), rel=1e-12)
    with pytest.raises(KeyError), kernel.gradients(network):
        raise KeyError
    assert not network.training
