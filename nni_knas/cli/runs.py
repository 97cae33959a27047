"""The commands on runs: ``nni-knas list``, ``show``, ``resume`` and ``export``; and ``nni-knas register``."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from nni.experiment.launcher import get_stopped_experiment_config_json
from nni.tools.nnictl.algo_management import algo_reg
from nni.tools.nnictl.config_utils import Experiments
from nni.tools.nnictl.constants import NNI_HOME_DIR

from nni_knas.basics.texts import duration, table
from nni_knas.bridge.experiment import known_port
from nni_knas.bridge.leftovers import end_leftovers
from nni_knas.cli.parser import whole_number
from nni_knas.cli.search import check_port, free_port, print_energy, run_folder, search, stored_config
from nni_knas.cli.watch import best_so_far, candidate_table, print_while_running
from nni_knas.config import SearchOptions, Settings, options
from nni_knas.networks import FORMATS
from nni_knas.record import Status, record_path
from nni_knas.runs import Run, check_idle, pareto_front
from nni_knas.tuner import meta_file

__all__ = ['add_commands', 'add_watch']

_WIDEST = 60  # a status in the list


def add_commands(commands: Any) -> None:
    """Add the commands to the command line's."""
    listing = commands.add_parser('list', help='list the runs', description='List the runs, the newest last.')
    _add_directory(listing)
    listing.set_defaults(command=_list_runs)

    show = commands.add_parser(
        'show', help='show a run: what was searched, its ranking, its failures', description='Show a run, finished or not.'
    )
    _add_run(show)
    show.add_argument(
        '--top', type=whole_number, default=10, metavar='N', help='how many of the best to show (default: %(default)s)'
    )
    add_watch(show)
    show.set_defaults(command=_show_run)

    resume = commands.add_parser(
        'resume',
        help='take up a run that was interrupted',
        description='Take up a run that was interrupted, with the options that it began with. '
        'Nothing is scored or trained twice.',
    )
    _add_run(resume)
    resume.add_argument(
        '--port', type=whole_number, help='of the web portal (default: that which the run had, 8080, or a free one)'
    )
    add_watch(resume)
    resume.set_defaults(command=_resume_run)

    register = commands.add_parser(
        'register',
        help='make the tuner KNAS known to nnictl',
        description='Make the tuner KNAS known to nnictl, once in an environment: '
        'nnictl algo register, with the file that comes with the package.',
    )
    register.set_defaults(command=_register_tuner)

    export = commands.add_parser(
        'export',
        help='write the best network of a run to files',
        description='Write the best network of a run, or that of a rank, to files of their own.',
    )
    _add_run(export)
    export.add_argument('--to', type=Path, required=True, metavar='FOLDER', help='where to write')
    export.add_argument(
        '--formats',
        metavar='FORMATS',
        default='program,state-dict',
        help=f'of {", ".join(FORMATS)}, separated by commas (default: %(default)s)',
    )
    export.add_argument(
        '--rank', type=whole_number, metavar='N', help='the candidate of this rank by score (default: the best)'
    )
    export.add_argument('--untrained', action='store_true', help='a network without trained weights, too, with new ones')
    export.set_defaults(command=_export_network)


def add_watch(parser: Any) -> None:
    """Add the option ``--watch`` to a command: seconds, ``None`` where it is not given."""
    parser.add_argument(
        '--watch',
        type=_parse_seconds,
        nargs='?',
        const=5.0,
        metavar='SECONDS',
        help='print the ranking while the run goes on, every so often if it has changed (default: 5)',
    )


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is no time: it has to be a number of seconds above 0')
    return seconds


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('run', metavar='RUN', help="NNI's id of the run, or its folder")
    _add_directory(parser)


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--directory', type=Path, metavar='DIR', help='look for runs here, too')


class _Seen(NamedTuple):
    """A run as the list shows it."""

    run: Run
    entry: dict[str, Any]
    """What NNI's registry says of it; empty where it says nothing"""
    settings: Settings | None

    @property
    def options(self) -> SearchOptions | None:
        return self.settings.options if self.settings is not None else None


def _list_runs(arguments: argparse.Namespace) -> None:
    rows = []
    for folder in _run_folders(arguments.directory):
        with contextlib.suppress(sqlite3.Error):  # no table of candidates: a run that has not begun, or no run of KNAS
            rows.append(_table_row(_see_run(folder)))
    if not rows:
        print('There are no runs.')
        return
    print(
        table(
            ['run', 'name', 'status', 'started', 'scored', 'trained', 'best', 'folder'],
            sorted(rows, key=lambda row: row[3]),
            right={'scored', 'trained', 'best'},
        )
    )


