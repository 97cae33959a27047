"""``nni-knas benchmark``: every score ranks a sample of one benchmark's architectures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nni_knas.benchmark import (
    PLAIN_IMAGES,
    TOP,
    Measurement,
    ScoreCache,
    correlation_table,
    cost,
    have_matplotlib,
    measure,
    plot_scores,
    score_table,
    within_table,
)
from nni_knas.cli.benchmark_setup import Setup
from nni_knas.cli.benchmark_text import (
    failure_notes,
    interval_text,
    number_text,
    print_notes_and_files,
    print_table,
    samples_text,
    score_label,
    settings_text,
    why_not_applicable,
    within_cells,
    write_results,
)

__all__ = ['Ranking', 'draw_plots', 'draw_sample', 'rank', 'run_correlation']


class Ranking(NamedTuple):
    """What came of one benchmark."""

    architectures: list[str]
    measurements: list[Measurement]
    results: pd.DataFrame
    within: pd.DataFrame
    scores: pd.DataFrame
    settings: dict[str, Any]
    notes: list[str]
    written: list[Path]


def run_correlation(options: argparse.Namespace, setup: Setup, cache: ScoreCache) -> None:
    """Rank, and print all that is known of it."""
    ranking = rank(options, setup, cache)
    written = ranking.written + draw_plots(setup, ranking, setup.metrics)
    print(
        f'{len(ranking.architectures)} of {len(setup.benchmark.table)} architectures of {setup.benchmark.name}, '
        f'{settings_text(ranking.settings)}.'
    )
    for metric in setup.metrics:
        _print_correlations(ranking.results[ranking.results.metric == metric], metric, ranking.scores[metric].max())
    if not ranking.within.empty:
        witness = setup.benchmark.witness
        for metric in [witness] if witness in setup.metrics else setup.metrics:
            print(f'\n{metric} within each {setup.benchmark.within}')
            print_table(*within_cells(ranking.within[ranking.within.metric == metric]))
    _print_legend(options, ranking.settings)
    print_notes_and_files(ranking.notes + failure_notes(ranking.results), setup.folder, written)


def draw_sample(options: argparse.Namespace, setup: Setup) -> list[str]:
    """The architectures to rank, which have a result in every metric."""
    architectures = setup.benchmark.sample(options.architectures, options.sample_seed, setup.metrics)
    if len(architectures) < 2:
        raise ValueError(
            f'there are {len(architectures)} architectures with a result in {", ".join(setup.metrics)}: a '
            'correlation needs 2 or more'
        )
    return architectures


def rank(options: argparse.Namespace, setup: Setup, cache: ScoreCache) -> Ranking:
    """Score what is not in the cache, and write all tables to the benchmark's folder."""
    architectures = draw_sample(options, setup)
    notes = [*setup.notes, *_few_notes(options, architectures)]
    measurements = []
    for kernel in setup.kernels:
        measure(setup.benchmark, kernel, architectures, setup.scores, cache, options.processes)
        measurements.append(Measurement(setup.benchmark, kernel, cache))
    tables = measurements, architectures, setup.scores, setup.metrics
    results, within = (table(*tables, options.resamples) for table in (correlation_table, within_table))
    settings = setup.settings | {'architectures': len(architectures), 'resamples': options.resamples}
    if options.cost_architectures:
        costs = cost(setup.benchmark, setup.kernels[0], architectures[: options.cost_architectures], setup.scores)
        results = results.merge(costs, left_on='score', right_index=True, how='left', sort=False)
        settings |= {f'cost_{name}': value for name, value in costs.attrs.items()}
    scores = score_table(*tables)
    written = write_results(setup.folder, 'results', results, {'protocol': 'correlation', **settings}, notes)
    for name, table in (('scores', scores.reset_index()), ('within', within)):
        if not table.empty:
            table.to_csv(setup.folder / f'{name}.csv', index=False)
            written.append(setup.folder / f'{name}.csv')
    return Ranking(architectures, measurements, results, within, scores, settings, notes, written)


def draw_plots(setup: Setup, ranking: Ranking, metrics: Sequence[str]) -> list[Path]:
    """The plots of some metrics, where matplotlib is installed."""
    title = (
        f'{len(ranking.architectures)} architectures of {setup.benchmark.name}, {samples_text(setup.settings)}, '
        f'seed {setup.settings["seeds"][0]}'
    )
    if len(setup.kernels) > 1:
        title += f' (correlations: mean over {len(setup.kernels)} seeds)'
    shown = metrics if have_matplotlib() else []
    return [path for metric in shown for path in plot_scores(ranking.results, ranking.scores, metric, title, setup.folder)]


def _few_notes(options: argparse.Namespace, architectures: Sequence[str]) -> list[str]:
    if len(architectures) == options.architectures:
        return []
    return [f'The table has {len(architectures)} architectures with a result in every metric: all are used.']


def _print_correlations(results: pd.DataFrame, metric: str, best: float) -> None:
    print(f'\n{metric} (best of the sample: {best:.2f})')
    header = [
        'score (* baseline)',
        'spearman',
        'kendall',
        *(f'top {k}' for k in TOP),
        *(f'regret {k}' for k in TOP),
        *(('seconds', 'passes') if 'seconds' in results else ()),
        'failed',
    ]
    rows = []
    for row in results.to_dict('records'):
        cells = [score_label(row)]
        if why_not_applicable(row):
            rows.append([*cells, *['n/a'] * 2, *['-'] * (len(header) - 4), f'{row["failed"]:g}'])
            continue
        for name in ('spearman', 'kendall'):
            deviation = row[f'{name}_deviation']
            around = '' if np.isnan(deviation) else f' ±{deviation:.2f}'
            cells.append(f'{number_text(row[name])}{around} {interval_text(row, f"{name}_low", f"{name}_high")}')
        cells += [f'{row[f"top{k}"]:.2f}' for k in TOP] + [f'{row[f"regret{k}"]:.2f}' for k in TOP]
        if 'seconds' in row:
            cells += [number_text(row['seconds'], 3), number_text(row['passes'])]
        rows.append([*cells, f'{row["failed"]:g}' if row['failed'] else ''])
    print_table(header, rows)


def _print_legend(options: argparse.Namespace, settings: dict[str, Any]) -> None:
    several = len(settings['seeds']) > 1
    print(
        f'\nspearman, kendall (tau-b): {"mean over the seeds ± deviation" if several else "of one seed"}; in brackets '
        f'the 95 % bootstrap interval of {"that mean" if several else "it"} over architectures ({options.resamples} '
        'resamples). top K: best accuracy among the K best scores; regret: what it lacks to the best of the sample.'
    )
    if options.cost_architectures:
        print(
            f'seconds: one score by itself, without building the network ({settings["cost_build_seconds"]:.3f} s); '
            f'passes: that in plain forward-backward passes of {PLAIN_IMAGES} images '
            f'({settings["cost_plain_seconds"]:.3f} s). Medians over {settings["cost_architectures"]} architectures.'
        )
