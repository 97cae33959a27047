"""The scores in the slow, obvious way: a loop over samples, the full Gram matrix, one entry after the other.

Written from torch's own layers and autograd only, in double precision, to compare the package with.
"""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map


def gradients_of_samples(network, inputs, targets, loss=None, normalization='sample'):
    """For each sample a list of its gradients, one a trainable parameter; ``None`` where there is none."""
    network = prepared(network, normalization)
    inputs, targets = as_double(inputs), as_double(targets)
    n = len(first_tensor(targets))
    parameters = [p for p in network.parameters() if p.requires_grad]
    if normalization == 'batch':
        outputs = call(network, inputs)
        losses = [loss_of_sample(loss, one(outputs, i, n), one(targets, i, n)) for i in range(n)]
    else:
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
    means = [
        gram_mean([sample[i].flatten()[_draw(sample[i], seed, place)] for sample in samples])
        for place, i in enumerate(large)
    ]
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
            a, b = values[:half], values[half : 2 * half]
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
    return [[torch.zeros_like(u) if g is None and u is not None else g for g, u in zip(sample, used)] for sample in samples]


def in_training_without_noise(network):
    """A copy in double precision and training mode, every dropout rate at zero."""
    network = copy.deepcopy(network).double().train()
    for module in network.modules():
        for rate in ('p', 'dropout', 'drop_prob', 'attn_drop_rate', 'rate'):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    return network


def prepared(network, normalization):
    network = in_training_without_noise(network)
    if normalization == 'sample':
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_pre_hook(use_running_statistics_of_single_values)
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
        outputs = main(outputs)
    return loss(outputs, targets).mean()


def main(outputs):
    while not isinstance(outputs, torch.Tensor):
        outputs = outputs['logits'] if isinstance(outputs, dict) else outputs[0]
    return outputs


def one(tree, i, n):
    return tree_map(lambda t: t[i : i + 1] if isinstance(t, torch.Tensor) and t.dim() and len(t) == n else t, tree)


def as_double(tree):
    return tree_map(lambda t: t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t, tree)


def first_tensor(tree):
    if isinstance(tree, torch.Tensor):
        return tree
    return first_tensor(next(iter(tree.values())) if isinstance(tree, dict) else tree[0])


# The scores of the literature and the project's own.


class Passes:
    """Everything that a score may ask of a network, found one sample after the other, as lists of numpy arrays.

    A gradient is a list with one array a parameter that receives one.
    """

    def __init__(self, network, inputs, targets, loss=None, normalization='sample', seed=0):
        self.network, self.loss, self.normalization, self.seed = network, loss, normalization, seed
        self.inputs, self.targets = inputs, targets
        self.n = len(first_tensor(targets))

    @functools.cached_property
    def weights(self):
        return [p.detach().double().numpy() for p in self.network.parameters() if p.requires_grad]

    @functools.cached_property
    def of_losses(self):
        """For each sample, one array a trainable parameter, ``None`` where no sample has a gradient."""
        return self.of(self.loss, self.targets)

    @functools.cached_property
    def mean(self):
        return mean_of(self.of_losses)

    @functools.cached_property
    def outputs(self):
        """The main output of each sample, or of all in one pass where the minibatch normalises."""
        network = prepared(self.network, self.normalization)
        inputs = as_double(self.inputs)
        with torch.no_grad():
            if self.normalization == 'batch':
                return main(call(network, inputs))
            return torch.cat([main(call(network, one(inputs, i, self.n))) for i in range(self.n)])

    @functools.cached_property
    def of_outputs(self):
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(2, self.outputs.shape[1:], generator=generator).double() * 2 - 1
        return self.of(lambda outputs, targets: (main(outputs) * signs).sum(), self.targets)

    @functools.cached_property
    def of_predictions(self):
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.multinomial(self.outputs.softmax(1), 1, generator=generator)[:, 0]
        return self.of(self.loss, drawn)

    @functools.cached_property
    def at_outputs(self):
        """For each convolution and linear layer by name, the gradients at its outputs as rows, one a position."""
        network = prepared(self.network, self.normalization)
        inputs, targets = as_double(self.inputs), as_double(self.targets)
        seen = {name: [] for name, module in network.named_modules()}
        for name, module in network.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                module.register_forward_hook(functools.partial(keep_output, seen[name]))
        if self.normalization == 'batch':
            outputs = call(network, inputs)
            sum(
                loss_of_sample(self.loss, one(outputs, i, self.n), one(targets, i, self.n)) for i in range(self.n)
            ).backward()
        else:
            for i in range(self.n):
                loss_of_sample(self.loss, call(network, one(inputs, i, self.n)), one(targets, i, self.n)).backward()
        return {
            name: [
                row
                for channels_last, output in each
                if output.grad is not None
                for row in rows_of(output.grad, channels_last)
            ]
            for name, each in seen.items()
            if any(output.grad is not None for _, output in each)
        }

    def of(self, loss, targets):
        samples = filled(gradients_of_samples(self.network, self.inputs, targets, loss, self.normalization))
        return [[None if g is None else g.detach().numpy() for g in sample] for sample in samples]


def gradient_norm(passes):
    return sum(np.sqrt((g**2).sum()) for g in passes.mean if g is not None)


