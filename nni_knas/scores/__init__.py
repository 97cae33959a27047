"""Training-free scores: from the gradients of a network to one number, higher is better.

A score sees the network's gradients on a minibatch and nothing else. Each stands in a file of its kind with its formula,
its source and what it costs; :func:`get_score` finds it by name and :func:`register` adds one.
"""

from __future__ import annotations

from nni_knas.basics.names import RECOMMENDED
from nni_knas.scores.alignment import LabelAlignment
from nni_knas.scores.base import Score, get_score, register, score_names
from nni_knas.scores.channel_entropy import ChannelEntropy, ChannelRank
from nni_knas.scores.gradient_rank import GradientRank, mean_matrices
from nni_knas.scores.half_covariance import HalfCovariance
from nni_knas.scores.kernel_spectrum import KernelSpectrum
from nni_knas.scores.matrices import effective_ranks
from nni_knas.scores.mean_gradient import GradientNorm, LogL1, LogMGM, MGMLogits, Snip
from nni_knas.scores.mgm import MGM, MGMSampled
from nni_knas.scores.panel import prepare_statistics, statistics
from nni_knas.scores.peers import (
    VKDNW,
    Complexity,
    Expressivity,
    JacobianCovariance,
    LinearRegions,
    MeCo,
    Naswot,
    Progressivity,
    Swap,
    SynFlow,
    Trainability,
    flops,
)
from nni_knas.scores.signal_to_noise import SignalToNoise, ZiCo
from nni_knas.scores.steady_rank import SteadyRank
from nni_knas.scores.target_fit import TargetAlignment, TargetFit
from nni_knas.scores.targets import LEAST_SAMPLES
from nni_knas.scores.two_way import TwoWayRank

__all__ = [
    'LEAST_SAMPLES',
    'MGM',
    'RECOMMENDED',
    'VKDNW',
    'ChannelEntropy',
    'ChannelRank',
    'Complexity',
    'Expressivity',
    'GradientNorm',
    'GradientRank',
    'HalfCovariance',
    'JacobianCovariance',
    'KernelSpectrum',
    'LabelAlignment',
    'LinearRegions',
    'LogL1',
    'LogMGM',
    'MGMLogits',
    'MGMSampled',
    'MeCo',
    'Naswot',
    'Progressivity',
    'Score',
    'SignalToNoise',
    'Snip',
    'SteadyRank',
    'Swap',
    'SynFlow',
    'TargetAlignment',
    'TargetFit',
    'Trainability',
    'TwoWayRank',
    'ZiCo',
    'effective_ranks',
    'flops',
    'get_score',
    'mean_matrices',
    'prepare_statistics',
    'register',
    'score_names',
    'statistics',
]
