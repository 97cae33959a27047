"""Search spaces with public tables of trained networks, each in a file of its own; the user has the tables."""

from __future__ import annotations

from nni_knas.benchmark.spaces.autoformer import autoformer
from nni_knas.benchmark.spaces.darts import darts
from nni_knas.benchmark.spaces.flexibert import flexibert
from nni_knas.benchmark.spaces.nasbench101 import nasbench101
from nni_knas.benchmark.spaces.transnas import transnas_micro

__all__ = ['autoformer', 'darts', 'flexibert', 'nasbench101', 'transnas_micro']
