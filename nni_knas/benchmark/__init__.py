"""Scores against tabular benchmarks: rank correlations and search quality."""

from __future__ import annotations

from nni_knas.benchmark import library  # noqa: F401  registers the benchmarks that come with the package
from nni_knas.benchmark.base import (
    Benchmark,
    benchmark_names,
    default_data,
    load_benchmark,
    register_benchmark,
    space_benchmark,
)
from nni_knas.benchmark.baselines import BASELINES
from nni_knas.benchmark.cache import ScoreCache
from nni_knas.benchmark.correlation import TOP, correlation_table, score_table
from nni_knas.benchmark.costs import PLAIN_IMAGES, cost
from nni_knas.benchmark.hub import autoformer_digits_space, darts_cifar10_space, text_space
from nni_knas.benchmark.measuring import Measurement, measure
from nni_knas.benchmark.nats import to_sample
from nni_knas.benchmark.plots import have_matplotlib, plot_scores, plot_search
from nni_knas.benchmark.protocol import draw_candidates, search_table

__all__ = [
    'BASELINES',
    'PLAIN_IMAGES',
    'TOP',
    'Benchmark',
    'Measurement',
    'ScoreCache',
    'autoformer_digits_space',
    'benchmark_names',
    'correlation_table',
    'cost',
    'darts_cifar10_space',
    'default_data',
    'draw_candidates',
    'have_matplotlib',
    'load_benchmark',
    'measure',
    'plot_scores',
    'plot_search',
    'register_benchmark',
    'score_table',
    'search_table',
    'space_benchmark',
    'text_space',
    'to_sample',
]
