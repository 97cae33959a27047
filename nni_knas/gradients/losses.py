"""The loss of each sample, for any loss and any kind of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from nni_knas.gradients.errors import MisfitError, is_out_of_memory
from nni_knas.gradients.samples import per_sample_leaves

__all__ = ['Loss', 'check_classes', 'main_output', 'sample_losses', 'scalar_loss']

Loss = Callable[[Any, Any], Tensor]


def sample_losses(loss: Loss | None, outputs: Any, targets: Any, n: int) -> Tensor:
    if loss is None:
        logits = main_output(outputs)
        if isinstance(targets, Tensor) and logits.dim() == 2:
            return F.cross_entropy(logits, targets, reduction='none')
    output_leaves, one_output = per_sample_leaves(outputs, n)
    target_leaves, one_target = per_sample_leaves(targets, n)

    def loss_of_one(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
        return scalar_loss(loss, one_output(outputs), one_target(targets))

    try:
        return torch.func.vmap(loss_of_one, randomness='same')(output_leaves, target_leaves)
    except Exception as error:  # a loss that functorch cannot map; a loss that is wrong shows again below
        if is_out_of_memory(error):
            raise
    return torch.stack(
        [loss_of_one([leaf[i] for leaf in output_leaves], [leaf[i] for leaf in target_leaves]) for i in range(n)]
    )


def scalar_loss(loss: Loss | None, outputs: Any, targets: Any) -> Tensor:
    """The loss of a batch of one sample, without dimensions."""
    if loss is None:
        return F.cross_entropy(main_output(outputs), targets)
    of_torch = isinstance(loss, _Loss) or getattr(loss, '__module__', None) == F.__name__
    return loss(main_output(outputs) if of_torch else outputs, targets).mean()


def main_output(outputs: Any) -> Tensor:
    """The output that is judged: the tensor, the first of a tuple (the others are auxiliary heads), a dict's logits."""
    while not isinstance(outputs, Tensor):
        if hasattr(outputs, 'logits'):
            outputs = outputs.logits
        elif isinstance(outputs, Mapping) and outputs:
            names = [name for name in ('logits', 'out', 'output') if name in outputs]
            outputs = outputs[names[0]] if names else next(iter(outputs.values()))
        elif isinstance(outputs, Sequence) and not isinstance(outputs, str) and outputs:
            outputs = outputs[0]
        else:
            raise MisfitError(f'the network returned {type(outputs).__name__}, not a tensor, a tuple or a dict of tensors')
    return outputs


def check_classes(logits: Tensor, targets: Any) -> None:
    """Say it clearly when class indices do not fit the number of outputs (on a GPU torch would stop the process)."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or logits.dim() < 2:
        return
    counted = targets[targets != -100]  # cross-entropy's index for "ignore this one"
    classes = logits.shape[1]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise MisfitError(
            f'the targets are classes {int(counted.min())} to {int(counted.max())}, but the network has '
            f'{classes} outputs: classes must be 0 to {classes - 1}'
        )
