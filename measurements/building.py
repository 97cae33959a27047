"""What building a candidate's network costs on every space of NNI's hub, against a forward-backward pass of 2 images.

    python measurements/building.py

The candidates are random ones, one after another as in a search; the first ``--warm-up`` of them, which the builder learns
the space's layers from and checks itself on, are printed apart. The process's CPU time on one thread is taken, turn by turn:
building as NNI constructs, building by `NetworkBuilder`, and the pass.
"""

import argparse
import logging
import statistics
from collections.abc import Callable
from typing import Any

from nni_knas.networks import NetworkBuilder, constructed, random_models

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
from nni.nas.space import SimplifiedModelSpace
from scoring import cpu_seconds, plain_pass

CELLS = {'width': 16, 'num_cells': 8, 'dataset': 'cifar'}
TINY = {'search_embed_dim': (192, 216, 240), 'search_num_heads': (3, 4), 'search_depth': (12, 13, 14), 'num_labels': 10}
# Space, its arguments, and the pixels of the images that it is made for.
SPACES: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    'NasBench201': (NasBench201, {}, 32),
    'NasBench101': (NasBench101, {}, 32),
    'DARTS': (DARTS, CELLS, 32),
    'ENAS': (ENAS, CELLS, 32),
    'PNAS': (PNAS, CELLS, 32),
    'AmoebaNet': (AmoebaNet, CELLS, 32),
    'NASNet': (NASNet, CELLS, 32),
    'MobileNetV3Space': (MobileNetV3Space, {'num_labels': 10}, 224),
    'ProxylessNAS': (ProxylessNAS, {'num_labels': 10}, 224),
    'ShuffleNetSpace': (ShuffleNetSpace, {'num_labels': 10}, 224),
    'AutoformerSpace': (AutoformerSpace, TINY, 224),
}


def measure(name: str, warm_up: int, count: int) -> dict[str, float]:
    """Medians, in seconds: of building as NNI does, at first and then; and of the pass."""
    make, arguments, pixels = SPACES[name]
    space = SimplifiedModelSpace.from_model(make(**arguments))
    builder = NetworkBuilder(space, seed=0)
    images, labels = torch.randn(2, 3, pixels, pixels), torch.tensor([0, 1])
    times: dict[str, list[float]] = {'nni': [], 'first': [], 'built': [], 'pass': []}
    models = random_models(space, warm_up + count, seed=0)
    for i, model in enumerate(models):
        took, network = cpu_seconds(builder.network, model.sample)
        times['first' if i < warm_up else 'built'].append(took)
        if i >= warm_up:
            times['nni'].append(cpu_seconds(constructed, model, 0)[0])
            network.train()
            times['pass'].append(cpu_seconds(plain_pass, network, images, labels)[0])
            network.zero_grad()
    return {key: statistics.mean(values) if key == 'first' else statistics.median(values) for key, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('spaces', nargs='*', metavar='SPACE', help=f'of {", ".join(SPACES)} (default: all)')
    parser.add_argument('--warm-up', type=int, default=40, help='candidates that are built first (default: %(default)s)')
    parser.add_argument('--candidates', type=int, default=20, help='that are measured (default: %(default)s)')
    options = parser.parse_args()
    if unknown := [name for name in options.spaces if name not in SPACES]:
        parser.error(f'there is no space {unknown[0]}: {", ".join(SPACES)}')
    torch.set_num_threads(1)
    logging.disable(logging.INFO)  # NasBench101 says how it prunes each cell
    print('| | pixels | pass, 2 images | NNI constructs | built | built, of a pass | built, first ones |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for name in options.spaces or SPACES:
        took = measure(name, options.warm_up, options.candidates)
        ms = {key: f'{1000 * value:.1f} ms' for key, value in took.items()}
        share = f'{took["nni"] / took["pass"]:.2f}', f'{took["built"] / took["pass"]:.2f}'
        row = name, SPACES[name][2], ms['pass'], f'{ms["nni"]} ({share[0]})', ms['built'], share[1], ms['first']
        print('| ' + ' | '.join(map(str, row)) + ' |', flush=True)


if __name__ == '__main__':
    main()
