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


for _kernel in ('gram', 'ntk', 'fisher'):
    for _function, _base in (('condition', _Condition), ('entropy', _Entropy), ('effective-rank', _EffectiveRank)):
        register(type(f'{_kernel.title()}{_base.__name__.strip("_")}', (_base,),
                      {'name': f'{_kernel}-{_function}', 'kernel': _kernel, '__doc__': KernelSpectrum.__doc__}))
