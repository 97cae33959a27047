"""The blocks that a network is a chain of, and what comes out of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nni_knas.gradients import ScoringError, modules_of

__all__ = ['Features', 'as_rows', 'blocks_of', 'checked', 'features_of', 'without_heads']

_CHAINS = (nn.Sequential, nn.ModuleList)
_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network: its cells, stages' blocks or encoder layers, and what has weights beside them.

    A chain is an ``nn.Sequential`` or ``nn.ModuleList`` of two modules or more that have modules of their own. The members
    of the chains nearest to the network are the blocks (a chain among them stands for its members), and so are the modules
    with weights that stand beside them, as stem and head. A network without a chain has its weight layers for blocks.
    (Embeddings are looked up, and are no blocks.)
    """
    chains = _nearest_chains(network)
    if not chains:
        return [module for module in modules_of(network) if isinstance(module, _LAYERS)]
    return _members(network, {id(chain) for chain in chains}, within=False)


def _nearest_chains(network: nn.Module) -> list[nn.Module]:
    level = [network]
    while level:
        chains = [module for module in level if type(module) in _CHAINS and sum(map(_has_parts, module.children())) > 1]
        if chains:
            return chains
        level = [child for module in level for child in module.children()]
    return []


def _members(module: nn.Module, chains: set[int], within: bool) -> list[nn.Module]:
    """The blocks in a module; ``within``: it is a member of a chain."""
    is_chain = id(module) in chains or (within and type(module) in _CHAINS and any(map(_has_parts, module.children())))
    if is_chain or any(id(each) in chains for each in modules_of(module)):
        return [block for child in module.children() for block in _members(child, chains, within or is_chain)]
    is_block = (within and _has_parts(module)) or any(isinstance(each, _LAYERS) for each in modules_of(module))
    return [module] if is_block else []


def _has_parts(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


class Features(NamedTuple):
    """What one call of a block gives.

    Attributes
    ----------
    maps
        The output, shape ``n x channels x ...``, with the positions (pixels, tokens) behind.
    output
        The same in the shape in which the block gives it.
    """

    maps: Tensor
    output: Tensor

    def rows(self) -> Tensor:
        """One row of channels for each sample and position."""
        return as_rows(self.maps)


def as_rows(maps: Tensor) -> Tensor:
    """``n x channels x ...`` as ``positions x channels``."""
    return maps.movedim(1, -1).reshape(-1, maps.shape[1])


def features_of(block: nn.Module, output: Tensor) -> Features | None:
    """The features that a block gives; ``None`` where they are none, as a mask."""
    if output.dim() < 2 or not output.is_floating_point():
        return None
    tokens = output.dim() == 3 and not any(isinstance(module, nn.Conv1d) for module in modules_of(block))
    return Features(output.movedim(-1, 1) if tokens else output, output)


def without_heads(features: list[Features], outputs: Tensor) -> list[Features]:
    """Without the network's output itself, and without what has no positions any more, if others have."""
    features = [each for each in features if each.output is not outputs]
    spread = [each for each in features if each.maps.dim() > 2]
    return spread or features


def checked(outputs: Tensor) -> Tensor:
    """The network's outputs, if they are finite."""
    if not torch.isfinite(outputs).all():
        raise ScoringError('the outputs are not finite: the network explodes at its initial weights')
    return outputs
