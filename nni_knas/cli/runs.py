"""The commands on runs: ``nni-knas show``, ``resume`` and ``export``; and ``nni-knas register``."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from nni.experiment.launcher import get_stopped_experiment_config_json
from nni.tools.nnictl.algo_management import algo_reg

from nni_knas.basics.texts import duration
from nni_knas.bridge.experiment import known_port
from nni_knas.bridge.leftovers import end_leftovers
from nni_knas.bridge.listening import check_host, listening_on
from nni_knas.bridge.registry import known_experiments
from nni_knas.cli.lessons import choices_text, weights_text
from nni_knas.cli.listing import shown_name, start_time
from nni_knas.cli.machine import print_json
from nni_knas.cli.ports import check_port, free_port
from nni_knas.cli.run_json import run_as_json
from nni_knas.cli.search import print_energy, run_folder, search, stored_config
from nni_knas.cli.watch import best_so_far, candidate_table, print_while_running
from nni_knas.config import SearchOptions, Settings, options
from nni_knas.record import Status, record_path
from nni_knas.runs import Run, check_idle, pareto_front
from nni_knas.tuner import meta_file

__all__ = ['export_network', 'register_tuner', 'resume_run', 'show_run']


def show_run(arguments: argparse.Namespace) -> None:
    """Print the ranking of a run, once or for as long as it goes on."""
    if arguments.top < 1:
        raise ValueError(f'--top is {arguments.top}: it has to be 1 or more')
    run = Run(run_folder(arguments.run, arguments.directory))
    if arguments.json:
        if arguments.watch is not None:
            raise ValueError('--json is printed once: it does not go with --watch')
        print_json(run_as_json(run, arguments.top))
        return
    asked, entry = _stored_options(run.folder), known_experiments().get(run.folder.name, {})
    if arguments.watch is not None:
        print_while_running(run, arguments.watch, arguments.top)
        return
    frame, name = run.frame(), shown_name(run.folder, run.record, entry)
    print(f'Run {run.folder.name}{f" ({name})" if name else ""} in {run.folder}')
    print(f'Status: {run.state}; started {start_time(run.folder, run.record, entry)}')
    print(f'Searched: {_options_text(asked)}')
    counts = ', '.join(f'{count} {status}' for status, count in frame.status.value_counts().items())
    print(f'Candidates: {len(frame)}' + (f' ({counts})' if counts else ''))
    for status in (Status.FAILED, Status.TRAINING_FAILED):
        for reason, count in frame.reason[frame.status == status].value_counts().head(3).items():
            print(f'  {status}, {count} times: {reason}')
    print(
        f'Time: scoring {duration(run.record.scoring_seconds())}, training '
        f'{duration(frame.training_seconds.sum())} of trials'
    )
    print_energy(run)
    print(f'\n{candidate_table(best_so_far(run, arguments.top), run.metric_name)}')
    front = asked.front if asked is not None else None
    if front is not None:
        with contextlib.suppress(LookupError):  # nothing has been measured yet
            members = pareto_front(frame, front)
            print(f'\nPareto front of score against {front}, cheapest first:')
            print(candidate_table(members, run.metric_name))
    _print_lessons(run)
    _print_what_next(run)


def _print_lessons(run: Run) -> None:
    """What the trained ones have taught."""
    lessons = run.lessons()
    if lessons is None:
        return
    print(f'\n{lessons.sentence}')
    if lessons.warning:
        print(lessons.warning)
    if len(lessons.weights):
        print(f'\nWhat counted on this space:\n{weights_text(lessons)}')
    if (lessons.choices.reason != 'score').any():
        print(f'\nWhat was trained, in that order:\n{choices_text(lessons.choices, run.metric_name)}')


def _stored_options(folder: Path) -> SearchOptions | None:
    with contextlib.suppress(OSError, ValueError):  # of a script, of another user, or damaged
        return Settings.read(folder).options
    return None


def _options_text(search_options: SearchOptions | None) -> str:
    """The options of a search that matter to a reader: the main ones, and what differs from the defaults."""
    if search_options is None:
        return 'by a script of your own'
    main = ('space' if search_options.network is None else 'network', 'data', 'score', 'candidates', 'top_k')
    values = search_options.to_mapping()
    others = [option.name for option in options() if values[option.name] != option.default and option.name not in main]
    return ', '.join(f'{name} {values[name]}' for name in (*main, *others))


def _print_what_next(run: Run) -> None:
    name = run.folder
    print('\nGo on:')
    print(f'  nni-knas report {name}')
    print(f'  nni-knas export {name} --to FOLDER')
    if run.state.stopped:
        print(f'  {run.how_to_resume()}')
    print(f'  nni_knas.open_run({str(name)!r})  # in Python')


def resume_run(arguments: argparse.Namespace) -> None:
    """Take up a run that was stopped or killed."""
    folder = run_folder(arguments.run, arguments.directory)
    check_port(arguments.port)
    check_idle(record_path(folder))
    config = stored_config(folder)
    if config is not None:
        if arguments.host is not None:
            config.options.host = arguments.host
        search(config, arguments.port, folder.name, arguments.watch)
    elif _is_of_tuner(folder):
        _resume_by_nnictl(folder, arguments.port, arguments.host or Settings.read(folder).options.host)
    else:
        raise ValueError(
            f'the run {folder.name} is of a script of your own: call experiment.resume() there, with '
            'the same space, evaluator and strategy'
        )


def _is_of_tuner(folder: Path) -> bool:
    """Whether it is a run of the tuner, which NNI can resume by itself."""
    return _nni_config(folder).get('experimentType') == 'hpo'


def _nni_config(folder: Path) -> dict[str, Any]:
    """The configuration as NNI's manager keeps it; empty where there was no manager."""
    try:
        return get_stopped_experiment_config_json(folder.name, str(folder.parent)) or {}
    except (sqlite3.Error, TypeError):
        return {}


def _code_directories(folder: Path) -> list[str]:
    """The folders that the modules of a run may be in: the one that it ran in, and this one."""
    directory = _nni_config(folder).get('trialCodeDirectory')
    return [*([directory] if directory else []), str(Path.cwd())]


def _resume_by_nnictl(folder: Path, port: int | None, host: str | None) -> None:
    if host is not None:
        check_host(host)
    before = known_port(folder.name)
    end_leftovers(folder)
    command = [
        sys.executable,
        '-m',
        'nni_knas.nnictl',
        'resume',
        folder.name,
        '--port',
        str(free_port(port, before)),
        '--experiment_dir',
        str(folder.parent),
    ]
    with listening_on(host):
        ended = subprocess.run(command)
    if ended.returncode:
        raise RuntimeError(f'nnictl could not resume the experiment {folder.name}')


def register_tuner(arguments: argparse.Namespace) -> None:
    """Make the tuner known to ``nnictl``."""
    algo_reg(argparse.Namespace(meta_path=str(meta_file())))


def export_network(arguments: argparse.Namespace) -> None:
    """Write the network of a candidate in files, and say where."""
    run = Run(run_folder(arguments.run, arguments.directory))
    for directory in _code_directories(run.folder):
        if directory not in sys.path:
            sys.path.append(directory)
    formats = [part.strip() for part in arguments.formats.split(',')]
    for name, path in run.export(arguments.to, formats, arguments.rank, untrained=arguments.untrained).items():
        print(f'{name}: {path}')
