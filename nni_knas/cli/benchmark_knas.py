"""``nni-knas benchmark --protocol knas``: the search of the paper, by every score."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nni_knas.benchmark import (
    Measurement,
    ScoreCache,
    draw_candidates,
    have_matplotlib,
    measure,
    plot_search,
    search_table,
)
from nni_knas.cli.benchmark_setup import Setup, parse_numbers
from nni_knas.cli.benchmark_text import (
    number_text,
    print_notes_and_files,
    print_table,
    score_label,
    settings_text,
    write_results,
)
from nni_knas.search import check_counts

__all__ = ['run_knas']


def run_knas(options: argparse.Namespace, setup: Setup, cache: ScoreCache) -> None:
    """Search, and print what each score finds."""
    metrics = setup.metrics if options.metric else setup.benchmark.searched
    top_k = parse_numbers(options.top_k, '--top-k')
    check_counts(options.candidates, max(top_k))
    every = setup.benchmark.sample(len(setup.benchmark.table), options.sample_seed, metrics)
    if not every:
        raise ValueError(f'no architecture has a result in {", ".join(metrics)}')
    draws = draw_candidates(every, options.candidates, options.repeats, options.sample_seed)
    measurements = _measure_draws(options, setup, draws, cache)
    results = search_table(measurements, draws, setup.scores, metrics, top_k, options.sample_seed)
    settings = setup.settings | {'protocol': 'knas', 'candidates': len(draws[0]), 'repeats': options.repeats, 'top_k': top_k}
    notes = [*setup.notes, *_few_notes(options, every), *(_fine_note(results[results.metric == name]) for name in metrics)]
    written = write_results(setup.folder, 'knas', results, settings, notes)
    among = f'among {len(draws[0])} candidates of {setup.benchmark.name}'
    written += _draw_plots(results, metrics, f'Search {among}, {options.repeats} repeats', setup.folder)
    print(f'{options.repeats} searches {among}, {settings_text(settings)}.')
    _print_found(results)
    print_notes_and_files(notes, setup.folder, written)


def _measure_draws(
    options: argparse.Namespace, setup: Setup, draws: Sequence[Sequence[str]], cache: ScoreCache
) -> list[Measurement]:
    """The measurements of each seed, which needs those of its own repeats only."""
    measurements = []
    for number, kernel in enumerate(setup.kernels):
        wanted = list(dict.fromkeys(name for draw in draws[number :: len(setup.kernels)] for name in draw))
        measure(setup.benchmark, kernel, wanted, setup.scores, cache, options.processes)
        measurements.append(Measurement(setup.benchmark, kernel, cache))
    return measurements


def _draw_plots(results: pd.DataFrame, metrics: Sequence[str], title: str, folder: Path) -> list[Path]:
    shown = metrics if have_matplotlib() else []
    return [path for metric in shown for path in plot_search(results, metric, title, folder)]


def _print_found(results: pd.DataFrame) -> None:
    for (metric, k), block in results.groupby(['metric', 'k'], sort=False):
        print(f'\n{metric}, k = {k}: mean and deviation over the repeats')
        print_table(
            ['score (* baseline)', 'mean', 'deviation'],
            [[score_label(row), f'{row["mean"]:.2f}', number_text(row['deviation'])] for row in block.to_dict('records')],
        )


def _few_notes(options: argparse.Namespace, every: Sequence[str]) -> list[str]:
    if len(every) > options.candidates:
        return []
    return [
        f'The table has {len(every)} architectures with a result in every metric: all of them are candidates in each repeat.'
    ]


def _fine_note(results: pd.DataFrame) -> str:
    row = results.iloc[0]
    if row.upper_bound:
        return (
            f'The table has no validation result for {row.metric}: the fine stage chooses by {row.metric} itself, so '
            'these numbers are an upper bound of what a search can find.'
        )
    mixed = ', a result on validation and test images together' if 'valtest' in row.fine else ''
    return f'For {row.metric} the fine stage chooses by {row.fine}{mixed}.'
