"""Which loss networks are scored by where the user gives none: the one that trains them, else what the targets suggest."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nni_knas.gradients import Loss

__all__ = ['criterion_of', 'is_plain_cross_entropy', 'loss_in_words', 'needs_all_targets', 'suggested_loss']

_WORDS = {
    'MSELoss': 'mean squared error',
    'mse_loss': 'mean squared error',
    'L1Loss': 'mean absolute error',
    'l1_loss': 'mean absolute error',
    'BCEWithLogitsLoss': 'binary cross-entropy',
    'binary_cross_entropy_with_logits': 'binary cross-entropy',
    'CrossEntropyLoss': 'cross-entropy',
    'cross_entropy': 'cross-entropy',
}


def loss_in_words(loss: Loss | None) -> str:
    """What a loss is called."""
    name = getattr(loss, '__qualname__', type(loss).__qualname__) if loss is not None else 'cross-entropy'
    return _WORDS.get(name, name)


def criterion_of(evaluator: Any) -> nn.Module | None:
    """The criterion of an evaluator's Lightning module, as NNI's ``Classification`` and ``Regression`` have one.

    Returns
    -------
    nn.Module or None
        A copy of its own; ``None`` where the evaluator does not say.
    """
    criterion = getattr(getattr(evaluator, 'module', None), 'criterion', None)
    return copy.deepcopy(criterion) if isinstance(criterion, nn.Module) else None


def suggested_loss(targets: Any) -> Loss | None:
    """The mean squared error for targets that are values; ``None``, cross-entropy, for classes and their probabilities."""
    if not isinstance(targets, Tensor) or not targets.is_floating_point() or _are_probabilities(targets):
        return None
    if targets[:1].numel() == 1 and bool(((targets == 0) | (targets == 1)).all()):
        return None
    return F.mse_loss


def needs_all_targets(loss: Loss | None) -> bool:
    """Whether targets have to be there: a loss that is not torch's may well leave out those that are ``nan``."""
    return loss is None or str(getattr(loss, '__module__', '')).startswith('torch.')


def is_plain_cross_entropy(loss: Loss | None) -> bool:
    """Whether a loss is what ``None`` stands for."""
    if type(loss) is not nn.CrossEntropyLoss:
        return loss is None or loss is F.cross_entropy
    return loss.weight is None and loss.ignore_index == -100 and loss.label_smoothing == 0


def _are_probabilities(targets: Tensor) -> bool:
    if targets.dim() < 2 or targets.shape[1] < 2:
        return False
    return bool((targets >= 0).all()) and torch.allclose(targets.sum(1), targets.new_ones(()), atol=1e-3)
