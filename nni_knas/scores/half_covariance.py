"""The covariance between two halves of the minibatch: what the authors' published code computes."""

from __future__ import annotations

import torch

from nni_knas.gradients import Gradients, ScoringError
from nni_knas.scores.base import Score, register

TENSORS = 11
ENTRIES = 50


@register
class HalfCovariance(Score):
    r"""Covariance, entry by entry, between the gradients of the two halves of the minibatch.

    .. math::

        \frac{1}{n^2} \sum_{e \in E} \langle A_e - \overline{A_e},\; B_e - \overline{B_e} \rangle

    :math:`E` are the first 50 entries of each of the first 11 parameter tensors that have at least 50 entries and
    receive a gradient; :math:`A_e` is the vector of entry ``e``'s gradients over the first ``n/2`` samples and
    :math:`B_e` over the second ``n/2``. The authors run it with ``n = 50``, hence their constant 2500. With an odd ``n``
    the last sample is left out.

    Source: the public code of Xu et al., "KNAS: Green Neural Architecture Search", ICML 2021. It is not the paper's
    formula: it is signed, and since the samples of the two halves are paired by chance, its expectation is 0 for samples
    drawn independently. It is here so that the published runs can be repeated.
    """

    name = 'half-covariance'
    passes = '1, with per-sample gradients of at most 11 tensors'

    def check(self, samples: int) -> None:
        if samples < 4:
            raise ValueError(
                f'half-covariance needs two halves of at least 2 samples: batch_size is {samples}, take 4 or more'
            )

    def __call__(self, gradients: Gradients) -> float:
        parameters = gradients.parameters
        names = [name for name in gradients.used() if parameters[name].numel() >= ENTRIES][:TENSORS]
        if not names:
            raise ScoringError(f'no parameter tensor of at least {ENTRIES} entries receives a gradient')
        per_sample = gradients.per_sample(names)
        entries = torch.cat([per_sample[name].flatten(1)[:, :ENTRIES] for name in names], dim=1).double()  # n x |E|
        n = len(entries) // 2 * 2
        first, second = entries[: n // 2], entries[n // 2 : n]
        covariance = (first - first.mean(0)) * (second - second.mean(0))
        return float(covariance.sum()) / n**2
