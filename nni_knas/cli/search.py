"""A search from its options to the printed ranking, new or taken up again."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from nni.nas.experiment import NasExperiment, NasExperimentConfig

from nni_knas.basics.files import check_writable
from nni_knas.basics.texts import duration, number, one_line, table
from nni_knas.bridge.experiment import experiment_folder, has_checkpoint, known_port
from nni_knas.bridge.leftovers import end_leftovers
from nni_knas.bridge.listening import check_host, listening_on
from nni_knas.bridge.portal import portal_address
from nni_knas.bridge.registry import find_folder
from nni_knas.cli.ports import check_port, free_port
from nni_knas.cli.watch import near_in_words, watched
from nni_knas.config import SearchConfig, SearchOptions, Settings, enter
from nni_knas.record import Record, Status, record_path, settings_path
from nni_knas.runs import Run, check_idle, open_run

__all__ = ['print_energy', 'run_folder', 'search', 'stored_config']


def search(settings: SearchConfig, port: int | None = None, resume: str | None = None, watch: float | None = None) -> None:
    """Search, and print the ranking.

    Parameters
    ----------
    settings
        What is to be done.
    port
        The port of the web portal. Default: the one that the run had before, or 8080, or a free one where those are taken.
    resume
        NNI's id of the run to take up.
    watch
        Seconds after which the ranking is printed while the search goes on, if it has changed. Default: it is not.

    Raises
    ------
    ValueError
        If something of the settings cannot be.
    KeyboardInterrupt
        If the search was interrupted, after its ranking is printed.
    """
    options, search_space, config = settings
    check_port(port)
    if options.host is not None:
        check_host(options.host)
    enter(config)
    _check_folder(config, resume)
    data = options.load_data()
    space = options.make_space(data.classes, search_space)
    strategy = options.make_strategy(options.make_kernel(data))
    evaluator = options.make_evaluator(data)
    if not resume:
        strategy.check(space, evaluator)
    experiment = NasExperiment(space, evaluator, strategy, config, id=resume)
    folder = experiment_folder(experiment)
    end_leftovers(folder)  # of a run that is resumed: they may hold the port
    port = free_port(port, known_port(experiment.id))
    Settings(options, search_space, config.json()).write(folder)
    print(f'Run {experiment.id} in {folder}')
    print(
        f'Web portal while it runs: http://127.0.0.1:{port} (progress, trials with their scores: {portal_address(port)})',
        flush=True,
    )
    start = time.monotonic()
    try:
        with listening_on(options.host), watched(folder, watch) if watch is not None else contextlib.nullcontext():
            (experiment.resume if resume and has_checkpoint(experiment) else experiment.run)(port)
    finally:
        experiment.stop()
    run = open_run(folder)
    _print_result(run, options, time.monotonic() - start)
    if run.status == 'interrupted':  # NNI's run() ends then as it does otherwise
        print(f'Go on: {run.how_to_resume()}', flush=True)
        raise KeyboardInterrupt


def _check_folder(config: NasExperimentConfig, resume: str | None) -> None:
    """Before any work: a run can be made in the folder of runs, or the one to resume is there and can be taken up."""
    home = Path(config.canonical_copy().experiment_working_directory)
    folder = home / resume if resume else home
    if resume and not settings_path(folder).exists():
        raise ValueError(f'there is no run {resume!r} to resume in {home}')
    check_writable(folder, 'runs')
    if resume:
        check_idle(record_path(folder))


def run_folder(run: str, directory: Path | None = None) -> Path:
    """The folder of a run, by NNI's id or by the folder itself.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    inside = directory / run if directory is not None else None
    return (inside if inside is not None and inside.is_dir() else find_folder(run)).resolve()


def stored_config(folder: Path) -> SearchConfig | None:
    """What a search of the command line was started with; ``None`` where the run is none."""
    try:
        settings = Settings.read(folder)
    except FileNotFoundError:
        return None
    if settings.config is None:
        return None
    config = NasExperimentConfig(**settings.config)
    config.experiment_working_directory = str(folder.parent)  # it may have been moved
    return SearchConfig(settings.options, settings.search_space, config)


def _print_result(run: Run, options: SearchOptions, seconds: float) -> None:
    scores, trained, name = run.frame(), run.ranking(all=True), run.metric_name
    shown = trained if len(trained) else scores.head(10)
    rows = [
        [str(rank), number(row.score, '.4g', ''), number(row.metric, '.4f', ''), one_line(row.architecture)]
        for rank, row in shown.iterrows()
    ]
    print(f'\n{table(["rank", "score", name, "architecture"], rows, {"rank", "score", name})}')
    counts = scores.status.value_counts()
    outside = sum(int(counts.get(status, 0)) for status in (Status.FILTERED, Status.OUTSIDE))
    count, near = run.record.scored(), near_in_words(run.record)
    notes = f', {scores.score.notna().sum()} of them in full' if Status.SCREENED in counts else ''
    notes += f', {counts[Status.FAILED]} more failed' if Status.FAILED in counts else ''
    notes += f', left {outside} out that are over the limits' if outside else ''
    print(
        f'\nScored {count} candidates{near} in {duration(run.record.scoring_seconds())}{notes}; trained {len(trained)} '
        f'in {duration(scores.training_seconds.sum())} of trials; {duration(seconds)} in all.'
    )
    _print_failures(run.record)
    if run.state.reason:
        print(f'The run {run.state}.'.replace(' finished: ', ' ended since its '))
    if len(trained):
        print(f'Best: {name} {trained.metric.iloc[0]:.4f}, rank {trained.index[0]} of {count} by score.')
    print_energy(run)
    if options.front is not None:
        print(f'The Pareto front of score against {options.front}: nni-knas show {run.folder}')
    print(f'Report: nni-knas report {run.folder}')
    print(f'Again from Python: nni_knas.open_run({str(run.folder)!r})')


def _print_failures(record: Record) -> None:
    """Print how many candidates failed, with the most frequent reason."""
    for status, what in ((Status.FAILED, 'could not be scored'), (Status.TRAINING_FAILED, 'could not be trained')):
        said = record.frequent_reason(status)
        if said is not None:
            print(f'{record.count(status)} {what}; the most frequent reason ({said[1]} times): {said[0]}')


def print_energy(run: Run) -> None:
    """Print what a run has used, where that was recorded, and how that is known."""
    footprint = run.footprint()
    if footprint.statement:
        print(f'Energy: {footprint.statement}.')
        known = [f'{name} {footprint.methods[name]}' for name in ('cpu', 'gpu', 'memory') if name in footprint.methods]
        print(f'Of this, {"; ".join(known)}.')
