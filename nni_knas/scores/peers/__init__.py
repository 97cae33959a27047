"""Published training-free scores beside this project's own: each from its paper's formula, a file a paper."""

from __future__ import annotations

from nni_knas.scores.peers.meco import MeCo
from nni_knas.scores.peers.naswot import JacobianCovariance, Naswot
from nni_knas.scores.peers.swap import Swap
from nni_knas.scores.peers.synflow import SynFlow
from nni_knas.scores.peers.te_nas import LinearRegions

__all__ = ['JacobianCovariance', 'LinearRegions', 'MeCo', 'Naswot', 'Swap', 'SynFlow']
