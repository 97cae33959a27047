"""All that scores ask of gradients: their Gram matrix, those at layers, of the outputs, and of the predictions."""

from __future__ import annotations

import pytest
import reference
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layers import (
    CLASSES,
    NORMALIZATIONS,
    OUTPUTS,
    SEQUENCE_NETWORKS,
    Lambda,
    Limited,
    batch_of,
    branching,
    convolutional,
    kernel_of,
    recurrent,
    two_layers,
)
from torch import nn
from torch.nn import functional as F

from nni_knas.gradients import Gradients, Minibatch, ScoringError, seeded, undisturbed

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
    rows = [
        torch.cat([g.flatten() for g in row])
        for row in reference.gradients_of_samples(network, x, y, normalization=normalization)
    ]
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
@given(
    asks=st.lists(
        st.one_of(
            st.none(),
            st.sets(st.integers(0, 7), min_size=1),
            st.sampled_from(['gram', 'mean', 'at_outputs', 'of_outputs', 'used']),
        ),
        max_size=5,
    )
)
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
    assert_same(
        asked(kind, network, x, y, normalization='batch', micro_batch=3), asked(kind, network, x, y, normalization='batch')
    )


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
        alone = asked('at_outputs', network, x[i : i + 1], y[i : i + 1])
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
            return nn.Sequential(
                nn.Linear(8, 10),
                nn.ReLU(inplace=inplace),
                nn.Linear(10, 10),
                nn.ReLU(inplace=inplace),
                nn.Linear(10, CLASSES),
            ).double()

    x, y = batch_of(6, 8)
    assert_same(asked('at_outputs', network(True), x, y), asked('at_outputs', network(False), x, y))


@pytest.mark.parametrize('micro_batch', [None, 2])
def test_layer_that_is_called_twice_has_the_positions_of_both_calls(micro_batch):
    with seeded(0):
        network = Lambda(
            lambda first, shared, head, x: head(shared(shared(first(x)).tanh()).tanh()),
            nn.Linear(8, 6),
            nn.Linear(6, 6),
            nn.Linear(6, CLASSES),
        ).double()
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
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
        for module in network.modules()
    ]


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


@pytest.mark.parametrize(
    'error',
    [ValueError('a fault of the network'), torch.OutOfMemoryError('CUDA out of memory.')],
    ids=lambda error: type(error).__name__,
)
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
    every = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda out: loss(out, None), torch.zeros(1, 30, 3).double())[0]
            for _ in range(2)
        ]
    )
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
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 0.0]).softmax(0), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    'loss',
    [None, nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), F.cross_entropy],
    ids=['default', 'layer', 'smoothed', 'function'],
)
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
