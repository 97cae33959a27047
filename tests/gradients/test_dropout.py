"""Scoring has no noise of its own."""

from __future__ import annotations

import pytest
import torch
from layers import CLASSES, SCORES, Lambda, assert_reference, batch_of, kernel_of, scaled_attention
from torch import nn
from torch.nn import functional as F

from nni_knas.gradients import seeded


class DropPath(nn.Module):
    def forward(self, x):
        return x * torch.rand(len(x), *[1] * (x.dim() - 1)).ge(0.5).to(x) if self.training else x


DROPOUT_FUNCTIONS = {
    'F.dropout': lambda x: F.dropout(x, 0.5),
    'F.dropout inplace': lambda x: F.dropout(x * 1, 0.5, True, True),
    'F.dropout keywords': lambda x: F.dropout(input=x, p=0.5, training=True),
    'F.alpha_dropout': lambda x: F.alpha_dropout(x, 0.5, True),
    'F.feature_alpha_dropout': lambda x: F.feature_alpha_dropout(x, 0.5, True),
    'F.dropout1d': lambda x: F.dropout1d(x, 0.5),
    'torch.dropout': lambda x: torch.dropout(x, 0.5, True),
    'DropPath': DropPath(),
    'nn.Dropout': nn.Dropout(0.5),
    'nn.AlphaDropout': nn.AlphaDropout(0.5),
}


@pytest.mark.parametrize('name', DROPOUT_FUNCTIONS)
@pytest.mark.parametrize('score', SCORES)
def test_dropout_is_off(score, name):
    drop = DROPOUT_FUNCTIONS[name]
    noise = drop if isinstance(drop, nn.Module) else nn.Identity()
    with seeded(4):
        layers = nn.Linear(8, 10), nn.Linear(10, CLASSES)
    noisy = Lambda(lambda a, b, noise, x: b(drop(a(x).tanh())), *layers, noise).double()
    quiet = Lambda(lambda a, b, x: b(a(x).tanh()), *layers).double()
    kernel = kernel_of(*batch_of(6, 8), score)
    assert kernel.score(noisy) == pytest.approx(kernel.score(quiet), rel=1e-12)


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('rates', [{'dropout_p': 0.4}, {'attn_mask': None, 'dropout_p': 0.9}], ids=str)
def test_dropout_of_scaled_dot_product_attention_is_off(score, rates):
    kernel = kernel_of(*batch_of(6, 5, 8), score)
    network = scaled_attention().double()
    quiet = kernel.score(network)
    network.function = lambda project, head, x: head(
        F.scaled_dot_product_attention(*project(x).chunk(3, -1), **rates).mean(1)
    )
    assert kernel.score(network) == pytest.approx(quiet, rel=1e-12)
    network.function = lambda project, head, x: head(
        F.scaled_dot_product_attention(*project(x).chunk(3, -1), None, 0.4).mean(1)
    )
    assert kernel.score(network) == pytest.approx(quiet, rel=1e-12)


@pytest.mark.parametrize('with_weights', [True, False])
def test_dropout_of_attention_called_as_a_function_is_off(with_weights):
    def network_with(rate):
        def forward(head, attention, x):
            x = x.transpose(0, 1)
            out, _ = F.multi_head_attention_forward(
                x,
                x,
                x,
                8,
                2,
                attention.in_proj_weight,
                attention.in_proj_bias,
                None,
                None,
                False,
                rate,
                attention.out_proj.weight,
                attention.out_proj.bias,
                training=True,
                need_weights=with_weights,
            )
            return head(out.mean(0))

        return Lambda(forward, *parts)

    with seeded(4):
        parts = nn.ModuleList([nn.Linear(8, CLASSES), nn.MultiheadAttention(8, 2)]).double()
    for score in SCORES:
        kernel = kernel_of(*batch_of(6, 5, 8), score)
        assert kernel.score(network_with(0.5)) == pytest.approx(kernel.score(network_with(0.0)), rel=1e-12)


def test_scaled_dot_product_attention_keeps_its_other_arguments():
    def forward(project, head, x):
        q, k, v = project(x).chunk(3, -1)
        return head(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.1).mean(1))

    with seeded(4):
        network = Lambda(forward, nn.Linear(8, 24), nn.Linear(8, CLASSES)).double()
    assert_reference(network, *batch_of(6, 5, 8))
