"""Scores against tabular benchmarks: rank correlations and search quality."""

from __future__ import annotations

from nni_knas.benchmark import library  # noqa: F401  registers the benchmarks that come with the package
from nni_knas.benchmark.base import (
    Benchmark,
    benchmark_names,
    load_benchmark,
    register_benchmark,
    space_benchmark,
)

__all__ = ['Benchmark', 'benchmark_names', 'load_benchmark', 'register_benchmark', 'space_benchmark']
