"""A candidate's network at initialisation, as NNI constructs it.

The initial weights of a candidate depend on the seed and on its architecture alone, so that its score is the same
whenever and wherever it is taken. They are drawn in one of two ways, which the candidate itself decides:

- A space makes its layers in one order. NNI draws all their weights from one stream, those of the options that it throws
  away included. So candidates that differ in chosen layers alone have the same weights where they have the same layer.
- Where a candidate's choices shape its structure (inputs, widths, depths), or its constructor draws weights once more when
  all layers are there, and this is dear (many layers or weights, :data:`LAYERS` and :data:`WEIGHTS`),
  each layer has a stream of its own (:mod:`nni_knas.networks.layers`): the same distribution, since the same constructor
  draws, but what is thrown away need not be made again for each candidate.

What differs between candidates' scores is their architecture rather than their luck.
"""

from __future__ import annotations

from nni.common.serializer import is_traceable
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace, model_context
from torch import nn

from nni_knas.gradients import seeded
from nni_knas.networks.layers import Layers, learn_kinds
from nni_knas.networks.pretrained import only_looked_at
from nni_knas.networks.watch import Watch, watched_construction

__all__ = ['LAYERS', 'WEIGHTS', 'build_network', 'construct', 'construct_by_layers', 'constructed', 'has_dear_structure']

LAYERS = 200
"""From how many layers on, blocks and what is thrown away included, a constructor is dear."""

WEIGHTS = 2**20
"""From how many weights of the network on it is dear, too."""


def build_network(model: ExecutableModelSpace, seed: int) -> nn.Module:
    """The freshly initialised network of a frozen model, to be scored or measured: pre-trained weights are not copied.

    Parameters
    ----------
    model
        A frozen NNI model, in any of NNI's formats.
    seed
        The run's seed.
    """
    network, watch = construct(model, seed)
    return construct_by_layers(model, Layers(seed), reuse=False)[0] if has_dear_structure(network, watch) else network


def construct(model: ExecutableModelSpace, seed: int, keep_options: bool = False) -> tuple[nn.Module, Watch]:
    """The network with weights from one stream, as NNI draws them, and what was seen of its construction."""
    with seeded(seed), only_looked_at(), watched_construction(keep_options) as watch:
        network = _network_of(model)
    return network, watch


def constructed(model: ExecutableModelSpace, seed: int) -> nn.Module:
    """The network with the weights that NNI draws, whatever the structure: those that tables of rank correlations are about.

    Parameters
    ----------
    model
        A frozen NNI model, in any of NNI's formats.
    seed
        The seed that the weights are drawn with.
    """
    return construct(model, seed)[0]


def construct_by_layers(model: ExecutableModelSpace, layers: Layers, reuse: bool = True) -> tuple[nn.Module, Watch]:
    """The network with weights from a stream for each layer, and what was seen of its construction.

    It begins anew when it has met a class of layers, or one that cannot be kept, for the first time in this process: what
    is known of them does not depend on the candidates before.
    """
    while True:
        with seeded(layers.seed), only_looked_at(), watched_construction() as watch, layers.in_use(watch, reuse) as fit:
            network = _network_of(model)
        if not learn_kinds(watch) and fit():
            return network, watch


def has_dear_structure(network: nn.Module, watch: Watch) -> bool:
    """Whether each layer has a stream of its own: the same answer, whichever way the network was constructed."""
    if not watch.reads and not watch.redrawn:
        return False
    return watch.layers >= LAYERS or sum(weights.numel() for weights in network.parameters()) >= WEIGHTS


def _network_of(model: ExecutableModelSpace) -> nn.Module:
    if isinstance(model, RawFormatModelSpace) and model.sample and is_traceable(model.model_space):
        # The raw format hands out copies of the space's own weights; a candidate has weights of its own.
        with model_context(model.sample):
            network: nn.Module = model.model_space.trace_copy().get(traceable=False)
    else:
        network = model.executable_model()
    return network
