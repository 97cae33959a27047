"""What features tell of the targets, as scores by themselves."""

from __future__ import annotations

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register
from nni_knas.scores.panel import statistics
from nni_knas.scores.targets import LEAST_SAMPLES


class _OfTargets(Score):
    passes = '1'
    traces = True
    least_samples = LEAST_SAMPLES

    def __call__(self, gradients: Gradients) -> float:
        value = statistics(gradients).get(self.name)
        if value is None:
            raise ScoringError(
                f'{self.name} needs {LEAST_SAMPLES} samples or more with one class or vector of numbers each, that differ'
            )
        return value


@register
class TargetAlignment(_OfTargets):
    r"""The alignment of the features with the targets, of the layer where it is largest, at initialisation.

    It is :math:`\langle K, Y Y^T \rangle_F / (\|K\|_F \|Y Y^T\|_F)`, the statistic ``target-alignment`` of
    :mod:`nni_knas.scores.targets`. Source: Cortes et al., "Algorithms for Learning
    Kernels Based on Centered Alignment", JMLR 2012. It reads targets, and assumes features that are not mere noise before
    training, as those over a pre-trained encoder; ``label-alignment`` is the same of the tangent kernel.
    """

    name = 'target-alignment'


@register
class TargetFit(_OfTargets):
    r"""How well the targets are predicted from the features, of the layer where they are best, at initialisation.

    It is :math:`1 - \sum_i \|y_i - \hat y_{-i}\|^2 / \sum_i \|y_i\|^2`, the statistic ``target-fit`` of
    :mod:`nni_knas.scores.targets`: the share of the targets' variance that a kernel ridge regression explains of a sample
    that it is not given. Source: Allen, "The Relationship between Variable Selection and Data Augmentation and a Method for
    Prediction", Technometrics 1974 (PRESS). It reads targets, and assumes what ``target-alignment`` does.
    """

    name = 'target-fit'
