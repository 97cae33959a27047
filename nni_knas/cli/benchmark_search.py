"""``nni-knas benchmark --protocol search``: how well the learner, and others, choose what to train."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nni_knas.basics.names import RECOMMENDED, SEARCHES
from nni_knas.basics.spelling import nearest
from nni_knas.benchmark import (
    BASELINES,
    Measurement,
    Plan,
    Pool,
    Task,
    Traces,
    encode,
    have_matplotlib,
    measure,
    others_table,
    overall_table,
    panel_scores,
    panel_table,
    plot_searches,
    pool_size,
    search_all,
    task_table,
    verdict,
)
from nni_knas.cli.benchmark_search_text import LEGEND, overall_cells, search_markdown, shown_searches
from nni_knas.cli.benchmark_setup import (
    Missing,
    Setup,
    check_several,
    folder_name,
    is_several,
    opened_cache,
    parse_names,
    parse_numbers,
    parse_scores,
    prepare,
    prepare_several,
)
from nni_knas.cli.benchmark_text import print_notes_and_files, print_table, samples_text, write_results
from nni_knas.scores import Score
from nni_knas.search import check_counts

__all__ = ['run_searches']


class Results(NamedTuple):
    """What came of it, and the sentences that hold the learner against the others."""

    traces: Mapping[Task, Traces]
    tasks: pd.DataFrame
    overall: pd.DataFrame
    verdicts: list[str]


def run_searches(options: argparse.Namespace, folder: Path) -> None:
    """Measure what is not known of the panels, search, and print, write and draw what was found."""
    plan = _plan_of(options)
    scores, notes = _other_scores(options)
    setups = _prepare(options, scores, folder, notes)
    for note in notes:
        print(note, flush=True)
    pools = {name: _pool_of(options, setup) for name, setup in setups.items()}
    traces = search_all(pools, plan, options.processes)
    tasks, overall = (table(traces, plan.top_k, options.resamples) for table in (task_table, overall_table))
    said = [sentence for k in plan.top_k if (sentence := verdict(overall, tasks, k))]
    results = Results(traces, tasks, overall, said)
    lines = [_line(name, setup, pools[name], results) for name, setup in setups.items()]
    settings = {name: setup.settings | plan._asdict() | {'protocol': 'search'} for name, setup in setups.items()}
    written = _write(folder, results, lines, settings, [*notes, *said])
    _print(plan, lines, results)
    print_notes_and_files(said, folder, written)


# What is asked for.


def _plan_of(options: argparse.Namespace) -> Plan:
    searches = SEARCHES if options.searches is None else tuple(dict.fromkeys(parse_names(options.searches)))
    for name in searches:
        if name not in SEARCHES:
            raise ValueError(f'--searches has {name!r}: {nearest(name, SEARCHES)}')
    if not searches:
        raise ValueError(
            f'--searches is {options.searches!r}: it has to be names with commas between, of {", ".join(SEARCHES)}'
        )
    top_k = sorted(parse_numbers(options.top_k, '--top-k'))
    check_counts(options.candidates, max(top_k))
    return Plan(top_k, options.candidates, options.repeats, options.concurrency, searches, options.sample_seed)


def _other_scores(options: argparse.Namespace) -> tuple[list[Score], list[str]]:
    """Scores beside the recommended one, whose tops are compared, and notes of those that cannot be had."""
    if options.scores is None:
        return [], []
    scores, notes = parse_scores(options.scores, options.batch_size)
    return [score for score in scores if score not in BASELINES and score.name != RECOMMENDED], notes


def _prepare(options: argparse.Namespace, scores: list[Score], folder: Path, notes: list[str]) -> dict[str, Setup]:
    if not is_several(options.benchmark):
        return {options.benchmark: _prepare_one(options, options.benchmark, scores, folder, among=False)}
    check_several(options)
    return prepare_several(
        options, lambda name: _prepare_one(options, name, scores, folder / folder_name(name), among=True), notes
    )


def _prepare_one(options: argparse.Namespace, name: str, scores: list[Score], folder: Path, among: bool) -> Setup:
    """A benchmark with its tasks."""
    setup = prepare(options, name, scores, folder, among)
    if not options.metric:
        setup = setup._replace(metrics=setup.benchmark.searched)
    if len(_architectures(options, setup)) < 2:
        sentence = f'less than 2 architectures have a result in {", ".join(setup.metrics)}: a search needs 2 or more'
        raise Missing(f'{name}: {sentence}')
    return setup


def _architectures(options: argparse.Namespace, setup: Setup) -> list[str]:
    return setup.benchmark.sample(pool_size(options.candidates), options.sample_seed, setup.metrics)


def _pool_of(options: argparse.Namespace, setup: Setup) -> Pool:
    """The panels of the architectures that candidates are drawn from, measured where they are not known yet."""
    architectures = _architectures(options, setup)
    panels, others = [], []
    with opened_cache(setup.folder) as cache:
        for kernel in setup.kernels:
            wanted = [*panel_scores(kernel.minibatch.size).values(), *setup.scores]
            measure(setup.benchmark, kernel, architectures, wanted, cache, options.processes)
            measurement = Measurement(setup.benchmark, kernel, cache)
            panels.append(panel_table(measurement, architectures))
            others.append(others_table(measurement, architectures, setup.scores))
    metrics = setup.benchmark.table.loc[architectures, setup.metrics]
    return Pool(panels, others, encode(setup.benchmark, architectures), metrics)


# What is said of it.


def _line(name: str, setup: Setup, pool: Pool, results: Results) -> str:
    """What stands for a benchmark, and what lacks."""
    count = next(each.candidates for task, each in results.traces.items() if task.benchmark == name)
    failed = int(pool.panels[0].isna().any(axis=1).sum())
    lacking = f'; {failed} have no panel, or not all of it' if failed else ''
    return (
        f'{name}: {count} candidates in each repeat, of {len(pool.metrics)} architectures; '
        f'{", ".join(map(str, pool.metrics))}; {samples_text(setup.settings)}{lacking}'
    )


def _print(plan: Plan, lines: Sequence[str], results: Results) -> None:
    print('\n'.join(lines))
    going = f', {plan.concurrency} trainings at the same time' if plan.concurrency > 1 else ''
    print(f'{results.overall.tasks.iloc[0]} tasks, {plan.repeats} repeats{going}.')
    for k in plan.top_k:
        print(f'\nk = {k}')
        print_table(*overall_cells(results.overall[results.overall.k == k]))
    print(f'\n{LEGEND}')


def _write(
    folder: Path, results: Results, lines: Sequence[str], settings: Mapping[str, Any], notes: Sequence[str]
) -> list[Path]:
    written = write_results(folder, 'search', results.tasks, settings, notes, {'overall': results.overall})
    tables = {'search-overall.csv': results.overall.to_csv(index=False), 'search.md': search_markdown(*results[1:], lines)}
    for name, text in tables.items():
        (folder / name).write_text(text, encoding='utf-8')
        written.append(folder / name)
    if have_matplotlib():
        shown = shown_searches(results.overall[results.overall.k == results.overall.k.max()])
        written += plot_searches(results.traces, shown, folder)
    return written
