"""The effective rank of the mean gradient, where the gradient stays small."""

from __future__ import annotations

import math

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.gradient_rank import GradientRank
from nni_knas.scores.mgm import MGM


@register
class SteadyRank(Score):
    r"""``gradient-rank`` times the logarithm of how small the gradient's entries are.

    .. math::

        \Big( \sum_l r_l^2 \log n_l \Big) \; \log\Big(1 + \frac{1}{q}\Big), \qquad
        q = \sqrt{\frac{\|\bar g\|^2}{N}} = \sqrt{\frac{\mathrm{MGM}}{N}}

    with :math:`r_l` and :math:`n_l` as in ``gradient-rank``, :math:`\bar g` the mean gradient over all ``N`` parameters that
    receive one, and so :math:`q` the root mean square of its entries.

    The first factor counts the weights that the data move independently. The second tells networks that reach the same rank
    with gradients of a steady size from those in which gradients explode on their way back: among networks of one
    effective rank a larger MGM, the score of the KNAS paper, is a worse sign, not a better one.

    The loss's scale enters by a logarithm only, and is the same for all candidates of a run. It assumes what
    ``gradient-rank`` assumes. There is no constant to choose.

    Source: of this project.
    """

    name = 'steady-rank'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        rank = GradientRank()(gradients)
        size = math.sqrt(MGM()(gradients) / sum(g.numel() for g in gradients.mean().values()))
        if not size > 0:
            raise ScoringError('the gradient is zero everywhere')
        return rank * math.log1p(1 / size)
