r"""What a network's features tell of the targets, before any training: statistics that many samples are needed for.

Of each layer, with :math:`K` the Gram matrix of the samples' features, centred and flattened, and :math:`Y` the targets
(one-hot for classes), centred:

===================== =============================================================================================
``target-alignment``  the largest, among the layers, of :math:`\langle K, Y Y^T \rangle_F / (\|K\|_F \|Y Y^T\|_F)`, 0 to 1
                      (Cortes et al., JMLR 2012)
``target-fit``        the largest of :math:`1 - \sum_i \|y_i - \hat y_{-i}\|^2 / \sum_i \|y_i\|^2`, with
                      :math:`\hat y_{-i}` what a kernel ridge regression on the other samples says of sample i; its ridge
                      is a tenth of the trace of :math:`K`. Below 0 where the features tell nothing, at most 1
===================== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nni_knas.gradients import Trace

__all__ = ['LEAST_SAMPLES', 'of_targets', 'vectors_of']

LEAST_SAMPLES = 64
"""Of fewer samples these statistics are noise."""
RIDGE = 0.1


def of_targets(traces: Sequence[Trace], targets: Any) -> Iterator[tuple[str, float]]:
    """The statistics; none where there are few samples, or their targets are not one class or vector each."""
    y = _centred_vectors(targets)
    if y is None or not traces:
        return
    kernels = torch.stack([_kernel(trace.features) for trace in traces])
    yield 'target-alignment', float(_alignments(kernels, y).max())
    yield 'target-fit', float(_fits(kernels, y).max())


def vectors_of(targets: Tensor) -> Tensor:
    """Targets as rows of float64 on the CPU: one-hot for class indices, their values otherwise."""
    y = targets.detach().cpu()
    if not y.is_floating_point() and y.dim() == 1:
        y = F.one_hot(torch.unique(y, return_inverse=True)[1])
    return y.double().reshape(len(y), -1)


def _centred_vectors(targets: Any) -> Tensor | None:
    """Targets as rows of float64, centred; ``None`` where there are too few, or none that differ."""
    if not isinstance(targets, Tensor) or targets.dim() not in (1, 2) or len(targets) < LEAST_SAMPLES:
        return None
    y = vectors_of(targets)
    y = y - y.mean(0)
    return y if y.norm() > 0 else None


def _kernel(features: Tensor) -> Tensor:
    """The Gram matrix of the samples' features, centred, with a trace of 1; zeros where all samples have the same."""
    rows = features.flatten(1).double()
    rows = rows - rows.mean(0)
    rows = rows / rows.abs().max().clamp(min=1e-300)
    gram = rows @ rows.T
    return (gram / gram.trace().clamp(min=1e-300)).cpu()


def _alignments(kernels: Tensor, y: Tensor) -> Tensor:
    labels = y @ y.T
    sizes = torch.linalg.vector_norm(kernels, dim=(1, 2)) * labels.norm()
    return torch.where(sizes > 0, (kernels * labels).sum((1, 2)) / sizes, 0)


def _fits(kernels: Tensor, y: Tensor) -> Tensor:
    r"""By the residuals of the whole fit, :math:`(y_i - \hat y_i) / (1 - h_{ii})`: Allen, Technometrics 1974 (PRESS).

    The mean of the targets is one of what is fitted: :math:`h_{ii}` has 1/n for it.
    """
    n = len(y)
    hats: Tensor = torch.linalg.solve(kernels + RIDGE * torch.eye(n, dtype=kernels.dtype), kernels)
    left = (y - hats @ y) / (1 - hats.diagonal(dim1=1, dim2=2) - 1 / n)[..., None]
    return 1 - left.square().sum((1, 2)) / y.square().sum()