def _run_folders(directory: Path | None) -> Iterator[Path]:
    """The folders of all runs: those that NNI knows, and those below NNI's home and ``directory``."""
    known = Experiments().get_all_experiments()
    folders = [Path(entry.get('logDir') or NNI_HOME_DIR) / name for name, entry in known.items()]
    for home in filter(None, (Path(NNI_HOME_DIR), directory)):
        folders += [path.parent.parent for path in sorted(home.expanduser().glob('*/knas/record.sqlite'))]
    links = {folder.resolve(): None for folder in folders if record_path(folder).exists()}
    yield from links


def _see_run(folder: Path) -> _Seen:
    settings = None
    with contextlib.suppress(OSError, ValueError):  # of a script, of another user, or damaged
        settings = Settings.read(folder)
    return _Seen(Run(folder), Experiments().get_all_experiments().get(folder.name, {}), settings)


def _table_row(seen: _Seen) -> list[str]:
    record = seen.run.record
    trained = seen.run.ranking(all=True).metric
    best = f'{trained.iloc[0]:.4f}' if len(trained) else ''
    return [
        seen.run.folder.name,
        _name_text(seen),
        _shortened(str(seen.run.state)),
        _start_time_text(seen),
        str(record.scored()),
        str(len(trained)),
        best,
        str(seen.run.folder),
    ]


def _name_text(seen: _Seen) -> str:
    """The name of a run; empty where it has none but NNI's id."""
    config = (seen.settings.config if seen.settings is not None else None) or {}
    name = seen.entry.get('experimentName') or config.get('experimentName') or seen.run.name
    return '' if name == seen.run.folder.name else str(name)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST else f'{text[: _WIDEST - 1]}…'


def _start_time_text(seen: _Seen) -> str:
    sessions, milliseconds = seen.run.sessions(), seen.entry.get('startTime')
    if sessions:
        seconds = sessions[0].started
    elif isinstance(milliseconds, (int, float)):
        seconds = milliseconds / 1000
    else:
        seconds = record_path(seen.run.folder).parent.stat().st_mtime
    return datetime.fromtimestamp(seconds).strftime('%Y-%m-%d %H:%M:%S')


def _show_run(arguments: argparse.Namespace) -> None:
    if arguments.top < 1:
        raise ValueError(f'--top is {arguments.top}: it has to be 1 or more')
    seen = _see_run(run_folder(arguments.run, arguments.directory))
    run = seen.run
    if arguments.watch is not None:
        print_while_running(run, arguments.watch, arguments.top)
        return
    frame = run.frame()
    name = _name_text(seen)
    print(f'Run {run.folder.name}{f" ({name})" if name else ""} in {run.folder}')
    print(f'Status: {run.state}; started {_start_time_text(seen)}')
    print(f'Searched: {_options_text(seen.options)}')
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
    front = seen.options.front if seen.options is not None else None
    if front is not None:
        with contextlib.suppress(LookupError):  # nothing has been measured yet
            members = pareto_front(frame, front)
            print(f'\nPareto front of score against {front}, cheapest first:')
            print(candidate_table(members, run.metric_name))
    _print_what_next(seen)


def _options_text(search_options: SearchOptions | None) -> str:
    """The options of a search that matter to a reader: the main ones, and what differs from the defaults."""
    if search_options is None:
        return 'by a script of your own'
    main = ('space' if search_options.network is None else 'network', 'data', 'score', 'candidates', 'top_k')
    values = search_options.to_mapping()
    others = [option.name for option in options() if values[option.name] != option.default and option.name not in main]
    return ', '.join(f'{name} {values[name]}' for name in (*main, *others))


def _print_what_next(seen: _Seen) -> None:
    name = seen.run.folder
    print('\nGo on:')
    print(f'  nni-knas report {name}')
    print(f'  nni-knas export {name} --to FOLDER')
    if seen.run.state.stopped:
        print(f'  {seen.run.how_to_resume()}')
    print(f'  nni_knas.open_run({str(name)!r})  # in Python')


def _resume_run(arguments: argparse.Namespace) -> None:
    folder = run_folder(arguments.run, arguments.directory)
    check_port(arguments.port)
    check_idle(record_path(folder))
    config = stored_config(folder)
    if config is not None:
        search(config, arguments.port, folder.name, arguments.watch)
    elif _is_of_tuner(folder):
        _resume_by_nnictl(folder, arguments.port)
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


def _resume_by_nnictl(folder: Path, port: int | None) -> None:
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
    if subprocess.run(command).returncode:
        raise RuntimeError(f'nnictl could not resume the experiment {folder.name}')


def _register_tuner(arguments: argparse.Namespace) -> None:
    algo_reg(argparse.Namespace(meta_path=str(meta_file())))


def _export_network(arguments: argparse.Namespace) -> None:
    run = Run(run_folder(arguments.run, arguments.directory))
    for directory in _code_directories(run.folder):
        if directory not in sys.path:
            sys.path.append(directory)
    formats = [part.strip() for part in arguments.formats.split(',')]
    for name, path in run.export(arguments.to, formats, arguments.rank, untrained=arguments.untrained).items():
        print(f'{name}: {path}')
