"""Scores of the spectrum of three kernels over the samples: Gram matrix, empirical neural tangent kernel, Fisher."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nni_knas.gradients import Gradients
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import entropy, participation_ratio, spectrum


class KernelSpectrum(Score):
    r"""A function of the eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_n` of a kernel over the samples.

    The kernels, each ``n x n``:

    - ``gram``: :math:`\langle g_i, g_j \rangle` of the losses' gradients. Divided by ``n`` its eigenvalues are those of the
      empirical Fisher :math:`\frac{1}{n} \sum_i g_i g_i^T` (all that are not zero), which is the covariance of the
      gradients with the true labels.
    - ``ntk``: the same of the outputs' gradients, one random projection of the outputs by the seed: an estimate, without
      bias, of the neural tangent kernel summed over outputs. It reads no targets.
    - ``fisher``: the same of the losses' gradients for labels that are drawn, by the seed, from the network's own
      predictions: an estimate of the Fisher information's spectrum by one draw a sample. For classifiers with cross-entropy.

    The functions, each free of the gradients' scale as far as its square is within single precision:

    - ``condition``: :math:`-\log(\lambda_1 / \lambda_n)`, with :math:`\lambda_n` no less than rounding lets it be known;
    - ``entropy``: :math:`-\sum_k p_k \log p_k` with :math:`p_k = \lambda_k / \sum_j \lambda_j`;
    - ``effective rank``: :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`.

    Sources: condition number of the neural tangent kernel, Chen et al., "Neural Architecture Search on ImageNet in Four GPU
    Hours" (TE-NAS), ICLR 2021. Entropy of the Fisher spectrum, Tybl and Neumann, "Training-free Neural Architecture Search
    through Variance of Knowledge of Deep Network Weights" (VKDNW), CVPR 2025, which takes a few parameters a layer where
    the kernel over samples serves all of them.

    They assume that a network learns fast where samples move it in different directions.
    """

    passes = '1, with per-sample gradients'
    least_samples = 2
    kernel: ClassVar[str]
    """Which kernel it is of: ``gram``, ``ntk`` or ``fisher``."""

    def __call__(self, gradients: Gradients) -> float:
        of = {'gram': lambda: gradients, 'ntk': gradients.of_outputs, 'fisher': gradients.of_predictions}[self.kernel]
        return self.value(spectrum(of().gram()))

    def value(self, parts: Tensor) -> float:
        """The score of a spectrum.

        Parameters
        ----------
        parts
            The eigenvalues as parts of their sum, ascending, shape ``n``.
        """
        raise NotImplementedError


class _Condition(KernelSpectrum):
    def value(self, parts: Tensor) -> float:
        least = torch.finfo(torch.float32).eps * parts[-1]  # gradients are of single precision
        return float(torch.log(parts[0].clamp(min=least) / parts[-1])) if parts[-1] > 0 else -torch.inf


class _Entropy(KernelSpectrum):
    def value(self, parts: Tensor) -> float:
        return entropy(parts)


class _EffectiveRank(KernelSpectrum):
    def value(self, parts: Tensor) -> float:
        return participation_ratio(parts)


@register
class GramCondition(_Condition):
    r"""Condition number of the Gram matrix of the losses' gradients, :math:`-\log(\lambda_1 / \lambda_n)`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'gram-condition'
    kernel = 'gram'


@register
class GramEntropy(_Entropy):
    r"""Entropy of the spectrum of the Gram matrix of the losses' gradients, :math:`-\sum_k p_k \log p_k`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'gram-entropy'
    kernel = 'gram'


@register
class GramEffectiveRank(_EffectiveRank):
    r"""Effective rank of the Gram matrix of the losses' gradients, :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'gram-effective-rank'
    kernel = 'gram'


@register
class NtkCondition(_Condition):
    r"""Condition number of the empirical neural tangent kernel, :math:`-\log(\lambda_1 / \lambda_n)`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'ntk-condition'
    kernel = 'ntk'


@register
class NtkEntropy(_Entropy):
    r"""Entropy of the spectrum of the empirical neural tangent kernel, :math:`-\sum_k p_k \log p_k`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'ntk-entropy'
    kernel = 'ntk'


@register
class NtkEffectiveRank(_EffectiveRank):
    r"""Effective rank of the empirical neural tangent kernel, :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'ntk-effective-rank'
    kernel = 'ntk'


@register
class FisherCondition(_Condition):
    r"""Condition number of the Fisher information over the samples, :math:`-\log(\lambda_1 / \lambda_n)`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'fisher-condition'
    kernel = 'fisher'


@register
class FisherEntropy(_Entropy):
    r"""Entropy of the spectrum of the Fisher information over the samples, :math:`-\sum_k p_k \log p_k`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'fisher-entropy'
    kernel = 'fisher'


@register
class FisherEffectiveRank(_EffectiveRank):
    r"""Effective rank of the Fisher information over the samples, :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`.

    The kernel, the sources and the assumptions are those of :class:`KernelSpectrum`.
    """

    name = 'fisher-effective-rank'
    kernel = 'fisher'
