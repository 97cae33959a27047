"""Whether an error is the network's own, or an operation's that was given a misfit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_knas.gradients.errors import is_raised_by_user


def raise_over_lines():
    raise ValueError(
        'only squares are taken',
    )


def raise_behind_a_condition(value=1):
    if value:
        raise RuntimeError('a fault')


def fail_an_assertion():
    assert torch.ones(2).dim() == 2, 'pictures without channels'


def multiply_misfits():
    return torch.ones(2, 3) @ torch.ones(2, 3)


def view_a_misfit():
    return torch.ones(2, 3).view(4, -1)


def call_a_layer():
    return nn.Linear(2, 3)(torch.ones(1, 4))


def normalise_one_sample():
    return nn.BatchNorm1d(4)(torch.ones(1, 4))  # a raise statement of torch's


@pytest.mark.parametrize(
    ('work', 'by_user'),
    [
        (raise_over_lines, True),
        (raise_behind_a_condition, True),
        (fail_an_assertion, True),
        (multiply_misfits, False),
        (view_a_misfit, False),
        (call_a_layer, False),
        (normalise_one_sample, False),
    ],
)
def test_raise_statements_are_told_from_operations(work, by_user):
    with pytest.raises(Exception) as caught:
        work()
    assert is_raised_by_user(caught.value) == by_user


def test_an_error_that_was_never_raised_is_nobodys():
    assert not is_raised_by_user(ValueError())
