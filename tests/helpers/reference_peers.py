"""Published scores in the slow, obvious way, as :mod:`reference`: from torch's own layers and autograd, by loops, in double
precision. A rectifier is a layer here, ``nn.ReLU`` or ``nn.ReLU6``."""

from __future__ import annotations

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
        output = output[0] if isinstance(output, tuple) else output
        if isinstance(output, torch.Tensor):
            now.append(output.detach().clone())

    for module in network.modules():
        if wanted(module):
            module.register_forward_hook(keep)
    if normalization == 'batch':
        call(network, inputs)
        return [[output[i] for i in range(n)] for output in calls[0]]
    for i in range(n):
        now = calls[i]
        call(network, one(inputs, i, n))
    return [[output[0] for output in each] for each in zip(*calls)]


def codes(network, inputs, normalization):
    """For each sample the pattern of all rectifiers, a tuple of 0 and 1."""
    n = len(first_tensor(inputs))
    calls = outputs_of_modules(network, inputs, n, normalization, lambda module: isinstance(module, (nn.ReLU, nn.ReLU6)))
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
    for output in outputs_of_modules(network, inputs, n, normalization, lambda module: True):
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
