"""``nni-knas benchmark``: the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_knas.cli.benchmark_all import run_all
from nni_knas.cli.benchmark_correlation import run_correlation
from nni_knas.cli.benchmark_knas import run_knas
from nni_knas.cli.benchmark_search import run_searches
from nni_knas.cli.benchmark_setup import check_options, folder_name, is_several, opened_cache, parse_scores, prepare
from nni_knas.cli.machine import stdout_kept

__all__ = ['run']

DEFAULTS = {'architectures': (1000, 300), 'cost_architectures': (8, 0)}
"""Of one benchmark, and of each of several."""
OF_PROTOCOL = {
    'search': {'candidates': 1000, 'repeats': 50, 'top_k': '5,10,20,40'},
    'knas': {'candidates': 300, 'repeats': 9, 'top_k': '20,40', 'scores': 'all'},
}
OUTPUT = Path('nni-knas-benchmark')


def run(options: argparse.Namespace) -> None:
    """Run the command. With ``--json`` what people are told is on stderr, and the folder's JSON on stdout."""
    with stdout_kept(options.json):
        file = _run(options)
    if options.json:
        print(file.read_text(encoding='utf-8'), end='')


def _run(options: argparse.Namespace) -> Path:
    """Run the benchmark, and give the file of its results."""
    several = is_several(options.benchmark)
    for name, (one, each) in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, each if several else one)
    for name, default in OF_PROTOCOL['search' if options.protocol == 'search' else 'knas'].items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    check_options(options)
    folder = options.output or (OUTPUT if several else OUTPUT / folder_name(options.benchmark))
    if options.protocol == 'search':
        run_searches(options, folder)
        return folder / 'search.json'
    if several:
        run_all(options, folder)
        return folder / 'all.json'
    scores, left_out = parse_scores(options.scores, options.batch_size)
    setup = prepare(options, options.benchmark, scores, folder)
    setup.notes.extend(left_out)
    with opened_cache(setup.folder) as cache:
        (run_knas if options.protocol == 'knas' else run_correlation)(options, setup, cache)
    return setup.folder / ('knas.json' if options.protocol == 'knas' else 'results.json')
