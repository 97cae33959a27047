"""``nni-knas benchmark``: the command."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from nni_knas import __version__
from nni_knas.basics.checks import check_seed
from nni_knas.basics.texts import table
from nni_knas.benchmark import (
    BASELINES,
    PLAIN_IMAGES,
    TOP,
    Benchmark,
    Measurement,
    ScoreCache,
    correlation_table,
    cost,
    default_data,
    draw_candidates,
    have_matplotlib,
    load_benchmark,
    measure,
    plot_scores,
    plot_search,
    score_table,
    search_table,
)
from nni_knas.data import load_data
from nni_knas.kernel import GradientKernelEvaluator
from nni_knas.scores import Score, get_score, score_names
from nni_knas.search import check_counts

__all__ = ['run']


class Setup(NamedTuple):
    """What both protocols work on."""

    benchmark: Benchmark
    metrics: list[str]
    scores: list[Score]
    kernels: list[GradientKernelEvaluator]
    cache: ScoreCache
    folder: Path
    settings: dict[str, Any]
    notes: list[str]


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    setup = _prepare_setup(options)
    try:
        (_run_searches if options.protocol == 'knas' else _run_correlation)(options, setup)
    finally:
        setup.cache.close()


def _prepare_setup(options: argparse.Namespace) -> Setup:
    for name in ('architectures', 'candidates', 'repeats', 'resamples', 'image_size'):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f'--{name.replace("_", "-")} is {value}: it has to be 1 or more')
    for name in ('sample_seed', 'cost_architectures'):
        if getattr(options, name) < 0:
            raise ValueError(f'--{name.replace("_", "-")} is {getattr(options, name)}: it has to be 0 or more')
    _parse_numbers(options.top_k, '--top-k')
    seeds, notes = _parse_seeds(options.seeds), []
    scores, left_out = _parse_scores(options.scores, options.batch_size)
    notes += left_out
    data_name, size = default_data(options.benchmark)
    data_name, size = options.data or data_name, options.image_size or size
    load_benchmark(options.benchmark, table=options.table)  # its mistakes come before the data are loaded
    data = load_data(data_name, size=size)
    benchmark = load_benchmark(options.benchmark, table=options.table, classes=data.classes)
    metrics = _parse_names(options.metric) if options.metric else benchmark.metrics
    for metric in metrics:
        benchmark.check_metric(metric)
    normalization = {'normalization': options.normalization} if options.normalization else {}
    kernels = [
        GradientKernelEvaluator(data.train, None, options.batch_size, seed, device=options.device, **normalization)
        for seed in seeds
    ]
    folder = options.output or Path('nni-knas-benchmark') / re.sub(r'\W', '-', options.benchmark)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'the folder {folder} cannot be made: {error.strerror}') from error
    settings = {
        'benchmark': benchmark.name,
        'table': options.table,
        'data': data_name,
        'image_size': size,
        'classes': data.classes,
        'batch_size': options.batch_size,
        'normalization': kernels[0].normalization,
        'seeds': seeds,
        'sample_seed': options.sample_seed,
        'device': str(kernels[0].device),
        'nni_knas': __version__,
        'torch': torch.__version__,
    }
    return Setup(benchmark, metrics, scores, kernels, ScoreCache(folder / 'scores.sqlite'), folder, settings, notes)


# Rank correlations.


def _run_correlation(options: argparse.Namespace, setup: Setup) -> None:
    architectures = setup.benchmark.sample(options.architectures, options.sample_seed, setup.metrics)
    total = len(setup.benchmark.table)
    if len(architectures) < 2:
        raise ValueError(
            f'there are {len(architectures)} architectures with a result in {", ".join(setup.metrics)}: a '
            'correlation needs 2 or more'
        )
    if len(architectures) < options.architectures:
        setup.notes.append(f'The table has {len(architectures)} architectures with a result in every metric: all are used.')
    measurements = _measure_seeds(setup, architectures)
    results = correlation_table(measurements, architectures, setup.scores, setup.metrics, options.resamples)
    settings = setup.settings | {
        'protocol': 'correlation',
        'architectures': len(architectures),
        'resamples': options.resamples,
    }
    if options.cost_architectures:
        costs = cost(setup.benchmark, setup.kernels[0], architectures[: options.cost_architectures], setup.scores)
        results = results.merge(costs, left_on='score', right_index=True, how='left', sort=False)
        settings |= {f'cost_{name}': value for name, value in costs.attrs.items()}
    scores = score_table(measurements, architectures, setup.scores, setup.metrics)
    scores.to_csv(setup.folder / 'scores.csv')
    written = [*_write_results(setup, results, settings, 'results'), setup.folder / 'scores.csv']
    title = (
        f'{len(architectures)} architectures of {setup.benchmark.name}, {setup.kernels[0].batch_size} images of '
        f'{_short_data_name(settings["data"])}, seed {settings["seeds"][0]}'
    )
    if len(setup.kernels) > 1:
        title += f' (correlations: mean over {len(setup.kernels)} seeds)'
    if have_matplotlib():
        for metric in setup.metrics:
            written += plot_scores(results, scores, metric, title, setup.folder)
    print(f'{len(architectures)} of {total} architectures of {setup.benchmark.name}, {_settings_text(settings)}.')
    for metric in setup.metrics:
        _print_correlations(results[results.metric == metric], metric, scores[metric].max())
    several = len(setup.kernels) > 1
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
    _print_notes_and_files(setup, results, written)


def _print_correlations(results: pd.DataFrame, metric: str, best: float) -> None:
    print(f'\n{metric} (best of the sample: {best:.2f})')
    rows = []
    for row in results.to_dict('records'):
        cells = [_score_label(row)]
        for name in ('spearman', 'kendall'):
            deviation = row[f'{name}_deviation']
            cells.append(
                f'{_number_text(row[name])}{"" if np.isnan(deviation) else f" ±{deviation:.2f}"} '
                f'[{_number_text(row[f"{name}_low"])}, {_number_text(row[f"{name}_high"])}]'
            )
        cells += [f'{row[f"top{k}"]:.2f}' for k in TOP] + [f'{row[f"regret{k}"]:.2f}' for k in TOP]
        if 'seconds' in row:
            cells += [_number_text(row['seconds'], 3), _number_text(row['passes'])]
        rows.append([*cells, f'{row["failed"]:g}' if row['failed'] else ''])
    header = [
        'score (* baseline)',
        'spearman',
        'kendall',
        *(f'top {k}' for k in TOP),
        *(f'regret {k}' for k in TOP),
        *(('seconds', 'passes') if 'seconds' in results else ()),
        'failed',
    ]
    _print_table(header, rows)


# The search of the paper.


def _run_searches(options: argparse.Namespace, setup: Setup) -> None:
    metrics = setup.metrics if options.metric else [name for name in setup.metrics if 'test' in name] or setup.metrics
    top_k = _parse_numbers(options.top_k, '--top-k')
    check_counts(options.candidates, max(top_k))
    every = setup.benchmark.sample(len(setup.benchmark.table), options.sample_seed, metrics)
    if not every:
        raise ValueError(f'no architecture has a result in {", ".join(metrics)}')
    if len(every) <= options.candidates:
        setup.notes.append(
            f'The table has {len(every)} architectures with a result in every metric: all of them are '
            'candidates in each repeat.'
        )
    draws = draw_candidates(every, options.candidates, options.repeats, options.sample_seed)
    measurements = _measure_seeds(setup, list(dict.fromkeys(name for draw in draws for name in draw)), draws)
    results = search_table(measurements, draws, setup.scores, metrics, top_k, options.sample_seed)
    settings = setup.settings | {'protocol': 'knas', 'candidates': len(draws[0]), 'repeats': options.repeats, 'top_k': top_k}
    for metric in metrics:
        setup.notes.append(_fine_note(results[results.metric == metric].iloc[0]))
    written = _write_results(setup, results, settings, 'knas')
    if have_matplotlib():
        for metric in metrics:
            title = f'Search among {len(draws[0])} of {setup.benchmark.name}, {options.repeats} repeats'
            written += plot_search(results, metric, title, setup.folder)
    print(
        f'{options.repeats} searches among {len(draws[0])} candidates of {setup.benchmark.name}, {_settings_text(settings)}.'
    )
    for _, block in results.groupby(['metric', 'k'], sort=False):
        metric, k = block.metric.iloc[0], block.k.iloc[0]
        print(f'\n{metric}, k = {k}: mean and deviation over the repeats')
        _print_table(
            ['score (* baseline)', 'mean', 'deviation'],
            [[_score_label(row), f'{row["mean"]:.2f}', _number_text(row['deviation'])] for row in block.to_dict('records')],
        )
    _print_notes_and_files(setup, results, written)


def _fine_note(row: pd.Series) -> str:
    if row.upper_bound:
        return (
            f'The table has no validation result for {row.metric}: the fine stage chooses by {row.metric} itself, so '
            'these numbers are an upper bound of what a search can find.'
        )
    mixed = ', a result on validation and test images together' if 'valtest' in row.fine else ''
    return f'For {row.metric} the fine stage chooses by {row.fine}{mixed}.'


# Shared.


def _measure_seeds(
    setup: Setup, architectures: Sequence[str], draws: Sequence[Sequence[str]] | None = None
) -> list[Measurement]:
    """The measurements of each seed; with ``draws`` a seed needs those of its own repeats only."""
    measurements = []
    for number, kernel in enumerate(setup.kernels):
        wanted = (
            architectures
            if draws is None
            else list(dict.fromkeys(name for draw in draws[number :: len(setup.kernels)] for name in draw))
        )
        measure(setup.benchmark, kernel, wanted, setup.scores, setup.cache)
        measurements.append(Measurement(setup.benchmark, kernel, setup.cache))
    return measurements


def _write_results(setup: Setup, results: pd.DataFrame, settings: dict[str, Any], name: str) -> list[Path]:
    paths = [setup.folder / f'{name}.csv', setup.folder / f'{name}.json']
    results.to_csv(paths[0], index=False)
    rows = json.loads(results.to_json(orient='records'))  # nan becomes null
    plain = {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in settings.items()}
    paths[1].write_text(json.dumps({'settings': plain, 'notes': setup.notes, 'results': rows}, indent=2) + '\n')
    return paths


def _print_notes_and_files(setup: Setup, results: pd.DataFrame, written: list[Path]) -> None:
    print()
    for note in setup.notes:
        print(note)
    if 'reason' in results:
        for row in results[results.reason != ''].drop_duplicates('score').to_dict('records'):
            print(f'{row["score"]} has no value for {row["failed"]:g} architectures, for example: {row["reason"]}')
    if not have_matplotlib():
        print('There are no plots, since matplotlib is not installed: pip install "nni-knas[benchmark]"')
    print(f'In {setup.folder}: {", ".join(path.name for path in written)}')


def _parse_scores(names: str, batch_size: int) -> tuple[list[Score], list[str]]:
    """Scores and baselines, and a note for each score that cannot be had with so few samples."""
    if not _parse_names(names):
        raise ValueError(f'--scores is {names!r}: it has to be names of scores with commas between, or all')
    scores: list[Score] = [*BASELINES]
    notes = []
    taken = {score.name for score in scores}
    for name in dict.fromkeys(score_names() if names == 'all' else _parse_names(names)):
        if name in taken:
            continue
        score = get_score(name)
        try:
            score.check(batch_size)
        except ValueError as error:
            if names != 'all':
                raise
            notes.append(f'Left out: {error}')
            continue
        scores.append(score)
    return scores, notes


def _parse_seeds(text: str) -> list[int]:
    numbers = _parse_numbers(text, '--seeds', 0)
    if len(numbers) > 1 or ',' in text:
        for number in numbers:
            check_seed(number, 'one of --seeds')
        return numbers
    if not numbers[0]:
        raise ValueError('--seeds is 0: it is how many seeds, 1 or more, or which, with commas')
    return list(range(numbers[0]))


def _parse_numbers(text: str, option: str, least: int = 1) -> list[int]:
    try:
        numbers = list(dict.fromkeys(int(part) for part in _parse_names(text)))
        if numbers and min(numbers) >= least:
            return numbers
    except ValueError:
        pass
    raise ValueError(f'{option} is {text!r}: it has to be whole numbers, {least} or more, with commas between')


def _parse_names(text: str) -> list[str]:
    return [part.strip() for part in text.split(',') if part.strip()]


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    print(table(header, rows, right=header[1:]))


def _score_label(row: Mapping[Any, Any]) -> str:
    return row['score'] + (' *' if row['kind'] == 'baseline' else '')


def _number_text(value: float, digits: int = 2) -> str:
    return '-' if np.isnan(value) else f'{value:.{digits}f}'


def _settings_text(settings: dict[str, Any]) -> str:
    seeds = ', '.join(map(str, settings['seeds']))
    return (
        f'{settings["batch_size"]} images of {_short_data_name(settings["data"])}, '
        f'normalization {settings["normalization"]}, '
        f'seed{"s" if len(settings["seeds"]) > 1 else ""} {seeds}, {settings["device"]}'
    )


def _short_data_name(data: str) -> str:
    """``folder:a/long/path`` by its last part."""
    return Path(data.removeprefix('folder:')).name if data.startswith('folder:') else data
