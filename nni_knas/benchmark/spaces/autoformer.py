"""AutoFormer: vision transformers of several widths, depths, heads and MLP ratios.

Source: Chen et al., "AutoFormer: Searching Transformers for Visual Recognition", ICCV 2021.
"""

from __future__ import annotations

import math
from typing import Any

from nni.nas.hub.pytorch import AutoFormer
from nni.nas.space import SimplifiedModelSpace
from torch import nn

from nni_knas.benchmark.base import Benchmark, register_benchmark
from nni_knas.benchmark.spaces.common import read_results
from nni_knas.networks import constructed

__all__ = ['autoformer', 'to_sample']

COLUMNS = ['hidden_dim', 'depth', 'num_heads', 'mlp_ratio']
WHERE = f'a CSV with the columns {", ".join(COLUMNS)} (the last two with a value a block, and ; between) and accuracies'


@register_benchmark('autoformer', data='cifar10', image_size=224, file='autoformer.csv', witness='c100_kd_acc')
def autoformer(table: str | None, classes: int = 100) -> Benchmark:
    """AutoFormer's tiny networks, trained for 300 epochs with distillation on three data sets."""
    return Benchmark(
        'autoformer',
        read_results(table, COLUMNS, WHERE, to_sample),
        lambda architecture, seed: _network_of(to_sample(architecture), classes, seed),
        key=f'autoformer with {classes} classes',
    )


def _network_of(sample: dict[str, Any], classes: int, seed: int) -> nn.Module:
    """NNI's network; its space has the sample's values, so that it makes no blocks that are not there."""
    values = {
        kind: tuple(sorted({value for name, value in sample.items() if name.startswith(kind)}))
        for kind in ('embed_dim', 'mlp_ratio', 'num_head', 'depth')
    }
    space = AutoFormer(
        search_embed_dim=values['embed_dim'],
        search_mlp_ratio=values['mlp_ratio'],
        search_num_heads=values['num_head'],
        search_depth=values['depth'],
        num_labels=classes,
        drop_path_rate=0.0,
    )
    return constructed(SimplifiedModelSpace.from_model(space).freeze(sample), seed)


def to_sample(architecture: str) -> dict[str, Any]:
    """NNI's sample of the table's columns, joined by ``|``.

    Raises
    ------
    ValueError
        If it is no architecture of the space.
    """
    try:
        width, depth, heads, ratios = architecture.split('|')
        embed_dim, blocks = int(width), int(depth)
        heads_of, ratios_of = [int(n) for n in heads.split(';')], [float(n) for n in ratios.split(';')]
    except ValueError:
        raise ValueError(f'{architecture!r} is no architecture of AutoFormer: {WHERE}') from None
    if not (embed_dim > 0 and min(heads_of) > 0 and 0 < min(ratios_of) <= max(ratios_of) < math.inf):
        raise ValueError(f'{architecture!r} is no architecture of AutoFormer: all numbers have to be above 0')
    if not len(heads_of) == len(ratios_of) == blocks:
        raise ValueError(
            f'{architecture!r} is no architecture of AutoFormer: it has to have as many heads and MLP ratios as blocks'
        )
    return {
        'embed_dim': embed_dim,
        'depth': blocks,
        **{f'num_head_{i}': n for i, n in enumerate(heads_of)},
        **{f'mlp_ratio_{i}': n for i, n in enumerate(ratios_of)},
    }
