"""``nni-knas benchmark``: the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_knas.cli.benchmark_all import run_all
from nni_knas.cli.benchmark_correlation import run_correlation
from nni_knas.cli.benchmark_search import run_searches
from nni_knas.cli.benchmark_setup import check_options, folder_name, is_several, opened_cache, parse_scores, prepare

__all__ = ['run']

DEFAULTS = {'architectures': (1000, 300), 'cost_architectures': (8, 0)}
"""Of one benchmark, and of each of several."""
OUTPUT = Path('nni-knas-benchmark')


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    several = is_several(options.benchmark)
    for name, (one, each) in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, each if several else one)
    check_options(options)
    if several:
        return run_all(options, options.output or OUTPUT)
    scores, left_out = parse_scores(options.scores, options.batch_size)
    setup = prepare(options, options.benchmark, scores, options.output or OUTPUT / folder_name(options.benchmark))
    setup.notes.extend(left_out)
    with opened_cache(setup.folder) as cache:
        (run_searches if options.protocol == 'knas' else run_correlation)(options, setup, cache)
