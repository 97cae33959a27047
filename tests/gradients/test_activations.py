"""What forward passes show: in parts, with other inputs, and of modules by themselves."""

from __future__ import annotations

import pytest
import torch
from layers import CLASSES, Lambda, Limited, batch_of, convolutional, gradients_of
from torch import nn

from nni_knas import GradientKernelEvaluator
from nni_knas.gradients import Gradients, Minibatch, first_embedding, input_jacobian, module_outputs, rectifier_patterns


@pytest.mark.parametrize('normalization', ['sample', 'batch'])
def test_parts_are_of_the_minibatch_and_whole_where_samples_are_coupled(normalization):
    x, y = batch_of(7, 3, 4, 4)
    kernel = GradientKernelEvaluator((x, y), normalization=normalization, micro_batch=3)
    with kernel.gradients(convolutional()) as gradients:
        parts = gradients.watch(lambda samples, forward: (samples.inputs, forward()))
        inputs, outputs = (torch.cat(each) for each in zip(*parts))
    assert len(parts) == (3 if normalization == 'sample' else 1)
    assert torch.equal(inputs.sort(0)[0], x.sort(0)[0]) and outputs.shape == (7, CLASSES) and outputs.requires_grad


def test_inputs_may_be_others():
    network = nn.Linear(3, CLASSES).double()
    gradients = gradients_of(network, *batch_of(4, 3))
    (outputs,) = gradients.watch(lambda samples, forward: forward(2 * samples.inputs))
    assert torch.equal(outputs, network(2 * gradients.minibatch.inputs))


def test_no_normalization():
    network = convolutional().eval()
    x, y = batch_of(4, 3, 4, 4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(3)
    (outputs,) = Gradients(network, Minibatch(x, y), normalization='none').watch(lambda samples, forward: forward())
    plain = nn.Sequential(*(module for module in network if not isinstance(module, nn.BatchNorm2d)))
    assert torch.equal(outputs, plain(x))


@pytest.mark.parametrize('limit', [1, 2])
def test_memory_that_runs_out(limit):
    x, y = batch_of(5, 8)
    network = Lambda(lambda linear, x: linear(x.relu()), nn.Linear(8, CLASSES)).double()
    expected = rectifier_patterns(gradients_of(network, x, y)), input_jacobian(gradients_of(network, x, y))
    for look, whole in zip((rectifier_patterns, input_jacobian), expected):
        found = look(gradients_of(Limited(network, limit, torch.OutOfMemoryError('no memory')), x, y))
        torch.testing.assert_close(found, whole)


def test_the_output_of_a_module_is_what_it_did_not_get():
    class Cell(nn.Module):
        def forward(self, cells):
            return [cells[-1], cells[0] + cells[1]]

    class Words(nn.Module):
        def forward(self, x):
            return {'hidden': x, 'logits': 2 * x}

    class Text(nn.Module):
        def forward(self, x):
            return 'none'

    x = torch.ones(2, 3)
    modules = [Cell(), Words(), Text(), nn.LSTM(3, 4), nn.Identity()]
    seen = []
    with module_outputs(modules, lambda module, output: seen.append((type(module).__name__, output))):
        results = [module([x, 3 * x] if isinstance(module, Cell) else x) for module in modules]
    assert [name for name, _ in seen] == ['Cell', 'Words', 'LSTM', 'Identity']
    expected = [4 * x, 2 * x, results[3][0], x]
    assert all(torch.equal(output, each) for (_, output), each in zip(seen, expected))
    assert not any(module._forward_hooks for module in modules)


def test_hooks_are_gone_after_an_error():
    layer = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match='shapes'), module_outputs([layer], lambda module, output: None):
        layer(torch.ones(2, 4))
    assert not layer._forward_hooks


def test_only_the_first_embedding_is_replaced():
    words, places = nn.Embedding(5, 3), nn.Embedding(5, 3)
    ids = torch.tensor([[1, 2]])
    with first_embedding(torch.zeros_like) as found:
        assert torch.equal(words(ids), torch.zeros(1, 2, 3)) and torch.equal(places(ids), places.weight[ids])
    assert len(found) == 1 and torch.equal(words(ids), words.weight[ids])
