"""``nni-knas benchmark``: the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_knas.cli.benchmark_correlation import run_correlation
from nni_knas.cli.benchmark_search import run_searches
from nni_knas.cli.benchmark_setup import check_options, folder_name, opened_cache, parse_scores, prepare

__all__ = ['run']

OUTPUT = Path('nni-knas-benchmark')


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    check_options(options)
    scores, left_out = parse_scores(options.scores, options.batch_size)
    setup = prepare(options, options.benchmark, scores, options.output or OUTPUT / folder_name(options.benchmark))
    setup.notes.extend(left_out)
    with opened_cache(setup.folder) as cache:
        (run_searches if options.protocol == 'knas' else run_correlation)(options, setup, cache)
