"""What takes part on the way forth and on the way back: the recommended score."""

from __future__ import annotations

import math
from typing import ClassVar

from nni_knas.basics.factors import FACTORS, LEAST
from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.panel import forward_statistics

__all__ = ['TwoWayRank']


@register
class TwoWayRank(Score):
    r"""How many weights take part in learning, times the rank of features, times the share of their rank that gradients use.

    .. math::

        \Big( \sum_l p_l \Big)^{1/2} \Big( \sum_l p_l^{1/2} \Big) \Big( \sum_l f_l^2 \Big)^{1/2}
            \Big( \frac{1}{L} \sum_l \frac{r_l}{\min(m_l, n_l)} \Big) \log\Big(1 + \frac{1}{q}\Big), \qquad
        p_l = \frac{\|\bar G_l\|_1^2}{\|\bar G_l\|_2^2}, \quad f_l = \frac{(\mathrm{tr}\, C_l)^2}{\mathrm{tr}\, C_l^2}

    in logarithm, with :math:`\bar G_l` the mean gradient of a layer's weights, :math:`r_l` its effective rank as a matrix of
    :math:`m_l` by :math:`n_l` (at most 64 rows of it), :math:`C_l` the covariance of the channels of a layer's outputs over
    samples and positions, :math:`f_l` so the effective rank of its features, and :math:`q` the root mean square of the mean
    gradient's entries.

    :math:`p_l` is the number of weights that the loss asks to change, were all asked alike. Its sum is governed by the
    widest layers and hardly tells more than the number of parameters, the square of the sum of its roots grows with depth
    as well; which of the two is right differs from space to space, and their geometric mean is near the better one.
    The next factor counts in how many directions features differ on the way forth, the next in how many of those that
    they could the layers learn; ranks are participation ratios, so that none has a scale. The last one tells networks
    whose gradients stay small from those in which they explode on their way back. All are numbers of the panel
    (``participation``, ``participation-roots``, ``feature-rank-squares``, ``weight-rank-share``, ``gradient-size``): of the
    activations and gradients of one pass, for layers of any kind.

    Range: any real number. A network through which no features come has a very low one.

    Source: of this project. The ratio of the norms is a measure of sparsity (Hurley and Rickard, IEEE Transactions on
    Information Theory, 2009); the participation ratio of a spectrum is Roy and Vetterli's effective rank (EUSIPCO 2007) by
    second moments; the rank of features as expressivity is that of AZ-NAS (Lee and Ham, CVPR 2024), there by the entropy
    and of blocks.
    """

    name = 'two-way-rank'
    passes = '1'
    traces = True
    factors: ClassVar = FACTORS
    least: ClassVar = LEAST

    def __call__(self, gradients: Gradients) -> float:
        panel = forward_statistics(gradients)
        if not panel['log-l1'] > 0:
            raise ScoringError('the gradient is zero everywhere')
        return math.fsum(power * math.log(max(panel[name], self.least)) for name, power in self.factors.items())
