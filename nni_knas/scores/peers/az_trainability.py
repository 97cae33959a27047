"""How near the blocks of a network are to passing gradients on in their size: AZ-NAS's trainability."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nni_knas.gradients import Gradients, Minibatch, NotApplicable, ScoringError, module_outputs
from nni_knas.scores.base import Score, register
from nni_knas.scores.peers.blocks import Features, as_rows, blocks_of, checked, features_of, without_heads

SMALL = 1e-6


@register
class Trainability(Score):
    r"""How near blocks are to passing gradients on in their size, in the mean over blocks.

    .. math::

        \frac{1}{L - 1} \sum_{l=2}^{L} \Big( -\sigma_l - \frac{1}{\sigma_l + \epsilon} + 2 \Big), \qquad
        \sigma_l = \big\| \mathbb{E}_p\, [ g_{l-1,p} \, g_{l,p}^T ] \big\|_2, \quad \epsilon = 10^{-6}

    :math:`g_l` are random signs, drawn by the seed, in the place of the gradient at block ``l``'s output, and
    :math:`g_{l-1}` what backpropagation makes of them at the output of the block before; the spectral norm is that of an
    estimate of the block's Jacobian, from the mean over samples and positions ``p``. At most about 0, where each
    :math:`\sigma_l` is 1. Where block ``l`` has fewer positions, those of block ``l-1`` that belong to one position are
    channels of it. Blocks whose positions do not match, as an image's and its tokens', and blocks that do not depend on the
    one before are left out.

    Source: Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024, with the blocks
    and the setting of ``az-expressivity``. As in the authors' code for NAS-Bench-201 a network with a block that passes on
    just what it gets is the worst there is: it has no score here, where it has minus infinity there.
    """

    name = 'az-trainability'
    passes = '1'

    def __call__(self, gradients: Gradients) -> float:
        passed = _Passed(gradients)
        parts = gradients.watch(passed.look)
        norms = [_spectral_norm([part[place] for part in parts]) for place in range(len(parts[0]))]
        if not norms:
            raise NotApplicable('the network has no two blocks in a row whose positions match')
        return math.fsum(2 - norm - 1 / (norm + SMALL) for norm in norms) / len(norms)


class _Products(NamedTuple):
    """Of one pair of blocks."""

    total: Tensor
    rows: int
    is_identity: bool


class _Passed:
    """What random signs at the blocks' outputs become at the outputs of the blocks before, part by part."""

    def __init__(self, gradients: Gradients) -> None:
        self.network, self.seed, self.size = gradients.network, gradients.seed, gradients.minibatch.size
        self.done = 0  # samples

    def look(self, samples: Minibatch, forward: Callable[..., Tensor]) -> list[_Products]:
        start = 0 if samples.size == self.size else self.done
        features: list[Features] = []

        def see(block: nn.Module, output: Tensor) -> None:
            found = features_of(block, output)
            if found is not None and output.requires_grad:
                features.append(found)

        with module_outputs(blocks_of(self.network), see):
            features = without_heads(features, checked(forward()))
        products = []
        for place, (before, after) in enumerate(itertools.pairwise(features)):
            signs = self._signs(place, after.output, start, samples.size)
            found = _products(before, after, signs)
            products += [] if found is None else [found]
        self.done = start + samples.size
        return products

    def _signs(self, place: int, output: Tensor, start: int, samples: int) -> Tensor:
        """Signs for these samples; the same whatever the size of the parts, where samples are the first dimension."""
        generator = torch.Generator().manual_seed((self.seed << 16) + place)
        rows = self.size * (len(output) // samples) if len(output) % samples == 0 else len(output)
        drawn = 2 * torch.randint(2, (rows, *output.shape[1:]), generator=generator) - 1
        first = start * (len(output) // samples) if rows != len(output) else 0
        return drawn[first : first + len(output)].to(output)


def _products(before: Features, after: Features, signs: Tensor) -> _Products | None:
    (arrived,) = torch.autograd.grad(after.output, before.output, signs, retain_graph=True, allow_unused=True)
    if arrived is None:
        return None
    is_identity = arrived.shape == signs.shape and torch.equal(arrived, signs)
    into, out = _folded(_as_maps(before, arrived), after.maps.shape[2:]), _as_maps(after, signs)
    if into is None or len(into) != len(out):
        return None
    rows = as_rows(out).double()
    return _Products(as_rows(into).double().T @ rows, len(rows), is_identity)


def _as_maps(features: Features, values: Tensor) -> Tensor:
    """Values of the shape of a block's output, with the channels where its maps have them."""
    return values if features.maps.shape == features.output.shape else values.movedim(-1, 1)


def _folded(maps: Tensor, size: Sequence[int]) -> Tensor | None:
    """Maps of fewer positions, each with the channels of those that were there; ``None`` where they do not divide."""
    old = maps.shape[2:]
    if len(old) != len(size) or any(a % b for a, b in zip(old, size)):
        return None
    for axis, positions in enumerate(size):
        maps = maps.unflatten(2 + axis, (positions, -1)).movedim(3 + axis, 1).flatten(1, 2)
    return maps


def _spectral_norm(parts: Sequence[_Products]) -> float:
    if all(part.is_identity for part in parts):
        raise ScoringError('a block passes on just what it gets: nothing in it can be trained')
    mean = torch.stack([part.total for part in parts]).sum(0) / sum(part.rows for part in parts)
    if not torch.isfinite(mean).all():
        raise ScoringError('a gradient is not finite: the network explodes at its initial weights')
    return float(torch.linalg.matrix_norm(mean, 2))
