"""Inputs are described in a text, which examples are made of again."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

from nni_knas.networks.exporting import describe_inputs, example_inputs

shapes = st.lists(st.integers(0, 5), max_size=3)
tensors = st.tuples(shapes, st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]))


@given(
    st.one_of(tensors, st.lists(tensors, min_size=1, max_size=3), st.dictionaries(st.text(max_size=3), tensors, min_size=1)),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_described_inputs_come_back(kinds, batch, other):
    def make(each, n):
        return torch.zeros(n, *each[0], dtype=each[1])

    def inputs(n):
        if isinstance(kinds, dict):
            return {name: make(each, n) for name, each in kinds.items()}
        return tuple(make(each, n) for each in kinds) if isinstance(kinds, list) else make(kinds, n)

    def signature(tree):
        leaves = tree.items() if isinstance(tree, dict) else enumerate(tree if isinstance(tree, tuple) else [tree])
        return type(tree), [(name, each.shape, each.dtype) for name, each in leaves]

    text = describe_inputs(inputs(batch))
    found = example_inputs(text, batch=other)
    assert signature(found) == signature(inputs(other))
    for one, again in zip(tree_leaves(found), tree_leaves(example_inputs(text, batch=other)), strict=True):
        assert torch.equal(one, again)
        assert one.is_floating_point() or not one.any()


def test_inputs_that_cannot_be_described():
    for inputs in (
        None,
        3,
        'text',
        torch.tensor(1),
        [],
        {},
        (torch.zeros(2), 3),
        (torch.zeros(2), torch.zeros(3)),
        {'x': [torch.zeros(2)]},
        np.zeros(3),
    ):
        assert describe_inputs(inputs) == ''
