"""TransNAS-Bench-101, micro: cells of four nodes for seven vision tasks.

Source: Duan et al., "TransNAS-Bench-101: Improving Transferability and Generalizability of Cross-Task Neural Architecture
Search", CVPR 2021.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from nni_knas.benchmark.base import Benchmark, register_benchmark
from nni_knas.benchmark.spaces.common import built, read_results

__all__ = ['MicroCellNetwork', 'transnas_micro']

WHERE = 'a CSV with the column arch, such as 64-41414-1_23_012, and a column a task, higher is better'
_PATTERN = re.compile(r'([2-9]|[1-9]\d+)-([1-4]+)-([0-3])_([0-3]{2})_([0-3]{3})')


@register_benchmark('transnas-micro', data='cifar10', image_size=64, file='transnas_micro.csv', witness='class_scene')
def transnas_micro(table: str | None, classes: int = 10) -> Benchmark:
    """TransNAS-Bench-101, micro: seven tasks; the tasks' images are not to be had, so that others are scored on."""
    return built(
        'transnas-micro',
        read_results(table, ['arch'], WHERE, _parse),
        lambda architecture: MicroCellNetwork(architecture, classes),
        key=f'transnas-micro with {classes} classes',
        choices=lambda architecture: [digit for part in _parse(architecture)[1:] for digit in part],
    )


class MicroCellNetwork(nn.Module):
    """The network of an architecture string.

    Parameters
    ----------
    architecture
        ``64-41414-a_bc_def``: the stem's channels; what the first cell of each stage changes (1 nothing, 2 twice the
        channels, 3 stride 2, 4 both); and the operations of the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3 (0 none, 1 skip, 2 a
        convolution of 1 x 1, 3 of 3 x 3).
    classes
        Number of outputs.
    """

    def __init__(self, architecture: str, classes: int) -> None:
        super().__init__()
        width, stages, *nodes = _parse(architecture)
        channels = int(width)
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        cells: list[nn.Module] = []
        for digit in stages:
            outputs = channels * (2 if digit in '24' else 1)
            cells.append(_Cell(nodes, channels, outputs, 2 if digit in '34' else 1))
            cells.append(_Cell(nodes, outputs, outputs, 1))
            channels = outputs
        self.cells = nn.Sequential(*cells)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.cells(self.stem(images)))
        return logits


def _parse(architecture: str) -> tuple[str, ...]:
    """The stem's channels, the stages, and the operations of the edges into each node."""
    match = _PATTERN.fullmatch(architecture)
    if match is None:
        raise ValueError(f'{architecture!r} is no architecture of TransNAS-Bench-101 micro: {WHERE}')
    return match.groups()


class _Cell(nn.Module):
    """Nodes that add up what their edges bring; those that leave the first node carry the stride and the new channels."""

    def __init__(self, nodes: list[str], channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                _edge(operation, outputs if source else channels, outputs, 1 if source else stride)
                for source, operation in enumerate(node)
            )
            for node in nodes
        )

    def forward(self, images: Tensor) -> Tensor:
        values = [images]
        for edges in self.nodes:
            assert isinstance(edges, nn.ModuleList)
            values.append(torch.stack([edge(value) for edge, value in zip(edges, values)]).sum(0))
        return values[-1]


def _edge(operation: str, channels: int, outputs: int, stride: int) -> nn.Module:
    changes = stride > 1 or channels != outputs
    if operation == '0':
        return _Zero(outputs, stride)
    if operation == '1':
        return _Reduce(channels, outputs, stride) if changes else nn.Identity()
    size = 1 if operation == '2' else 3
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _Zero(nn.Module):
    """No connection."""

    def __init__(self, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, images: Tensor) -> Tensor:
        rest = images[:, :1, :: self.stride, :: self.stride]
        return torch.zeros_like(rest).expand(-1, self.outputs, -1, -1)


class _Reduce(nn.Module):
    """A skip connection to another shape: half of the channels each from the even and from the odd pixels."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        halves = outputs // 2, outputs - outputs // 2
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, half, 1, stride, bias=False) for half in halves)
        self.offset = stride - 1
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, images: Tensor) -> Tensor:
        images = images.relu()
        shifted = nn.functional.pad(images, (0, self.offset, 0, self.offset))[:, :, self.offset :, self.offset :]
        first, second = self.convolutions
        normed: Tensor = self.norm(torch.cat([first(images), second(shifted)], dim=1))
        return normed
