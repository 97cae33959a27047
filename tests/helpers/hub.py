"""Small networks of every space of NNI's model space hub, and images for them."""

from __future__ import annotations

import functools

import numpy as np
import torch
from nni.nas.hub.pytorch import (
    DARTS,
    ENAS,
    PNAS,
    AmoebaNet,
    AutoformerSpace,
    MobileNetV3Space,
    NasBench101,
    NasBench201,
    NASNet,
    ProxylessNAS,
    ShuffleNetSpace,
)

from nni_knas.gradients import seeded

CELLS = {'width': 4, 'num_cells': 3}
AUTOFORMER = {
    'search_embed_dim': (16, 32),
    'search_mlp_ratio': (2.0, 3.0),
    'search_num_heads': (2, 4),
    'search_depth': (2, 3),
    'img_size': 16,
    'patch_size': 8,
    'num_labels': 10,
    'qkv_bias': True,
}
# space, arguments, size of the images
SPACES = {
    'NasBench101': (NasBench101, {'stem_out_channels': 8, 'num_modules_per_stack': 1}, 12),
    'NasBench201': (NasBench201, {'stem_out_channels': 4, 'num_modules_per_stack': 1}, 12),
    'DARTS': (DARTS, CELLS, 12),
    'ENAS': (ENAS, CELLS, 12),
    'PNAS': (PNAS, CELLS, 12),
    'AmoebaNet': (AmoebaNet, CELLS, 12),
    'NASNet': (NASNet, CELLS, 12),
    'MobileNetV3Space': (MobileNetV3Space, {'num_labels': 10, 'base_widths': (8, 8, 8, 8, 16, 16, 16, 16, 32)}, 32),
    'ProxylessNAS': (ProxylessNAS, {'num_labels': 10, 'width_mult': 0.25}, 32),
    'ShuffleNetSpace': (ShuffleNetSpace, {'num_labels': 10}, 32),
    'AutoformerSpace': (AutoformerSpace, AUTOFORMER, 16),
}
SAMPLES = 3


def random_network(space):
    build, arguments, _ = SPACES[space]
    with seeded(1):
        return build(**arguments).random({}, random_state=np.random.RandomState(1)).double()


built = functools.cache(random_network)
"""For tests that leave the network as it was: building one takes longer than scoring it."""


def images(space, n=SAMPLES):
    generator = torch.Generator().manual_seed(5)
    size = SPACES[space][2]
    return (
        torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64),
        torch.randint(0, 10, (n,), generator=generator),
    )
