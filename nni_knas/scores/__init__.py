"""Training-free scores: from the gradients of a network to one number, higher is better.

A score sees the network's gradients on a minibatch and nothing else. Each stands in a file of its own with its formula,
its source and what it costs; :func:`get_score` finds it by name and :func:`register` adds one.
"""

from __future__ import annotations

from nni_knas.scores.base import RECOMMENDED, Score, get_score, register, score_names
from nni_knas.scores.half_covariance import HalfCovariance
from nni_knas.scores.mgm import MGM, MGMSampled

__all__ = ['MGM', 'RECOMMENDED', 'HalfCovariance', 'MGMSampled', 'Score', 'get_score', 'register', 'score_names']
