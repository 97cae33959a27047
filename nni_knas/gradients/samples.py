"""The samples of a minibatch: tensors, alone or in tuples and dicts, with the samples along the first dimension."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

__all__ = ['Minibatch', 'described', 'is_sampled', 'per_sample_leaves']


class Minibatch(NamedTuple):
    """The samples that the gradients are taken on.

    Attributes
    ----------
    inputs
        What the network takes: a tensor of shape ``n x ...``, or a tuple or dict of them.
    targets
        What the loss compares the outputs with: a tensor of shape ``n x ...``, or a tuple or dict of them.
    """

    inputs: Any
    targets: Any

    @property
    def size(self) -> int:
        """Number of samples ``n``."""
        return next(len(leaf) for leaf in tree_flatten(self.inputs)[0] if isinstance(leaf, Tensor))

    def digest(self) -> str:
        """Digest of the content, the same for equal samples."""
        digest = hashlib.sha256()
        for leaf in tree_flatten(tuple(self))[0]:
            digest.update(leaf.cpu().contiguous().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
        return digest.hexdigest()

    def part(self, start: int, stop: int) -> Minibatch:
        """The samples ``start`` to ``stop - 1``."""
        n = self.size

        def cut(leaf: Any) -> Any:
            return leaf[start:stop] if is_sampled(leaf, n) else leaf

        return Minibatch(tree_map(cut, self.inputs), tree_map(cut, self.targets))

    def reduced(self, resolution: int | None) -> Minibatch:
        """The same samples with their images, inputs of shape ``n x channels x height x width``, made smaller.

        Parameters
        ----------
        resolution
            Pixels along the longer side, by averaging; images that have no more stay as they are. ``None`` leaves all.

        Raises
        ------
        ValueError
            If no input is an image.
        """
        if resolution is None:
            return self
        if not any(_is_image(leaf) for leaf in tree_flatten(self.inputs)[0]):
            raise ValueError(
                f'resolution={resolution} makes images smaller, but the inputs, {described(self.inputs)}, are '
                'none: leave it out'
            )
        return self._with_images(lambda pixels: resolution)

    def halved(self, least: int) -> Minibatch:
        """The same samples with their images, if they have any, made half as large, but not below ``least`` pixels."""
        return self._with_images(lambda pixels: max(least, pixels // 2))

    def _with_images(self, resolution: Callable[[int], int]) -> Minibatch:
        """Images made smaller, to ``resolution`` of their pixels along the longer side."""

        def reduce(leaf: Any) -> Any:
            pixels = max(leaf.shape[2:]) if _is_image(leaf) else 0
            if not pixels or resolution(pixels) >= pixels:
                return leaf
            height, width = (max(1, round(side * resolution(pixels) / pixels)) for side in leaf.shape[2:])
            return F.adaptive_avg_pool2d(leaf, (height, width))

        return self._replace(inputs=tree_map(reduce, self.inputs))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Minibatch:
        """The same samples on ``device``; floating-point tensors become ``dtype`` where it is given."""

        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.to(device, dtype if leaf.is_floating_point() else None)

        return Minibatch(tree_map(move, self.inputs), tree_map(move, self.targets))


def _is_image(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() == 4 and leaf.is_floating_point()


def is_sampled(leaf: Any, n: int) -> bool:
    """Whether the first dimension of a tensor goes over the samples."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == n


def per_sample_leaves(tree: Any, n: int) -> tuple[list[Tensor], Callable[[list[Tensor]], Any]]:
    """The tensors of a tree that have a sample dimension, and a function that builds the tree of a batch of one."""
    leaves, spec = tree_flatten(tree)
    where = [i for i, leaf in enumerate(leaves) if is_sampled(leaf, n)]

    def one(tensors: list[Tensor]) -> Any:
        filled = list(leaves)
        for i, tensor in zip(where, tensors):
            filled[i] = tensor.unsqueeze(0)
        return tree_unflatten(filled, spec)

    return [leaves[i] for i in where], one


def described(tree: Any) -> str:
    """Shapes and types of the tensors in a tree, for messages."""
    if isinstance(tree, Tensor):
        return f'of shape {"x".join(map(str, tree.shape)) or "scalar"} ({str(tree.dtype).removeprefix("torch.")})'
    if isinstance(tree, Mapping):
        return '{' + ', '.join(f'{key} {described(value)}' for key, value in tree.items()) + '}'
    if isinstance(tree, (tuple, list)):
        return '(' + ', '.join(map(described, tree)) + ')'
    return type(tree).__name__
