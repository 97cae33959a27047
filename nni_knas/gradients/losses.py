"""The loss of each sample, for any loss and any kind of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss
from torch.utils.weak import WeakTensorKeyDictionary

from nni_knas.gradients.errors import MisfitError, is_out_of_memory
from nni_knas.gradients.samples import per_sample_leaves

__all__ = ['Loss', 'check_classes', 'check_one_output', 'main_output', 'sample_losses', 'scalar_loss']

Loss = Callable[[Any, Any], Tensor]


def sample_losses(loss: Loss | None, outputs: Any, targets: Any, n: int) -> Tensor:
    """The loss of each of ``n`` samples by itself, shape ``n``; the cross-entropy where none is given."""
    if loss is None:
        logits = main_output(outputs)
        if isinstance(targets, Tensor) and logits.dim() == 2 and logits.shape[1] > 1:
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
        logits = main_output(outputs)
        single = logits.numel() == 1 and isinstance(targets, Tensor) and targets.numel() == 1
        return _of_one_logit(logits, targets) if single else F.cross_entropy(logits, targets)
    of_torch = isinstance(loss, _Loss) or getattr(loss, '__module__', None) == F.__name__
    if of_torch:
        outputs = main_output(outputs)
    if isinstance(loss, _ELEMENTWISE) or loss in _ELEMENTWISE_FUNCTIONS:
        targets = _aligned(targets, outputs)
    return loss(outputs, targets).mean()


_ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss)
_ELEMENTWISE_FUNCTIONS = (
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy_with_logits,
    F.binary_cross_entropy,
)


def _of_one_logit(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy: over a single class cross-entropy is 0 whatever the logit."""
    return F.binary_cross_entropy_with_logits(logits.reshape(()), targets.reshape(()).to(logits.dtype))


def _aligned(targets: Any, outputs: Tensor) -> Any:
    """Targets in the shape of the outputs: torch would stretch ``n`` values over ``n x 1`` outputs to ``n x n``."""
    if not isinstance(targets, Tensor):
        return targets
    if targets.numel() != outputs.numel():
        raise MisfitError(f'a sample has {outputs.numel()} outputs and {targets.numel()} targets')
    return targets.reshape(outputs.shape).to(outputs.dtype)


def main_output(outputs: Any) -> Tensor:
    """The output that is judged: the tensor, the first of a tuple (the others are auxiliary heads), a dict's logits.

    Raises
    ------
    MisfitError
        If there is no tensor in it.
    """
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


def check_one_output(logits: Tensor, targets: Any) -> None:
    """Say it clearly when a network has one output, and the targets are other than the classes 0 and 1."""
    if isinstance(targets, Tensor) and logits[:1].numel() == 1 and targets[:1].numel() == 1:
        others = targets[(targets != 0) & (targets != 1)]
        if others.numel():
            raise MisfitError(
                'the network has one output, which tells the classes 0 and 1 apart, but there are targets such as '
                f'{others[0].item():.6g}: give it an output for each class, or give the kernel a loss'
            )


def check_classes(logits: Tensor, targets: Any, ignored: int = -100) -> None:
    """Say it clearly when class indices do not fit the number of outputs: a GPU would take no work of this process any more.

    ``ignored`` is cross-entropy's index for "ignore this one".
    """
    if not isinstance(targets, Tensor) or targets.is_floating_point() or logits.dim() < 2 or logits.shape[1] == 1:
        return
    least, most = _class_range(targets, ignored)
    classes = logits.shape[1]
    if not 0 <= least <= most < classes:
        raise MisfitError(
            f'the targets are classes {least} to {most}, but the network has {classes} outputs: '
            f'classes must be 0 to {classes - 1}'
        )


def _class_range(targets: Tensor, ignored: int) -> tuple[int, int]:
    """The smallest and the largest class, asked once of targets that many networks are scored on: a GPU is waited for."""
    if targets not in _RANGES:
        counted = targets[targets != ignored]
        _RANGES[targets] = (int(counted.min()), int(counted.max())) if counted.numel() else (0, 0)
    return _RANGES[targets]


_RANGES: MutableMapping[Tensor, tuple[int, int]] = WeakTensorKeyDictionary()
