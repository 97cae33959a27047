"""What a user may name, and the names' defaults: for whoever shows them and imports nothing of what is behind them.

The rooms that hold what is behind a name take it from here, or are held against it by a test.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    'AGGREGATES',
    'BENCHMARKS',
    'COSTS',
    'DATA_HELP',
    'EXPLORERS',
    'FORMATS',
    'HUB',
    'PANEL',
    'PLACEMENTS',
    'RECOMMENDED',
    'SCORES',
    'SEARCHES',
    'TARGETS',
    'TORCHVISION',
    'Choose',
    'Effort',
    'Normalization',
    'OptimizeMode',
    'Reason',
]

Choose = Literal['learn', 'rank']
Effort = Literal['adaptive', 'full']
Normalization = Literal['sample', 'batch']
OptimizeMode = Literal['maximize', 'minimize']
Reason = Literal['score', 'learned', 'explore']
"""Why a candidate was chosen to be trained."""

HUB = (
    'AmoebaNet',
    'AutoFormer',
    'AutoformerSpace',
    'DARTS',
    'ENAS',
    'MobileNetV3Space',
    'NASNet',
    'NDS',
    'NasBench101',
    'NasBench201',
    'PNAS',
    'ProxylessNAS',
    'ShuffleNetSpace',
)
"""The spaces in NNI's hub."""

RECOMMENDED = 'two-way-rank'
"""The score that is used where none is chosen."""
SCORES = (
    'az-complexity',
    'az-expressivity',
    'az-progressivity',
    'az-trainability',
    'channel-entropy',
    'channel-rank',
    'fisher-condition',
    'fisher-effective-rank',
    'fisher-entropy',
    'gradient-norm',
    'gradient-rank',
    'gram-condition',
    'gram-effective-rank',
    'gram-entropy',
    'half-covariance',
    'jacob-cov',
    'label-alignment',
    'linear-regions',
    'log-l1',
    'log-mgm',
    'meco',
    'mgm',
    'mgm-logits',
    'mgm-sampled',
    'naswot',
    'ntk-condition',
    'ntk-effective-rank',
    'ntk-entropy',
    'snip',
    'snr',
    'steady-rank',
    'swap',
    'synflow',
    'target-alignment',
    'target-fit',
    'two-way-rank',
    'vkdnw',
    'zico',
)
"""The scores that come with the package."""
AGGREGATES = ('az-nas', 'te-nas', 'vkdnw-aggregate')
"""Ranks by several scores among the candidates of a benchmark."""

SEARCHES = ('learn', 'robot', 'proxybo', 'encodings', 'tpe', 'evolution', 'random')
"""The searches that are compared on tables of trained networks."""

PANEL = (
    'weights',
    'layers',
    'units',
    'gradient-size',
    'gradient-norm',
    'log-l1',
    'log-mgm',
    'participation',
    'participation-roots',
    'log-participation',
    'participation-share',
    'weight-rank',
    'weight-log-rank',
    'weight-rank-share',
    'feature-rank',
    'feature-rank-squares',
    'feature-log-rank',
    'feature-rank-late',
    'feature-survival',
    'sample-rank',
    'sample-rank-late',
    'backward-rank',
    'backward-log-rank',
    'backward-rank-early',
    'backward-survival',
    'backward-sample-rank',
)
"""The statistics of a network's panel, in order."""
TARGETS = ('target-alignment', 'target-fit')
"""Those that come to it where the minibatch has samples enough for them."""

COSTS = ('parameters', 'flops', 'memory', 'latency')
"""The costs, from what is known at once to what takes longest to measure."""

EXPLORERS = ('random', 'grid', 'evolution', 'tpe', 'rl')
"""NNI's strategies that explore."""

PLACEMENTS = ('process', 'workers', 'gpus', 'trials')
"""The places where candidates are scored."""

FORMATS = {'program': 'winner.pt2', 'state-dict': 'winner.pt', 'onnx': 'winner.onnx'}
"""The formats of an export, with the file of each."""

BENCHMARKS = (
    'autoformer',
    'autoformer-digits',
    'darts',
    'darts-cifar10',
    'flexibert',
    'nasbench101',
    'nats-tss',
    'text-mrpc',
    'text-rte',
    'transnas-micro',
)
"""The benchmarks that come with the package."""

TORCHVISION = {'cifar10': 'CIFAR10', 'cifar100': 'CIFAR100', 'fashion-mnist': 'FashionMNIST'}
"""The data sets of torchvision, with its own names of them."""
DATA_HELP = (
    "digits (scikit-learn's real images, always there), cifar10, cifar100, fashion-mnist (downloaded on first "
    'use), folder:PATH (a folder a class, or such folders below PATH/train and PATH/val), text:PATH (a folder with '
    "train.tsv in GLUE's format, as tokens of MiniLM; text:PATH@ENCODER of another Hugging Face encoder), or "
    'module:function (yours, returning a training and a validation Dataset)'
)
"""The data sets, in words."""
