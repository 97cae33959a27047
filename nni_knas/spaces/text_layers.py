"""The layers that a text classifier is built of, over the hidden states of an encoder.

Shapes: ``n`` texts of ``length`` tokens, each a vector of ``width``. A mask of shape ``n x length`` is true where there is a
token and not padding. What stands where there is none has no influence on any other place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ['ACTIVATIONS', 'MIXES', 'NORMS', 'OPERATIONS', 'POOLINGS', 'SKIPS', 'TopLayers']


class TopLayers(nn.Module):
    """The hidden states of the top layers of an encoder, stacked: ``count x n x length x width``, the last layer first."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def extra_repr(self) -> str:
        return str(self.count)

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(states[: -self.count - 1 : -1])


class MeanOfLayers(nn.Module):
    """The mean over the layers."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()

    def forward(self, states: Tensor) -> Tensor:
        return states.mean(0)


class WeightedLayers(nn.Module):
    """A learned convex combination of the layers (the scalar mix of Peters et al. 2018, ELMo, eq. 1), the mean at first."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layers))
        self.scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.scale)

    def forward(self, states: Tensor) -> Tensor:
        mixed: Tensor = torch.tensordot(self.weight[: len(states)].softmax(0), states, 1)
        return self.scale * mixed


class AttendedLayers(nn.Module):
    """Each token attends to its own states in the layers."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, 1)

    def forward(self, states: Tensor) -> Tensor:
        weights: Tensor = self.query(states).softmax(0)
        return (weights * states).sum(0)


class Nothing(nn.Module):
    """No connection."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros_like(tokens)


class Same(nn.Module):
    """The tokens as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens


class Convolution(nn.Module):
    """A depthwise-separable convolution over the tokens, of the normalised input."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.pointwise = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = self.norm(tokens) * mask[..., None]
        return F.gelu(self.pointwise(self.depthwise(tokens.transpose(1, 2)).transpose(1, 2)))


class SelfAttention(nn.Module):
    """Multi-head self-attention of the normalised input, with heads of 64 where the width allows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        heads = max(1, width // 64)
        self.attention = nn.MultiheadAttention(width, heads if width % heads == 0 else 1, batch_first=True)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        attended: Tensor = self.attention(tokens, tokens, tokens, key_padding_mask=~mask, need_weights=False)[0]
        return attended


class Recurrent(nn.Module):
    """Two gated recurrent units of half the width each, along the normalised tokens and against them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.along = nn.GRU(width, width - width // 2, batch_first=True)
        self.against = nn.GRU(width, width // 2, batch_first=True)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        # The texts in reverse order begin with their last token: padding stays at the end.
        places = torch.arange(tokens.shape[1], device=tokens.device)
        reverse = (mask.sum(1, keepdim=True) - 1 - places) % tokens.shape[1]
        reverse = reverse[..., None].expand(-1, -1, tokens.shape[2])
        against = self.against(tokens.gather(1, reverse))[0]
        return torch.cat([self.along(tokens)[0], against.gather(1, reverse[..., : against.shape[2]])], 2)


class FeedForward(nn.Module):
    """Two linear layers, with twice the width between them, of the normalised input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        transformed: Tensor = self.layers(tokens)
        return transformed


class NoSkip(nn.Module):
    """What the cell gives."""

    def forward(self, tokens: Tensor, changed: Tensor) -> Tensor:
        return changed


class Skip(nn.Module):
    """What the cell gives, added to what it was given."""

    def forward(self, tokens: Tensor, changed: Tensor) -> Tensor:
        return tokens + changed


class FirstToken(nn.Module):
    """The first token of a text."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        first = mask.long().argmax(1)
        return tokens.gather(1, first[:, None, None].expand(-1, 1, tokens.shape[2])).squeeze(1)


class MeanToken(nn.Module):
    """The mean of a text's tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        weights = mask.to(tokens.dtype)[..., None]
        return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)


class MaxToken(nn.Module):
    """The largest entry in each dimension among a text's tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.masked_fill(~mask[..., None], torch.finfo(tokens.dtype).min).amax(1)


class AttendedToken(nn.Module):
    """The mean of a text's tokens, weighted by a learned attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.query(tokens).squeeze(2)
        weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(1)
        return (weights[..., None] * tokens).sum(1)


class RMSNorm(nn.RMSNorm):
    """``nn.RMSNorm`` whose epsilon does not depend on the precision."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)


MIXES = {'mean': MeanOfLayers, 'weighted': WeightedLayers, 'attention': AttendedLayers}
OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    'none': Nothing,
    'identity': Same,
    'conv-3': lambda width: Convolution(width, 3),
    'conv-5': lambda width: Convolution(width, 5),
    'conv-9': lambda width: Convolution(width, 9),
    'attention': SelfAttention,
    'recurrent': Recurrent,
    'feed-forward': FeedForward,
}
SKIPS = {'none': NoSkip, 'add': Skip}
POOLINGS = {'first': FirstToken, 'mean': MeanToken, 'max': MaxToken, 'attention': AttendedToken}
NORMS: dict[str, Callable[[int], nn.Module]] = {'none': lambda width: nn.Identity(), 'layer': nn.LayerNorm, 'rms': RMSNorm}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'tanh': nn.Tanh,
    'relu': nn.ReLU,
    'gelu': nn.GELU,
    'identity': nn.Identity,
}
