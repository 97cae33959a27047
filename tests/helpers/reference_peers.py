"""Published scores in the slow, obvious way, as :mod:`reference`: from torch's own layers and autograd, by loops, in double
precision. A rectifier is a layer here, ``nn.ReLU`` or ``nn.ReLU6``."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from reference import as_double, call, first_tensor, main, one, prepared
from torch import nn


def outputs_of_modules(network, inputs, n, normalization, wanted):
    """For each call of the modules wanted, the output of each sample."""
    network = prepared(network, normalization)
    inputs = as_double(inputs)
    calls = [[] for _ in range(1 if normalization == 'batch' else n)]
    now = calls[0]

    def keep(module, arguments, output):
        output = first_of(output)
        if isinstance(output, torch.Tensor):
            now.append(output.detach().clone())

    for name, module in network.named_modules():
        if wanted(name, module):
            module.register_forward_hook(keep)
    if normalization == 'batch':
        call(network, inputs)
        return [[output[i] for i in range(n)] for output in calls[0]]
    for i in range(n):
        now = calls[i]
        call(network, one(inputs, i, n))
    return [[output[0] for output in each] for each in zip(*calls)]


def first_of(output):
    """Cells of DARTS give a list, first what they got from the cell before."""
    if isinstance(output, list):
        return output[1]
    return output[0] if isinstance(output, tuple) else output


def codes(network, inputs, normalization):
    """For each sample the pattern of all rectifiers, a tuple of 0 and 1."""
    n = len(first_tensor(inputs))
    calls = outputs_of_modules(
        network, inputs, n, normalization, lambda name, module: isinstance(module, (nn.ReLU, nn.ReLU6))
    )
    return [tuple(int(value > 0) for output in calls for value in output[i].flatten().tolist()) for i in range(n)]


def naswot(network, inputs, normalization='sample'):
    patterns = codes(network, inputs, normalization)
    kernel = [[len(a) - sum(x != y for x, y in zip(a, b)) for b in patterns] for a in patterns]
    sign, value = np.linalg.slogdet(np.array(kernel, dtype=float))
    return value if sign > 0 else -np.inf


def swap(network, inputs, normalization='sample'):
    return len(set(zip(*codes(network, inputs, normalization))))


def linear_regions(network, inputs, normalization='sample'):
    return len(set(codes(network, inputs, normalization)))


def jacob_cov(network, inputs, normalization='sample'):
    network, inputs = prepared(network, normalization), as_double(inputs)
    n = len(first_tensor(inputs))
    found = []

    def cut(module, arguments, output):
        if not found:
            found.append(output.detach().requires_grad_())
            return found[0]

    for module in network.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(cut)
    if normalization == 'batch':
        x = inputs.clone().requires_grad_()
        rows = sum(torch.autograd.grad(main(call(network, x))[i].sum(), x)[0] for i in range(n)).flatten(1).numpy()
    else:
        rows = []
        for i in range(n):
            sample = one(inputs, i, n)
            found.clear()
            leaves = [t.requires_grad_() for t in leaves_of(sample) if t.is_floating_point()]
            total = main(call(network, sample)).sum()
            gradients = torch.autograd.grad(total, found or leaves)
            rows.append(np.concatenate([g.numpy().ravel() for g in gradients]))
    values = np.linalg.eigvalsh(np.corrcoef(rows))
    return -sum(np.log(max(value, 0) + 1e-5) + 1 / (max(value, 0) + 1e-5) for value in values)


def leaves_of(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [leaf for part in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves_of(part)]


def synflow(network, inputs, normalization='sample'):
    network, sample = prepared(network, normalization), as_double(one(inputs, 0, len(first_tensor(inputs))))
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, nn.Identity())
    network.eval()
    with torch.no_grad():
        for p in [*network.parameters(), *network.buffers()]:
            if p.is_floating_point():
                p.abs_()
    first = next((module for module in network.modules() if isinstance(module, nn.Embedding)), None)
    if first is not None:
        first.register_forward_hook(lambda module, arguments, output: torch.ones_like(output))
    else:
        for leaf in leaves_of(sample):
            leaf.fill_(1)
    main(call(network, sample)).sum().backward()
    weights = [p for p in network.parameters() if p.dim() > 1 and p.grad is not None and p.requires_grad]
    return sum(float((w * w.grad).detach().abs().sum()) for w in weights)


def meco(network, inputs, normalization='sample'):
    n = len(first_tensor(inputs))
    total = 0.0
    for output in outputs_of_modules(network, inputs, n, normalization, lambda name, module: True):
        maps = output[0].numpy()
        if maps.ndim > 2 and maps.shape[0] > 1 and maps[0].size > 1:
            with np.errstate(invalid='ignore', divide='ignore'):
                correlations = np.corrcoef(maps.reshape(len(maps), -1))
            total += max(0.0, np.linalg.eigvalsh(np.nan_to_num(correlations, nan=0.0)).min())
        elif maps.ndim > 2 and maps.shape[0] == 1:
            total += float(maps.std() > 0)
    return total


PEERS = {
    'jacob-cov': jacob_cov,
    'linear-regions': linear_regions,
    'meco': meco,
    'naswot': naswot,
    'swap': swap,
    'synflow': synflow,
}


# AZ-NAS: blocks are named, each with where its channels are.


def covariance_entropy(rows):
    mean = sum(rows) / len(rows)
    covariance = sum(np.outer(row - mean, row - mean) for row in rows) / len(rows)
    values = np.clip(np.linalg.eigvalsh(covariance), 0, None)
    parts = [value / values.sum() for value in values if value > 0]
    return -sum(part * np.log(part) for part in parts)


def positions(output, channels):
    """The channels at each position of a sample's output."""
    return np.moveaxis(output.numpy(), channels, -1).reshape(-1, output.shape[channels])


