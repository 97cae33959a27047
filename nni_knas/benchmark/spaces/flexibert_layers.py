"""The layers of FlexiBERT: attention, linear transforms, dynamic span convolution, feed-forward stacks."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ['FeedForward', 'Residual', 'mixing']


def mixing(operation: str, parameter: str, hidden: int, heads: int) -> nn.Module:
    """What mixes the tokens in one layer: ``mix(states, there)`` with states of shape ``n x length x hidden``.

    Raises
    ------
    ValueError
        If there is no such operation.
    """
    if operation == 'SA' and parameter in ('SDP', 'WMA'):
        return _Mixed(_Attention(hidden, heads, weighted=parameter == 'WMA'), hidden)
    if operation == 'LT' and parameter in ('DFT', 'DCT'):
        return _Transform(hidden, heads, parameter)
    if operation == 'DSC':
        return _Mixed(_SpanConvolution(hidden, heads, int(parameter)), hidden)
    raise ValueError(f'unknown operation {operation}:{parameter}')


class Residual(nn.Module):
    """A module with what goes around it, normalised."""

    def __init__(self, module: nn.Module, hidden: int) -> None:
        super().__init__()
        self.module, self.norm = module, nn.LayerNorm(hidden)

    def forward(self, states: Tensor) -> Tensor:
        normed: Tensor = self.norm(states + self.module(states))
        return normed


class FeedForward(nn.Sequential):
    """From ``hidden`` to ``wide`` and back, by a stack of linear layers with GELU between."""

    def __init__(self, hidden: int, wide: int, number: int) -> None:
        widths = [hidden, *[wide] * number]
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        super().__init__(*layers, nn.Linear(wide, hidden))


class _Mixed(nn.Module):
    """A mixing of the tokens, a linear layer, and what goes around both, normalised."""

    def __init__(self, mix: nn.Module, hidden: int) -> None:
        super().__init__()
        self.mix, self.dense, self.norm = mix, nn.Linear(hidden, hidden), nn.LayerNorm(hidden)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        normed: Tensor = self.norm(states + self.dense(self.mix(states, there)))
        return normed


def _heads_of(states: Tensor, heads: int) -> Tensor:
    """``n x length x width`` as ``n x heads x length x (width / heads)``."""
    split: Tensor = states.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _attend(parts: tuple[Tensor, Tensor, Tensor], there: Tensor, heads: int) -> Tensor:
    """Scaled dot product attention of query, key and value, to the tokens that are there; the heads joined again."""
    query, key, value = (_heads_of(part, heads) for part in parts)
    return F.scaled_dot_product_attention(query, key, value, there[:, None, None]).transpose(1, 2).flatten(2)


class _Attention(nn.Module):
    """Self-attention; ``weighted`` has one more matrix on the query, without bias."""

    def __init__(self, hidden: int, heads: int, weighted: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.weight = nn.Linear(hidden, hidden, bias=False) if weighted else nn.Identity()
        self.heads = heads

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        parts = self.weight(self.query(states)), self.key(states), self.value(states)
        return _attend(parts, there, self.heads)


class _Transform(nn.Module):
    """A linear layer, then the discrete Fourier or cosine transform over sequence and width of each head."""

    def __init__(self, hidden: int, heads: int, kind: str) -> None:
        super().__init__()
        self.linear, self.heads, self.kind = nn.Linear(hidden, hidden), heads, kind

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        heads = _heads_of(self.linear(states), self.heads)
        if self.kind == 'DFT':
            heads = torch.fft.fft2(heads).real
        else:
            heads = _cosines(heads.shape[-2], heads) @ heads @ _cosines(heads.shape[-1], heads).T
        return heads.transpose(1, 2).flatten(2)


def _cosines(n: int, like: Tensor) -> Tensor:
    """The matrix of the discrete cosine transform of type II, shape ``n x n``."""
    places = torch.arange(n, dtype=like.dtype, device=like.device)
    return 2 * torch.cos(math.pi / n * places[:, None] * (places + 0.5))


class _SpanConvolution(nn.Module):
    """ConvBERT's mixed attention: half of the heads attend, half convolve by kernels made from spans of the text.

    Source: Jiang et al., "ConvBERT: Improving BERT with Span-based Dynamic Convolution", NeurIPS 2020.
    """

    def __init__(self, hidden: int, heads: int, span: int) -> None:
        super().__init__()
        self.heads, self.span, half = heads // 2, span, hidden // 2
        self.query, self.key, self.value = (nn.Linear(hidden, half) for _ in range(3))
        self.depthwise = nn.Conv1d(hidden, hidden, span, padding=span // 2, groups=hidden, bias=False)
        self.pointwise = nn.Conv1d(hidden, half, 1)
        self.kernels = nn.Linear(half, self.heads * span)
        self.values = nn.Linear(hidden, half)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        query = self.query(states)
        attended = _attend((query, self.key(states), self.value(states)), there, self.heads)
        spans = self.pointwise(self.depthwise(states.mT)).mT
        kernels = self.kernels(spans * query).unflatten(-1, (self.heads, self.span)).softmax(-1)
        values = F.pad(self.values(states), (0, 0, self.span // 2, self.span // 2)).unfold(1, self.span, 1)
        convolved = (values.unflatten(2, (self.heads, -1)) * kernels[:, :, :, None]).sum(-1).flatten(2)
        return torch.cat([attended, convolved], dim=-1)
