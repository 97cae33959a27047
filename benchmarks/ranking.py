"""How well the scores rank architectures of NAS-Bench-201: Spearman's rank correlation with trained test accuracy.

    python benchmarks/ranking.py --table tss.csv --data folder:cifar10

The table is a CSV with the columns arch_str (as in NAS-Bench-201) and an accuracy, as can be read from NATS-Bench's files.
"""

import argparse

from nni_knas import GradientKernelEvaluator
from nni_knas.candidates import build_network
from nni_knas.data import DATA_HELP, load_data
from nni_knas.scores import score_names

import pandas as pd
from nni.nas.hub.pytorch import NasBench201
from nni.nas.space import SimplifiedModelSpace
from tqdm import tqdm

OPERATIONS = {'none': 'none', 'skip_connect': 'skip_connect', 'nor_conv_1x1': 'conv_1x1', 'nor_conv_3x3': 'conv_3x3',
              'avg_pool_3x3': 'avg_pool_3x3'}


def to_sample(architecture: str) -> dict[str, str]:
    """NNI's sample of an architecture string such as ``|none~0|+|none~0|none~1|+|none~0|none~1|none~2|``."""
    sample = {}
    for node, edges in enumerate(architecture.split('+'), start=1):
        for edge in edges.strip('|').split('|'):
            operation, source = edge.split('~')
            sample[f'cell/{source}_{node}'] = OPERATIONS[operation]
    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--table', required=True)
    parser.add_argument('--column', default='cifar10', help='of the accuracy (default: %(default)s)')
    parser.add_argument('--data', required=True, help=DATA_HELP)
    parser.add_argument('--architectures', type=int, default=100)
    parser.add_argument('--batch-size', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()

    table = pd.read_csv(options.table).sample(options.architectures, random_state=options.seed)
    data = load_data(options.data)
    kernels = {name: GradientKernelEvaluator(data.train, name, options.batch_size, options.seed) for name in score_names()}
    space = SimplifiedModelSpace.from_model(NasBench201(num_labels=data.classes))
    scores: dict[str, list[float]] = {name: [] for name in (*kernels, 'number of parameters')}
    for architecture in tqdm(table.arch_str, desc='Scoring', disable=None):
        network = build_network(space.freeze(to_sample(architecture)), options.seed)
        for name, kernel in kernels.items():
            scores[name].append(kernel.score(network))
        scores['number of parameters'].append(sum(p.numel() for p in network.parameters()))
    print(f'Spearman with {options.column}, {len(table)} architectures, {options.batch_size} images:')
    for name, values in scores.items():
        print(f'{pd.Series(values, index=table.index).corr(table[options.column], method="spearman"):6.2f}  {name}')


if __name__ == '__main__':
    main()
