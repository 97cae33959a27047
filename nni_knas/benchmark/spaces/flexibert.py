"""FlexiBERT: text transformers with another operation in each layer.

Source: Tuli et al., "FlexiBERT: Are Current Transformer Architectures too Homogeneous and Rigid?", JAIR 2023.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor, nn

from nni_knas.benchmark.base import Benchmark, register_benchmark
from nni_knas.benchmark.spaces.common import built, read_results
from nni_knas.benchmark.spaces.flexibert_layers import FeedForward, Residual, mixing

__all__ = ['FlexiBert', 'flexibert']

EMBEDDING, POSITIONS, WORDS = 128, 512, 30522
TASKS = ('cola', 'mnli', 'mrpc', 'qnli', 'qqp', 'rte', 'sst', 'sts', 'glue')
WHERE = 'a CSV with the columns hidden and layers (operation:parameter:hHEADS:fWIDTHxNUMBER, with ; between) and accuracies'

_OPERATION = r'(SA:SDP|SA:WMA|LT:DFT|LT:DCT|DSC:\d*[13579])'
_NUMBER = r'([1-9]\d*)'
_LAYER = re.compile(rf'{_OPERATION}:h{_NUMBER}:f{_NUMBER}x{_NUMBER}')


@register_benchmark('flexibert', takes='texts', file='flexibert.csv', witness='glue', within='depth')
def flexibert(table: str | None, classes: int = 2) -> Benchmark:
    """FlexiBERT, pre-trained as ELECTRA and fine-tuned on GLUE; ``glue`` is the mean of its eight tasks."""
    results = read_results(table, ['hidden', 'layers'], WHERE, _parse).drop(columns='id', errors='ignore')
    results['depth'] = results.index.str.count(';') + 1
    return built(
        'flexibert',
        results,
        lambda architecture: FlexiBert(architecture, classes),
        key=f'flexibert with {classes} classes',
        final=TASKS,
        tasks=TASKS[:-1],  # glue is their mean
    )


class FlexiBert(nn.Module):
    """The network of an architecture.

    Parameters
    ----------
    architecture
        ``hidden|layer;layer;...`` with each layer ``operation:parameter:hHEADS:fWIDTHxNUMBER``.
    classes
        Number of outputs, of the first token.
    """

    def __init__(self, architecture: str, classes: int) -> None:
        super().__init__()
        hidden, layers = _parse(architecture)
        self.words = nn.Embedding(WORDS, EMBEDDING, padding_idx=0)
        self.positions = nn.Embedding(POSITIONS, EMBEDDING)
        self.sentences = nn.Embedding(2, EMBEDDING)
        self.norm = nn.LayerNorm(EMBEDDING)
        self.projection = nn.Linear(EMBEDDING, hidden)
        self.layers = nn.ModuleList(
            nn.ModuleList([mixing(operation, parameter, hidden, heads), Residual(FeedForward(hidden, wide, number), hidden)])
            for operation, parameter, heads, wide, number in layers
        )
        self.classifier = nn.Linear(hidden, classes)
        self.apply(_start)

    def forward(self, tokens: Tensor) -> Tensor:
        """The outputs of tokens of shape ``n x 2 x length``: ids, and the sentence, 1 or 2, of each; 0 where padded."""
        ids, sentences = tokens.unbind(1)
        there = sentences > 0
        embedded = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.sentences((sentences - 1).clamp(min=0))
        states = self.projection(self.norm(embedded))
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            mix, feed_forward = layer
            states = feed_forward(mix(states, there))
        logits: Tensor = self.classifier(states[:, 0])
        return logits


class _Layer(NamedTuple):
    """What an architecture says of a layer."""

    operation: str
    parameter: str
    heads: int
    wide: int
    number: int


def _parse(architecture: str) -> tuple[int, list[_Layer]]:
    """The hidden width and the layers of an architecture."""
    width, _, text = architecture.partition('|')
    matches = [_LAYER.fullmatch(layer) for layer in text.split(';')]
    found = [match.groups() for match in matches if match]
    if not re.fullmatch(_NUMBER, width) or len(found) < len(matches):
        raise ValueError(f'{architecture!r} is no architecture of FlexiBERT: {WHERE}')
    hidden = int(width)
    layers = [_Layer(*what.split(':'), *map(int, numbers)) for what, *numbers in found]
    if any(hidden % each.heads or (each.operation == 'DSC' and each.heads % 2) for each in layers):
        raise ValueError(f'{architecture!r} is no architecture of FlexiBERT: its width cannot be divided among its heads')
    return hidden, layers


def _start(module: nn.Module) -> None:
    """BERT's initial weights: normal of deviation .02, no biases."""
    if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, (nn.Linear, nn.Conv1d)) and module.bias is not None:
        nn.init.zeros_(module.bias)
