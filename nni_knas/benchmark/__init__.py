"""Scores against tabular benchmarks: rank correlations and search quality."""

from __future__ import annotations

from nni_knas.benchmark import library  # noqa: F401  registers the benchmarks that come with the package
from nni_knas.benchmark.aggregates import AGGREGATES, Aggregate, find_score
from nni_knas.benchmark.base import (
    Benchmark,
    benchmark_names,
    declaration_of,
    find_table,
    load_benchmark,
    register_benchmark,
    space_benchmark,
)
from nni_knas.benchmark.baselines import BASELINES
from nni_knas.benchmark.cache import ScoreCache
from nni_knas.benchmark.correlation import TOP, correlation_table, score_table, within_table
from nni_knas.benchmark.costs import PLAIN_IMAGES, cost
from nni_knas.benchmark.encoding import encode
from nni_knas.benchmark.heatmap import plot_summary
from nni_knas.benchmark.hub import autoformer_digits_space, darts_cifar10_space, text_space
from nni_knas.benchmark.measuring import Measurement, measure
from nni_knas.benchmark.nats import to_sample
from nni_knas.benchmark.panel import others_table, panel_scores, panel_table, statistics_of
from nni_knas.benchmark.plots import have_matplotlib, plot_scores, plot_search
from nni_knas.benchmark.protocol import draw_candidates, search_table
from nni_knas.benchmark.search_plots import plot_searches
from nni_knas.benchmark.search_protocol import Plan, Pool, Task, Traces, pool_size, search_all
from nni_knas.benchmark.search_summary import overall_table, task_table, verdict
from nni_knas.benchmark.summary import Ranked, correlation_text, summary_table

__all__ = [
    'AGGREGATES',
    'BASELINES',
    'PLAIN_IMAGES',
    'TOP',
    'Aggregate',
    'Benchmark',
    'Measurement',
    'Plan',
    'Pool',
    'Ranked',
    'ScoreCache',
    'Task',
    'Traces',
    'autoformer_digits_space',
    'benchmark_names',
    'correlation_table',
    'correlation_text',
    'cost',
    'darts_cifar10_space',
    'declaration_of',
    'draw_candidates',
    'encode',
    'find_score',
    'find_table',
    'have_matplotlib',
    'load_benchmark',
    'measure',
    'others_table',
    'overall_table',
    'panel_scores',
    'panel_table',
    'plot_scores',
    'plot_search',
    'plot_searches',
    'plot_summary',
    'pool_size',
    'register_benchmark',
    'score_table',
    'search_all',
    'search_table',
    'space_benchmark',
    'statistics_of',
    'summary_table',
    'task_table',
    'text_space',
    'to_sample',
    'verdict',
    'within_table',
]