def entropies(network, inputs, blocks, normalization='sample'):
    """``blocks``: the dimension of the channels in one sample's output, by the block's name."""
    n = len(first_tensor(inputs))
    found = []
    for name, channels in blocks.items():
        (samples,) = outputs_of_modules(network, inputs, n, normalization, lambda each, module, name=name: each == name)
        found.append(covariance_entropy([row for output in samples for row in positions(output, channels)]))
    return found


def az_expressivity(network, inputs, blocks, normalization='sample'):
    return sum(entropies(network, inputs, blocks, normalization))


def az_progressivity(network, inputs, blocks, normalization='sample'):
    every = entropies(network, inputs, blocks, normalization)
    return min(b - a for a, b in itertools.pairwise(every))


def az_trainability(network, inputs, blocks, normalization='sample', seed=0):
    """The random signs are drawn as the package draws them; there is no other way to have the same ones."""
    network, inputs = prepared(network, normalization), as_double(inputs)
    n = len(first_tensor(inputs))
    outputs = {}
    for name in blocks:
        network.get_submodule(name).register_forward_hook(
            lambda module, arguments, output, name=name: outputs.__setitem__(name, first_of(output))
        )
    scores = []
    for place, (before, after) in enumerate(itertools.pairwise(blocks)):
        total, count = 0, 0
        signs = None
        for i in range(n):
            outputs.clear()
            call(network, one(inputs, i, n) if normalization == 'sample' else inputs)
            if signs is None:
                generator = torch.Generator().manual_seed((seed << 16) + place)
                signs = torch.randint(2, (n, *outputs[after].shape[1:]), generator=generator).double() * 2 - 1
            out = signs[i : i + 1] if normalization == 'sample' else signs
            (into,) = torch.autograd.grad(outputs[after], outputs[before], out)
            for sample_in, sample_out in zip(into, out):
                for a, b in neighbours(sample_in, sample_out, blocks[before], blocks[after]):
                    total, count = total + np.outer(a, b), count + 1
            if normalization == 'batch':
                break
        norm = np.linalg.svd(total / count, compute_uv=False)[0]
        scores.append(-norm - 1 / (norm + 1e-6) + 2)
    return sum(scores) / len(scores)


def neighbours(into, out, channels_in, channels_out):
    """For each position of the output, its channels and those of the positions that it comes from."""
    into, out = np.moveaxis(into.numpy(), channels_in, -1), np.moveaxis(out.numpy(), channels_out, -1)
    for place in np.ndindex(out.shape[:-1]):
        window = tuple(
            slice(at * (old // new), (at + 1) * (old // new)) for at, old, new in zip(place, into.shape, out.shape[:-1])
        )
        yield into[window].ravel(), out[place]


# VKDNW.


def vkdnw(network, inputs, normalization='sample'):
    network, inputs = prepared(network, normalization), as_double(inputs)
    n = len(first_tensor(inputs))
    weights = [p for p in network.parameters() if p.requires_grad]
    fisher = np.zeros((len(weights), len(weights)))
    for i in range(n):
        logits = main(call(network, one(inputs, i, n) if normalization == 'sample' else inputs))
        logits = logits[0] if normalization == 'sample' else logits[i]
        p = logits.softmax(0).detach().numpy()
        jacobian = []
        for logit in logits:
            gradients = torch.autograd.grad(logit, weights, retain_graph=True, allow_unused=True)
            jacobian.append([0.0 if g is None else float(g.flatten()[0]) for g in gradients])
        jacobian = np.array(jacobian)
        fisher += jacobian.T @ (np.diag(p) - np.outer(p, p)) @ jacobian / n
    deciles = np.clip(np.quantile(np.linalg.eigvalsh(fisher), np.arange(1, 10) / 10), 0, None)
    parts = [value / deciles.sum() for value in deciles if value > 0]
    return len(weights) - sum(part * np.log(part) for part in parts) / np.log(9)


def az_complexity(network, inputs, normalization='sample'):
    """Of convolutions and linear layers."""
    sample = one(as_double(inputs), 0, len(first_tensor(inputs)))
    network, total = prepared(network, normalization), []

    def count(module, arguments, output):
        entries = module.weight.numel() // len(module.weight)
        total.append(2 * entries * output.numel())

    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    call(network, sample)
    return sum(total)


AZ = {'az-expressivity': az_expressivity, 'az-progressivity': az_progressivity, 'az-trainability': az_trainability}
PEERS |= {'vkdnw': vkdnw, 'az-complexity': az_complexity}
