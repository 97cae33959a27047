"""What every score has to beat: numbers that are read off a network without any gradient."""

from __future__ import annotations

from nni_knas.gradients import Gradients, has_weights
from nni_knas.scores import Score, flops

__all__ = ['BASELINES', 'Baseline', 'Flops', 'Layers', 'Parameters']


class Baseline(Score):
    """A property of the network that depends neither on its weights nor on the images' content."""

    passes = '0'


class Parameters(Baseline):
    """Number of trainable parameters."""

    name = 'parameters'

    def __call__(self, gradients: Gradients) -> float:
        return float(sum(p.numel() for p in gradients.parameters.values()))


class Flops(Baseline):
    """Floating-point operations of the forward pass of one sample, as ``torch.utils.flop_counter`` counts them.

    It counts convolutions, matrix products and attention, a multiplication and an addition as two.
    """

    name = 'flops'
    passes = '0 (one forward pass of one sample)'

    def __call__(self, gradients: Gradients) -> float:
        return flops(gradients)


class Layers(Baseline):
    """Number of weight layers: modules that have a parameter of two dimensions or more of their own."""

    name = 'layers'

    def __call__(self, gradients: Gradients) -> float:
        return float(sum(has_weights(module) for module in gradients.network.modules()))


BASELINES: tuple[Baseline, ...] = (Parameters(), Flops(), Layers())
"""They stand in every table."""
