"""Scores of the mean gradient's size: norms, saliency, and the layer-wise logarithms of both."""

from __future__ import annotations

import torch

from nni_knas.gradients import Gradients
from nni_knas.scores.base import Score, register
from nni_knas.scores.matrices import norms
from nni_knas.scores.mgm import MGM


@register
class GradientNorm(Score):
    r"""Sum over parameter tensors of the norm of the mean gradient, :math:`\sum_t \|\bar g_t\|_2`.

    Source: Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021 (``grad_norm``).

    It assumes that the gradient's scale is a merit, as it is of networks without vanishing or exploding gradients only.
    """

    name = 'gradient-norm'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        return float(norms(list(gradients.mean().values())).sum())


@register
class Snip(Score):
    r"""Saliency of the weights, :math:`\sum_w |w \, \bar g_w|`: how much the loss would change if they were removed.

    Source: Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019; as a score of
    architectures Abdelfattah et al., ICLR 2021.

    It assumes that the loss is about linear as far as zero, and a comparable scale of weights among candidates.
    """

    name = 'snip'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        parameters, mean = gradients.parameters, gradients.mean()
        return float(norms([parameters[name].detach() * g for name, g in mean.items()], 1).sum())


@register
class MGMLogits(Score):
    r"""Mean of the Gram matrix of the outputs' gradients rather than the losses'.

    .. math::

        \sum_c \Big\| \frac{1}{n} \sum_i \nabla_w f_c(x_i) \Big\|^2
            = \mathbb{E}_\epsilon \Big\| \frac{1}{n} \sum_i \nabla_w \langle \epsilon, f(x_i) \rangle \Big\|^2

    with :math:`f_c` the outputs and :math:`\epsilon` random signs. One draw of the signs, by the seed, estimates it without
    bias, in one pass for any number of outputs.

    Source: the mean of the empirical neural tangent kernel of Jacot et al., NeurIPS 2018; the score of Xu et al., ICML
    2021, with outputs in place of losses. It reads no targets. It assumes comparable scales, as MGM does.
    """

    name = 'mgm-logits'
    passes = '1, and one forward pass'

    def __call__(self, gradients: Gradients) -> float:
        return MGM()(gradients.of_outputs())


@register
class LogL1(Score):
    r"""Sum over parameter tensors of :math:`\log(1 + \|\bar g_t\|_1)`.

    Source: of this project's first readings; the layer-wise logarithm is that of ZiCo (Li et al., ICLR 2023). It counts
    layers and their sizes as much as gradients, and depends on the gradient's scale by its logarithm only.
    """

    name = 'log-l1'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        return float(torch.log1p(norms(list(gradients.mean().values()), 1)).sum())


@register
class LogMGM(Score):
    r"""MGM layer by layer in logarithms, :math:`\sum_t \log(1 + \|\bar g_t\|_2^2)`.

    Source: of this project's first readings: the score of Xu et al., ICML 2021, with the layers combined so that none
    outweighs the others. It depends on the gradient's scale by its logarithm only.
    """

    name = 'log-mgm'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        return float(torch.log1p(norms(list(gradients.mean().values())).square()).sum())
