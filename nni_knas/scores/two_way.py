"""What takes part on the way forth and on the way back: the recommended score."""

from __future__ import annotations

import math
from typing import ClassVar

from nni_knas.basics.factors import FACTORS, LEAST
from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.panel import statistics

__all__ = ['TwoWayRank']


@register
class TwoWayRank(Score):
    r"""How many weights take part in learning, times how many directions features have, where both reach the ends.

    .. math::

        \Big( \sum_l \frac{\|\bar G_l\|_1^2}{\|\bar G_l\|_2^2} \Big) \Big( \sum_l f_l^2 \Big)
            \Big( \frac{\overline{f}_\mathrm{late}}{\overline{f}_\mathrm{early}} \Big)^{1/2}
            \log\Big(1 + \frac{1}{q}\Big), \qquad
        f_l = \frac{(\mathrm{tr}\, C_l)^2}{\mathrm{tr}\, C_l^2}

    in logarithm, with :math:`\bar G_l` the mean gradient of a layer's weights, :math:`C_l` the covariance of the channels
    of its outputs over samples and positions, :math:`f_l` so the effective rank of its features, its means over the last and
    the first third of the layers in the order of the pass, and :math:`q` the root mean square of the mean gradient's
    entries.

    The first factor counts the weights that the loss asks to change, the second the directions in which features differ
    (both as participation ratios, so that neither has a scale). The third is what of these directions is left at the end
    of the forward pass: cells whose features become alike with depth are hard to train, however many weights they have;
    the root keeps it behind the others, since where widths grow from stage to stage it says less. The fourth tells
    networks whose gradients stay small from those in which they explode on their way back. All four are numbers of the
    panel (``participation``, ``feature-rank-squares``, ``feature-survival``, ``gradient-size``): of the activations and
    gradients of one pass, for layers of any kind.

    Range: any real number. A network through which no features come has a very low one.

    Source: of this project. The participation ratio of a spectrum is Roy and Vetterli's effective rank (EUSIPCO 2007) by
    second moments; the rank of features as expressivity is that of AZ-NAS (Lee and Ham, CVPR 2024), there by the entropy
    and of blocks.
    """

    name = 'two-way-rank'
    passes = '1'
    factors: ClassVar = FACTORS
    least: ClassVar = LEAST

    def __call__(self, gradients: Gradients) -> float:
        panel = statistics(gradients)
        if not panel['log-l1'] > 0:
            raise ScoringError('the gradient is zero everywhere')
        return math.fsum(power * math.log(max(panel[name], self.least)) for name, power in self.factors.items())