def snip(passes):
    return sum(np.abs(w * g).sum() for w, g in zip(passes.weights, passes.mean) if g is not None)


def mgm_logits(passes):
    return gram_of(passes.of_outputs).mean()


def log_l1(passes):
    return sum(np.log(1 + np.abs(g).sum()) for g in passes.mean if g is not None)


def log_mgm(passes):
    return sum(np.log(1 + (g**2).sum()) for g in passes.mean if g is not None)


def gradient_rank(passes):
    total = 0.0
    for g in passes.mean:
        if g is not None and g.ndim > 1 and np.any(g):
            singular = np.linalg.svd(g.reshape(len(g), -1), compute_uv=False)
            rank = singular.sum() ** 2 / (g**2).sum()
            total += rank**2 * np.log(g.size)
    return total


def steady_rank(passes):
    entries = np.concatenate([g.ravel() for g in passes.mean if g is not None])
    return gradient_rank(passes) * np.log(1 + 1 / np.sqrt((entries**2).mean()))


def snr(passes):
    total = 0.0
    for i, first in enumerate(passes.of_losses[0]):
        if first is not None:
            total += np.log(1 + ratio_of([sample[i] for sample in passes.of_losses]))
    return total


def zico(passes):
    half = passes.n // 2
    total = 0.0
    for i, first in enumerate(passes.of_losses[0]):
        if first is not None and first.ndim > 1:
            batches = [sum(sample[i] for sample in passes.of_losses[b * half : (b + 1) * half]) / half for b in (0, 1)]
            ratio = ratio_of(batches)
            total += np.log(ratio) if ratio > 0 else 0
    return total


def channel_entropy(passes):
    return sum(entropy_of(channel_covariance(rows)) for rows in passes.at_outputs.values())


def channel_rank(passes):
    return sum(rank_of(channel_covariance(rows)) for rows in passes.at_outputs.values())


def label_alignment(passes):
    kernel = gram_of(passes.of_outputs)
    y = passes.targets.numpy()
    labels = np.empty((passes.n, passes.n))
    for i in range(passes.n):
        for j in range(passes.n):
            labels[i, j] = (y[i] * y[j]).sum() if np.issubdtype(y.dtype, np.floating) else y[i] == y[j]
    centre = np.eye(passes.n) - np.ones((passes.n, passes.n)) / passes.n
    kernel, labels = centre @ kernel @ centre, centre @ labels @ centre
    return (kernel * labels).sum() / np.sqrt((kernel**2).sum() * (labels**2).sum())


def condition_of(kernel):
    values = np.linalg.eigvalsh(kernel)
    return -np.log(values[-1] / max(values[0], values[-1] * 2.0**-23))


def entropy_of(kernel):
    values = np.linalg.eigvalsh(kernel)
    parts = [value / values.sum() for value in values if value > 0]
    return -sum(part * np.log(part) for part in parts)


def rank_of(kernel):
    values = np.linalg.eigvalsh(kernel)
    return values.sum() ** 2 / (values**2).sum()


KERNELS = {
    'gram': lambda passes: gram_of(passes.of_losses),
    'ntk': lambda passes: gram_of(passes.of_outputs),
    'fisher': lambda passes: gram_of(passes.of_predictions),
}
FUNCTIONS = {'condition': condition_of, 'entropy': entropy_of, 'effective-rank': rank_of}
OF_PASSES = {
    'gradient-norm': gradient_norm,
    'snip': snip,
    'mgm-logits': mgm_logits,
    'log-l1': log_l1,
    'log-mgm': log_mgm,
    'gradient-rank': gradient_rank,
    'steady-rank': steady_rank,
    'snr': snr,
    'zico': zico,
    'channel-entropy': channel_entropy,
    'channel-rank': channel_rank,
    'label-alignment': label_alignment,
    **{
        f'{kernel}-{function}': lambda passes, kernel=kernel, function=function: FUNCTIONS[function](KERNELS[kernel](passes))
        for kernel in KERNELS
        for function in FUNCTIONS
    },
}


def mean_of(samples):
    return [None if every[0] is None else sum(every) / len(every) for every in zip(*samples)]


def gram_of(samples):
    """The Gram matrix, one dot product after the other."""
    rows = [np.concatenate([g.ravel() for g in sample if g is not None]) for sample in samples]
    return np.array([[float(np.dot(a, b)) for b in rows] for a in rows])


def ratio_of(values):
    """Sum over the entries that differ of the mean of the absolute value by the deviation."""
    mean = sum(values) / len(values)
    deviation = np.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    size = sum(np.abs(value) for value in values) / len(values)
    return sum(s / d for s, d in zip(size.ravel(), deviation.ravel()) if d > 0)


def channel_covariance(rows):
    mean = sum(rows) / len(rows)
    return sum(np.outer(row - mean, row - mean) for row in rows) / len(rows)


def keep_output(kept, module, inputs, output):
    if output.requires_grad:
        output.retain_grad()
        kept.append((isinstance(module, nn.Linear), output))


def rows_of(gradient, channels_last):
    """One row of channels for each sample and position."""
    rows = []
    for sample in gradient.numpy():
        flat = sample.reshape(-1, sample.shape[-1]) if channels_last else sample.reshape(len(sample), -1).T
        rows += list(flat)
    return rows
