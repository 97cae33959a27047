"""The number of linear regions, the second of TE-NAS's two measures. The first is ``ntk-condition``."""

from __future__ import annotations

import torch

from nni_knas.gradients import Gradients, rectifier_patterns
from nni_knas.scores.base import Score, register


@register
class LinearRegions(Score):
    r"""Number of the network's linear regions that the samples lie in.

    .. math::

        \big| \{ c_1, \dots, c_n \} \big|

    with :math:`c_i` the pattern of sample ``i``: which of the units behind ReLUs are on. From 1 to ``n``.

    Source: Chen et al., "Neural Architecture Search on ImageNet in Four GPU Hours" (TE-NAS), ICLR 2021, section 3.1. It
    reads no targets. There it is counted on thousands of tiny noise images in thinned networks; here, as in AZ-NAS's
    comparison, on the samples, in the network as it is, where few samples share a region: it tells apart only networks
    that are all but linear. It assumes that the network has ReLUs.
    """

    name = 'linear-regions'
    least_samples = 2
    passes = '0 (one forward pass)'

    def __call__(self, gradients: Gradients) -> float:
        patterns = torch.cat(rectifier_patterns(gradients), 1).cpu().numpy()
        return float(len({row.tobytes() for row in patterns}))
