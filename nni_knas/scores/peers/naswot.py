"""Neural architecture search without training: how differently a network at initialisation treats different samples."""

from __future__ import annotations

import torch
from torch import Tensor

from nni_knas.gradients import Gradients, ScoringError, input_jacobian, rectifier_patterns
from nni_knas.scores.base import Score, register

SMALL = 1e-5


@register
class JacobianCovariance(Score):
    r"""How little the samples' gradients with respect to the inputs correlate.

    .. math::

        -\sum_k \Big( \log(\lambda_k + \epsilon) + \frac{1}{\lambda_k + \epsilon} \Big), \qquad \epsilon = 10^{-5}

    with :math:`\lambda` the eigenvalues of the ``n x n`` matrix of Pearson's correlations between the samples' Jacobians
    :math:`\partial \sum_c f_c(x_i) / \partial x_i`, each a vector over the inputs. At most :math:`-n`, for uncorrelated
    Jacobians, and :math:`-10^5` and less where two are alike. Eigenvalues below zero, which rounding makes, count as zero.

    Source: Mellor et al., "Neural Architecture Search without Training", first version (arXiv 2006.04647v1);
    ``jacob_cov`` of Abdelfattah et al., ICLR 2021. It reads no targets. There BatchNorm uses the minibatch's statistics,
    here the kernel's. Of token ids the Jacobian is taken at the first embedding's output. It depends on the number of
    samples, and assumes that they differ.
    """

    name = 'jacob-cov'
    least_samples = 2
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        values = torch.linalg.eigvalsh(_correlations(input_jacobian(gradients))).clamp(min=0) + SMALL
        return -float((values.log() + 1 / values).sum())


def _correlations(rows: Tensor) -> Tensor:
    """Pearson's correlations between rows, in double precision on the CPU."""
    largest = rows.abs().max()
    if not torch.isfinite(largest):
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    rows = rows.double() / largest.clamp(min=torch.finfo(rows.dtype).tiny)
    rows = rows - rows.mean(1, keepdim=True)
    sizes = rows.norm(dim=1, keepdim=True)
    if not (sizes > 0).all():
        raise ScoringError('the outputs of a sample do not depend on its inputs')
    rows = rows / sizes
    return (rows @ rows.T).cpu()


@register
class Naswot(Score):
    r"""Log-determinant of the kernel of the ReLUs' patterns.

    .. math::

        \log \det K, \qquad K_{ij} = N - d_H(c_i, c_j)

    with :math:`c_i` the pattern of sample ``i``, which of the ``N`` units behind ReLUs are on, and :math:`d_H` the Hamming
    distance. At most :math:`n \log N`.

    Source: Mellor et al., "Neural Architecture Search without Training" (NASWOT), ICML 2021, section 3. It reads no
    targets. There BatchNorm uses the minibatch's statistics, here the kernel's. Samples whose patterns are linearly
    dependent, as those that are the same, have no score (there minus infinity). It assumes that the network has ReLUs; it
    depends on the number of samples.
    """

    name = 'naswot'
    least_samples = 2
    passes = '0 (one forward pass)'

    def __call__(self, gradients: Gradients) -> float:
        kernel = sum(_alike(pattern.double()) for pattern in rectifier_patterns(gradients))
        assert isinstance(kernel, Tensor)
        values = torch.linalg.eigvalsh(kernel.cpu())
        if not values[0] > len(values) * torch.finfo(values.dtype).eps * values[-1]:
            raise ScoringError('the patterns of the ReLUs do not tell the samples apart: their kernel is singular')
        return float(values.log().sum())


def _alike(pattern: Tensor) -> Tensor:
    """How many units are the same, on or off, in two samples: shape ``n x n``."""
    return pattern @ pattern.T + (1 - pattern) @ (1 - pattern).T
