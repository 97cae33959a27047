"""The spaces that the tables of trained networks were made with: of NNI's hub, in small sizes, and of texts."""

from __future__ import annotations

from nni.nas.hub.pytorch import DARTS, AutoFormer
from nni.nas.nn.pytorch import ModelSpace

from nni_knas.spaces import light_text_classifiers

__all__ = ['autoformer_digits_space', 'darts_cifar10_space', 'text_space']


def darts_cifar10_space() -> ModelSpace:
    """The cells of DARTS in networks of five cells and width 8, for ten classes of images of any size.

    Returns
    -------
    ModelSpace
        Operations and inputs of a normal and of a reduction cell. The networks of the table ``darts-cifar10`` were trained
        on images of 16 x 16.
    """
    return DARTS(width=8, num_cells=5, dataset='cifar', auxiliary_loss=False, drop_path_prob=0.0)


def autoformer_digits_space() -> ModelSpace:
    """Small transformers for ten classes of images of 16 x 16, in patches of 4 x 4.

    Returns
    -------
    ModelSpace
        Depth, embedding dimension, and heads and MLP ratio of each layer (also of those beyond the depth, where they are
        of no effect).
    """
    return AutoFormer(
        search_embed_dim=(8, 16, 32, 64),
        search_mlp_ratio=(0.5, 1.0, 2.0, 4.0),
        search_num_heads=(1, 2, 4),
        search_depth=(1, 2, 3, 4, 6),
        img_size=16,
        patch_size=4,
        num_labels=10,
        drop_path_rate=0.0,
    )


def text_space() -> ModelSpace:
    """Classifiers of pairs of sentences, in two classes, over MiniLM.

    Returns
    -------
    ModelSpace
        Those of :func:`~nni_knas.spaces.light_text_classifiers` that tune no layer.
    """
    return light_text_classifiers('minilm', 2, tuned=(0,))
