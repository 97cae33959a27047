"""``nni-knas benchmark`` of several benchmarks: one table at the end, a row a score and a column a benchmark."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from nni_knas.benchmark import Ranked, have_matplotlib, plot_summary, summary_table
from nni_knas.cli.benchmark_correlation import Ranking, draw_plots, draw_sample, rank
from nni_knas.cli.benchmark_setup import (
    Missing,
    Setup,
    check_several,
    folder_name,
    opened_cache,
    parse_scores,
    prepare,
    prepare_several,
)
from nni_knas.cli.benchmark_summary import LEGEND, markdown, summary_cells, unknown_notes
from nni_knas.cli.benchmark_text import print_notes_and_files, print_table, samples_text, within_cells, write_results
from nni_knas.scores import Score

__all__ = ['run_all']

CORRELATIONS = {'spearman': "Spearman's rank correlation", 'kendall': "Kendall's rank correlation (tau-b)"}


class Part(NamedTuple):
    """One of the benchmarks, and what came of it."""

    setup: Setup
    ranking: Ranking

    @property
    def metric(self) -> str:
        """What stands for the benchmark."""
        return self.setup.benchmark.witness


def run_all(options: argparse.Namespace, folder: Path) -> None:
    """Rank on each benchmark; print, write and draw what all scores do on all of them."""
    _check_options(options)
    scores, notes = parse_scores(options.scores, options.batch_size)
    setups = prepare_several(options, lambda name: _prepare_one(options, name, scores, folder), notes)
    for note in notes:
        print(note, flush=True)
    with contextlib.ExitStack() as stack:
        parts = _rank_all(options, setups, stack)
        ranked = [
            Ranked(name, part.ranking.measurements, part.ranking.architectures, part.metric) for name, part in parts.items()
        ]
        summaries = {name: summary_table(ranked, scores, name, options.resamples) for name in CORRELATIONS}
    said = unknown_notes(summaries['spearman'], {name: _of_witness(part) for name, part in parts.items()})
    blocks = _blocks(parts, summaries)
    written = [*_write_all(folder, parts, summaries, [*notes, *said]), *_write_markdown(folder, parts, blocks)]
    if have_matplotlib():
        written += plot_summary(summaries['spearman'], list(parts), CORRELATIONS['spearman'], folder)
    hidden = '' if options.kendall else CORRELATIONS['kendall']
    _print_all(parts, {title: block for title, block in blocks.items() if title != hidden})
    print_notes_and_files(said, folder, written)


def _check_options(options: argparse.Namespace) -> None:
    check_several(options)
    if options.protocol != 'correlation':
        raise ValueError(f'--protocol {options.protocol} is for one benchmark: name one with --benchmark')


def _prepare_one(options: argparse.Namespace, name: str, scores: list[Score], folder: Path) -> Setup:
    """A benchmark with a metric that stands for it, which is measured beside the others."""
    setup = prepare(options, name, scores, folder / folder_name(name), among=True)
    witness = setup.benchmark.witness or setup.metrics[0]
    benchmark = dataclasses.replace(setup.benchmark, witness=witness)
    setup = setup._replace(benchmark=benchmark, metrics=list(dict.fromkeys([*setup.metrics, witness])))
    try:
        benchmark.check_metric(witness)
        draw_sample(options, setup)
    except ValueError as error:
        raise Missing(f'{name}: {error}') from error
    return setup


def _rank_all(options: argparse.Namespace, setups: Mapping[str, Setup], stack: contextlib.ExitStack) -> dict[str, Part]:
    """Every benchmark in turn; the caches stay open as long as the stack."""
    caches = {name: stack.enter_context(opened_cache(setup.folder)) for name, setup in setups.items()}
    parts = {}
    for name, setup in tqdm(setups.items(), desc='Benchmarks', unit='benchmark', disable=None):
        if sys.stderr.isatty():
            tqdm.write(f'{name}: {_origin(setup)}', file=sys.stderr)
        parts[name] = Part(setup, rank(options, setup, caches[name]))
        draw_plots(setup, parts[name].ranking, [parts[name].metric])
    return parts


def _origin(setup: Setup) -> str:
    table = f', {Path(setup.settings["table"]).name}' if setup.settings['table'] else ''
    return f'{setup.benchmark.witness}{table}; {samples_text(setup.settings)}'


def _of_witness(part: Part) -> pd.DataFrame:
    return part.ranking.results[part.ranking.results.metric == part.metric]


# What is printed and written.

Block = tuple[list[str], list[list[str]]]


def _lines(parts: Mapping[str, Part]) -> list[str]:
    """What stands in each column."""
    return [
        f'{name}: {len(part.ranking.architectures)} of {len(part.setup.benchmark.table):,} architectures, '
        f'{_origin(part.setup)}'
        for name, part in parts.items()
    ]


def _blocks(parts: Mapping[str, Part], summaries: Mapping[str, pd.DataFrame]) -> dict[str, Block]:
    """The tables of cells, by their titles."""
    blocks = {CORRELATIONS[name]: summary_cells(summary, list(parts)) for name, summary in summaries.items()}
    for name, part in parts.items():
        within = part.ranking.within
        if not within.empty:
            title = f'{name} within each {part.setup.benchmark.within}'
            blocks[title] = within_cells(within[within.metric == part.metric])
    return blocks


def _print_all(parts: Mapping[str, Part], blocks: Mapping[str, Block]) -> None:
    print('\n'.join(_lines(parts)))
    for title, (header, rows) in blocks.items():
        print(f'\n{title}')
        print_table(header, rows)
    print(f'\n{LEGEND}')


def _write_markdown(folder: Path, parts: Mapping[str, Part], blocks: Mapping[str, Block]) -> list[Path]:
    path = folder / 'all.md'
    lines = '\n'.join(f'- {line}' for line in _lines(parts))
    tables = '\n\n'.join(f'{title}:\n\n{markdown(*block)}' for title, block in blocks.items())
    path.write_text(f'{lines}\n\n{tables}\n\n{LEGEND}\n', encoding='utf-8')
    return [path]


def _write_all(
    folder: Path, parts: Mapping[str, Part], summaries: Mapping[str, pd.DataFrame], notes: Sequence[str]
) -> list[Path]:
    """All metrics of all benchmarks as CSV and JSON, with the summaries in the latter."""
    tables = []
    for name, part in parts.items():
        results = part.ranking.results
        tables.append(results.assign(benchmark=name, witness=results.metric == part.metric))
    every = pd.concat(tables, ignore_index=True)
    every = every[['benchmark', 'witness', *(column for column in every if column not in ('benchmark', 'witness'))]]
    others = {**summaries, **{f'within {name}': part.ranking.within for name, part in parts.items()}}
    settings = {name: {'protocol': 'correlation', **part.ranking.settings} for name, part in parts.items()}
    return write_results(folder, 'all', every, settings, notes, others)
