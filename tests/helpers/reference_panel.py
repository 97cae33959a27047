"""The panel as its definition says: sample by sample, whole covariances and their eigenvalues, in double precision."""

from __future__ import annotations

import math

import numpy as np
from torch import nn


def rank(matrix):
    values = np.linalg.eigvalsh(matrix)
    return values.sum() ** 2 / (values**2).sum() if np.abs(values).max() > 1e-300 else 0.0


def rank_of_rows(rows):
    return rank(rows @ rows.T)


def rank_of_covariance(rows):
    centred = rows - rows.mean(0)
    return rank(centred.T @ centred)


def evenly(count, most):
    taken = min(count, most)
    return [i * count // taken for i in range(taken)]


def middles(count, most):
    taken = min(count, most)
    return [int((i + 0.5) * count / taken) for i in range(taken)]


def _rows(layer, values):
    """Of one sample: positions x channels."""
    values = values.detach().double().numpy().copy()  # a later layer may write into it
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return values[0].reshape(values.shape[1], -1).T
    return values.reshape(-1, values.shape[-1])


def calls_of(network, loss, inputs, target):
    """The gradients of one sample's loss, and of each call of a layer what came out and what came back."""
    calls, hooks = [], []

    def look(layer, given, output):
        output = output[0] if isinstance(output, tuple) else output
        call = [_rows(layer, output), np.zeros_like(_rows(layer, output)), output.numel()]
        calls.append(call)
        output.register_hook(lambda gradient: call.__setitem__(1, _rows(layer, gradient)))

    for layer in network.modules():
        if any(p is not None and p.dim() > 1 for p in layer._parameters.values()):
            hooks.append(layer.register_forward_hook(look))
    network.zero_grad()
    loss(network(inputs[None]), target[None]).backward()
    for hook in hooks:
        hook.remove()
    return calls, [None if p.grad is None else p.grad.double().numpy().copy() for p in network.parameters()]


def panel_of(network, inputs, targets, loss=nn.functional.cross_entropy):
    n = len(inputs)
    passes = [calls_of(network, loss, x, y) for x, y in zip(inputs, targets)]
    mean = [sum(grads) / n for grads in zip(*(grads for _, grads in passes)) if grads[0] is not None]
    values = {**_of_gradients(mean), **_of_calls([calls for calls, _ in passes], n)}
    return values


def _of_gradients(mean):
    matrices = [g.reshape(len(g), -1) for g in mean if g.ndim > 1]
    ratios = [np.abs(m).sum() ** 2 / (m**2).sum() if np.abs(m).max() > 0 else 0.0 for m in matrices]
    ranks = []
    for matrix in matrices:
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        ranks.append(rank_of_rows(matrix[evenly(len(matrix), 64)]))
    entries = np.concatenate([g.ravel() for g in mean])
    return {
        'weights': entries.size,
        'gradient-size': math.log(1 + 1 / math.sqrt((entries**2).mean())),
        'gradient-norm': sum(math.log(1 + math.sqrt((g**2).sum())) for g in mean),
        'log-l1': sum(math.log(1 + np.abs(g).sum()) for g in mean),
        'log-mgm': sum(math.log(1 + (g**2).sum()) for g in mean),
        'participation': sum(ratios),
        'participation-roots': sum(math.sqrt(ratio) for ratio in ratios),
        'log-participation': sum(math.log(1 + ratio) for ratio in ratios),
        'participation-share': np.mean([ratio / m.size for ratio, m in zip(ratios, matrices)]),
        'weight-rank': sum(ranks),
        'weight-log-rank': sum(math.log(1 + r**2) for r in ranks),
        'weight-rank-share': np.mean([r / min(64, *m.shape) for r, m in zip(ranks, matrices)]),
    }


def _of_calls(passes, n):
    forth, back, samples, back_samples = [], [], [], []
    for calls in zip(*passes):
        places = middles(len(calls[0][0]), min(16, math.ceil(128 / n)))
        features, gradients = ([call[kind][places] for call in calls] for kind in (0, 1))
        forth.append(rank_of_covariance(np.concatenate(features)))
        back.append(rank_of_covariance(np.concatenate(gradients)))
        samples.append(rank_of_rows(np.stack([rows.ravel() for rows in features])))
        back_samples.append(rank_of_rows(np.stack([rows.ravel() for rows in gradients])))
    third = max(1, len(forth) // 3)
    late, early = np.mean(forth[-third:]), np.mean(forth[:third])
    back_late, back_early = np.mean(back[-third:]), np.mean(back[:third])
    return {
        'layers': len(forth),
        'units': math.log(1 + sum(call[2] for call in passes[0])),
        'feature-rank': sum(forth),
        'feature-rank-squares': sum(f**2 for f in forth),
        'feature-log-rank': sum(math.log(1 + f**2) for f in forth),
        'feature-rank-late': late,
        'feature-survival': late / early if early > 0 else 0.0,
        'sample-rank': sum(samples),
        'sample-rank-late': np.mean(samples[-third:]),
        'backward-rank': sum(back),
        'backward-log-rank': sum(math.log(1 + b**2) for b in back),
        'backward-rank-early': back_early,
        'backward-survival': back_early / back_late if back_late > 0 else 0.0,
        'backward-sample-rank': sum(back_samples),
    }


def two_way_rank(panel):
    return (
        math.log(panel['participation']) / 2
        + math.log(panel['participation-roots'])
        + math.log(panel['feature-rank-squares']) / 2
        + math.log(panel['weight-rank-share'])
        + math.log(panel['gradient-size'])
    )
