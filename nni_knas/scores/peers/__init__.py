"""Published training-free scores beside this project's own: each from its paper's formula, a file a paper."""

from __future__ import annotations

from nni_knas.scores.peers.az_nas import Complexity, Expressivity, Progressivity, flops
from nni_knas.scores.peers.az_trainability import Trainability
from nni_knas.scores.peers.meco import MeCo
from nni_knas.scores.peers.naswot import JacobianCovariance, Naswot
from nni_knas.scores.peers.swap import Swap
from nni_knas.scores.peers.synflow import SynFlow
from nni_knas.scores.peers.te_nas import LinearRegions
from nni_knas.scores.peers.vkdnw import VKDNW

__all__ = [
    'VKDNW',
    'Complexity',
    'Expressivity',
    'JacobianCovariance',
    'LinearRegions',
    'MeCo',
    'Naswot',
    'Progressivity',
    'Swap',
    'SynFlow',
    'Trainability',
    'flops',
]
