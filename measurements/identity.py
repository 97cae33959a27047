"""How many of NAS-Bench-201's 15,625 architectures are different networks, and what it saves to score each network once.

python measurements/identity.py
python measurements/identity.py --every 10
python measurements/identity.py --unused

With ``--unused`` it says instead what it costs to leave out choices that are not used, which every search does.
"""

import argparse
import itertools
import statistics
import time

from nni_knas import GradientKernelEvaluator
from nni_knas.data import DATA_HELP, load_data
from nni_knas.engine import Scorer
from nni_knas.networks import Canonical, Identity, encode_sample

import nni
import numpy as np
import torch
from nni.mutable import Sample
from nni.nas.hub.pytorch import DARTS, NasBench201
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableConv2d, MutableLinear, Repeat
from nni.nas.space import SimplifiedModelSpace
from torch import Tensor
from tqdm import tqdm


def canonical(sample: Sample) -> str:
    """The text by which the authors of NAS-Bench-201 count 6,466 different cells."""
    nodes = ['0']
    for node in (1, 2, 3):
        terms = []
        for source in range(node):
            op = sample[f'cell/{source}_{node}']
            if op == 'none' or nodes[source] == '#':
                terms.append('#')
            else:
                terms.append(nodes[source] if op == 'skip_connect' else f'({nodes[source]})@{op}')
        nodes.append('+'.join(sorted(terms)))
    return nodes[3]


class Depths(ModelSpace):
    """One to four layers of a width, of two kinds each."""

    def __init__(self) -> None:
        super().__init__()
        width = nni.choice('width', [8, 16, 32])
        self.stem = MutableConv2d(3, width, 3, stride=2, padding=1)
        self.body = Repeat(
            lambda i: LayerChoice(
                [MutableConv2d(width, width, 3, padding=1), MutableConv2d(width, width, 1)], label=f'layer{i}'
            ),
            (1, 4),
            label='depth',
        )
        self.head = MutableLinear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.relu(self.body(self.stem(images))).mean((2, 3)))
        return outputs


def leave_out_unused(kernel: GradientKernelEvaluator) -> None:
    spaces = {
        'depths': Depths(),
        'NAS-Bench-201': NasBench201(),
        'DARTS': DARTS(width=8, num_cells=5, dataset='cifar'),
    }
    for name, made in spaces.items():
        space = SimplifiedModelSpace.from_model(made)
        random_state = np.random.RandomState(1)
        samples = [space.random(random_state=random_state).sample for _ in range(300)]
        canonical, scorer = Canonical(space), Scorer(kernel, space)
        start = time.perf_counter()
        canonical.sample(samples[0])
        once = time.perf_counter() - start
        start = time.perf_counter()
        different = {encode_sample(canonical.sample(sample)) for sample in samples}
        each = (time.perf_counter() - start) / len(samples)
        drawn = len({encode_sample(sample) for sample in samples})
        quick = statistics.median(scorer.score(sample, quick=True).seconds for sample in samples[:40])
        print(
            f'{name}: {drawn} different samples of {len(samples)} drawn, {len(different)} without their unused choices; '
            f'{1e3 * each:.3f} ms each, {100 * each / quick:.2g} % of a quick score, and {once:.2f} s once'
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='digits', help=DATA_HELP)
    parser.add_argument('--every', type=int, default=1, metavar='N', help='take one in N architectures, at random')
    parser.add_argument('--unused', action='store_true', help='what leaving out unused choices costs')
    options = parser.parse_args()
    torch.set_num_threads(1)
    space = SimplifiedModelSpace.from_model(NasBench201())
    kernel = GradientKernelEvaluator(load_data(options.data).train)
    if options.unused:
        return leave_out_unused(kernel)
    identity, scorer = Identity(space, kernel.minibatch), Scorer(kernel, space)
    choices = {label: mutable.values for label, mutable in space.simplify().items()}
    samples = [dict(zip(choices, values)) for values in itertools.product(*choices.values())]
    samples = [samples[i] for i in np.random.RandomState(0).permutation(len(samples))]
    samples = samples[: len(samples) // options.every]
    for sample in samples[:: max(1, len(samples) // 30)]:  # the skeletons are made and proven once a run
        identity.fingerprint(sample), scorer.build(sample)
    start = time.perf_counter()
    fingerprints = [identity.fingerprint(sample) for sample in tqdm(samples, desc='Fingerprints', disable=None)]
    fingerprinting = (time.perf_counter() - start) / len(samples)
    chosen = np.random.RandomState(0).choice(len(samples), 40)
    scoring = statistics.mean(scorer.score(samples[i]).seconds for i in chosen)
    quick = scorer.kernel.quick()
    assert quick is not None
    scorer.kernel = quick  # the same networks
    quickly = statistics.mean(scorer.score(samples[i]).seconds for i in chosen)
    different, by_text = len(set(fingerprints)), len({canonical(sample) for sample in samples})
    print(f"{len(samples)} architectures: {different} networks by what they compute, {by_text} by the authors' text")
    for name, seconds in (('a full score (16 images)', scoring), ('a quick score (2 images of half the size)', quickly)):
        with_it = fingerprinting * len(samples) + seconds * different
        print(f'{fingerprinting / seconds:6.2f}  a fingerprint / {name}')
        print(f'{seconds * len(samples) / with_it:6.2f}  times faster to score each network once, fingerprints included')


if __name__ == '__main__':
    main()
