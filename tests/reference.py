"""The scores in the slow, obvious way: a loop over samples, the full Gram matrix, one entry after the other.

Written from torch's own layers and autograd only, in double precision, to compare the package with.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map


def gradients_of_samples(network, inputs, targets, loss=None, normalization='sample'):
    """For each sample a list of its gradients, one a trainable parameter; ``None`` where there is none."""
    network = in_training_without_noise(network)
    inputs, targets = as_double(inputs), as_double(targets)
    n = len(first_tensor(targets))
    parameters = [p for p in network.parameters() if p.requires_grad]
    if normalization == 'batch':
        outputs = call(network, inputs)
        losses = [loss_of_sample(loss, one(outputs, i, n), one(targets, i, n)) for i in range(n)]
    else:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_pre_hook(use_running_statistics_of_single_values)
        losses = [loss_of_sample(loss, call(network, one(inputs, i, n)), one(targets, i, n)) for i in range(n)]
    return [torch.autograd.grad(each, parameters, retain_graph=True, allow_unused=True) for each in losses]


def mgm(network, inputs, targets, loss=None, normalization='sample'):
    """Mean of the full Gram matrix."""
    samples = filled(gradients_of_samples(network, inputs, targets, loss, normalization))
    return gram_mean([torch.cat([g.flatten() for g in sample if g is not None]) for sample in samples])


def mgm_sampled(network, inputs, targets, loss=None, normalization='sample', seed=0):
    """Mean over tensors of the mean of the Gram matrix of 50 drawn entries."""
    from nni_knas.scores.mgm import _draw  # the random draw itself; there is no other way to have the same entries

    samples = filled(gradients_of_samples(network, inputs, targets, loss, normalization))
    large = [i for i, g in enumerate(samples[0]) if g is not None and g.numel() >= 50]
    means = [gram_mean([sample[i].flatten()[_draw(sample[i], seed, place)] for sample in samples])
             for place, i in enumerate(large)]
    return sum(means) / len(means)


def half_covariance(network, inputs, targets, loss=None, normalization='sample'):
    """Entry by entry, as in the description of the authors' code."""
    samples = filled(gradients_of_samples(network, inputs, targets, loss, normalization))
    large = [i for i, g in enumerate(samples[0]) if g is not None and g.numel() >= 50][:11]
    half = len(samples) // 2
    total = 0.0
    for i in large:
        for entry in range(50):
            values = [float(sample[i].flatten()[entry]) for sample in samples]
            a, b = values[:half], values[half:2 * half]
            total += sum((x - sum(a) / half) * (y - sum(b) / half) for x, y in zip(a, b))
    return total / (2 * half) ** 2


SCORES = {'mgm': mgm, 'mgm-sampled': mgm_sampled, 'half-covariance': half_covariance}


def gram_mean(vectors):
    rows = torch.stack(vectors)
    gram = rows @ rows.T
    assert gram.shape == (len(vectors), len(vectors))
    return float(gram.mean())


def filled(samples):
    """Zeros where a parameter has a gradient for other samples only."""
    used = [next((g for g in every if g is not None), None) for every in zip(*samples)]
    return [[torch.zeros_like(u) if g is None and u is not None else g for g, u in zip(sample, used)]
            for sample in samples]


def in_training_without_noise(network):
    """A copy in double precision and training mode, every dropout rate at zero."""
    network = copy.deepcopy(network).double().train()
    for module in network.modules():
        for rate in ('p', 'dropout', 'drop_prob', 'attn_drop_rate', 'rate'):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    return network


def use_running_statistics_of_single_values(module, arguments):
    """A layer that gets one value per channel cannot normalise over values: it uses mean 0, variance 1, or what it has."""
    if arguments[0].shape[0] * arguments[0].shape[2:].numel() == 1:
        module.training = False
        if module.running_mean is None:
            module.running_mean = arguments[0].new_zeros(module.num_features)
            module.running_var = arguments[0].new_ones(module.num_features)


def call(network, inputs):
    if isinstance(inputs, dict):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def loss_of_sample(loss, outputs, targets):
    if loss is None:
        loss = F.cross_entropy
    if isinstance(loss, nn.Module) or loss in (F.cross_entropy, F.mse_loss):
        while not isinstance(outputs, torch.Tensor):
            outputs = outputs['logits'] if isinstance(outputs, dict) else outputs[0]
    return loss(outputs, targets).mean()


def one(tree, i, n):
    return tree_map(lambda t: t[i:i + 1] if isinstance(t, torch.Tensor) and t.dim() and len(t) == n else t, tree)


def as_double(tree):
    return tree_map(lambda t: t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t, tree)


def first_tensor(tree):
    if isinstance(tree, torch.Tensor):
        return tree
    return first_tensor(next(iter(tree.values())) if isinstance(tree, dict) else tree[0])
