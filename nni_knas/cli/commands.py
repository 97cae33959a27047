"""The commands and their options. They are known without what the commands import, so that help comes at once.

A command is the name of a module here and of the function in it that runs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nni_knas import __version__
from nni_knas.basics.names import AGGREGATES, BENCHMARKS, DATA_HELP, FORMATS, SCORES, SEARCHES
from nni_knas.bridge.registry import known_experiments
from nni_knas.cli.parser import Parser, completed_by, whole_number
from nni_knas.config import Option, options

__all__ = ['build_parser']


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog='nni-knas',
        description='Training-free neural architecture search for NNI: score networks by their gradients '
        'at initialisation, and train only the best few.',
    )
    parser.add_argument('--version', action='version', version=f'nni-knas {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')

    search_parser = commands.add_parser(
        'search',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='search a space: score many candidates, train the best few',
        description='Draw candidates from a model space, score each without training (coarse stage), train the best few\n'
        'with NNI on this machine (fine stage), and print the ranking. The web portal is on while it runs.',
        epilog='examples:\n'
        '  nni-knas search                                        NAS-Bench-201 on digits\n'
        '  nni-knas search --data folder:photos --epochs 10       your own images, one folder a class\n'
        '  nni-knas search --explorer evolution --candidates 1000 --top-k 5\n'
        '  nni-knas search --space mymodels:MySpace --space-args \'{"width": 32}\' --data mydata:load\n'
        '  nni-knas search --config search.yml --top-k 5          all from a file, but for what is given here\n',
    )
    _add_options(search_parser, [option.section for option in options()])
    run = search_parser.add_argument_group('the run')
    run.add_argument(
        '--config',
        type=Path,
        metavar='FILE',
        help="a YAML file with these options and NNI's own, other training services among them; see docs/config.md",
    )
    run.add_argument(
        '--concurrency', type=whole_number, metavar='N', help='trials at the same time (default: 2, with a GPU 1)'
    )
    run.add_argument(
        '--port', type=whole_number, help='of the web portal (default: 8080, or a free one where that is taken)'
    )
    run.add_argument(
        '--directory', type=Path, metavar='DIR', help="where runs are kept (default: NNI's own, ~/nni-experiments)"
    )
    run.add_argument(
        '--resume', metavar='ID', help='take up a run that was interrupted, with its own options but for those given here'
    )
    _add_watch(run)
    search_parser.set_defaults(command='start.run')

    score = commands.add_parser(
        'score',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='score given architectures, or a random sample of a space',
        description='Score architectures of a space without training them, and print them best first.',
        epilog='examples:\n'
        '  nni-knas score --samples 20                            20 random architectures of NAS-Bench-201\n'
        '  nni-knas score --score mgm-sampled --csv scores.csv\n'
        '  nni-knas score --architectures mine.json               a list of NNI samples, or one a line\n',
    )
    _add_options(score, ['space and data', 'scoring'])
    which = score.add_mutually_exclusive_group()
    which.add_argument(
        '--samples', type=whole_number, default=10, metavar='N', help='how many random architectures (default: %(default)s)'
    )
    which.add_argument(
        '--architectures',
        type=Path,
        metavar='FILE',
        help='JSON file of NNI samples (architecture dicts): a list, or one a line',
    )
    score.add_argument('--csv', type=Path, metavar='FILE', help='write the table to a file, too')
    score.add_argument(
        '--panel',
        action='store_true',
        help='give the panel of statistics, too: below each architecture, and in the file a column each',
    )
    _add_json(score)
    score.set_defaults(command='score.run')

    _add_runs(commands)
    _add_reports(commands)
    _add_benchmark(commands)

    schema_parser = commands.add_parser(
        'schema',
        help='print the JSON Schema of configuration files',
        description='Print the JSON Schema of configuration files (nni-knas search '
        '--config), with which editors complete and check them.',
    )
    schema_parser.add_argument('--markdown', action='store_true', help='as tables for people')
    schema_parser.set_defaults(command='schema.run')

    doctor = commands.add_parser(
        'doctor',
        help='say whether this installation can do what it should',
        description='Say in a line each whether what searches need is there and works, and what to do where it does not.\n'
        'The exit status is 1 where something is wrong.',
    )
    doctor.set_defaults(command='doctor.run')
    return parser


# Options of searches.


def _add_options(parser: argparse.ArgumentParser, sections: Sequence[str]) -> None:
    """Add the options of these sections. Those that are not given are not set: they may stand in a file."""
    groups = {section: parser.add_argument_group(section) for section in dict.fromkeys(sections)}
    for option in options():
        if option.section in groups:
            _add_option(groups[option.section], option)
    groups['space and data'].add_argument(
        '--search-space', type=Path, metavar='FILE', help="NNI's search space, JSON or YAML; goes with --network"
    )


def _add_option(group: Any, option: Option) -> None:
    default = '' if option.default is None or option.kind in (bool, dict) else f' (default: {option.default})'
    more: dict[str, Any] = {'default': argparse.SUPPRESS, 'help': option.help.replace('%', '%%') + default}
    if option.kind is bool:
        more['action'] = argparse.BooleanOptionalAction
    elif option.choices:
        more['metavar'] = f'{{{",".join(option.choices)}}}'
    else:
        metavar = {dict: 'JSON', str: None}.get(option.kind, 'N')
        more['metavar'] = option.metavar or metavar
    action = group.add_argument(f'--{option.name.replace("_", "-")}', **more)
    if option.choices:
        completed_by(action, lambda: option.choices or ())


# Commands on runs.


def _add_runs(commands: Any) -> None:
    """Add the commands to the command line's."""
    listing = commands.add_parser('list', help='list the runs', description='List the runs, the newest last.')
    _add_directory(listing)
    _add_json(listing)
    listing.set_defaults(command='listing.list_runs')

    show = commands.add_parser(
        'show', help='show a run: what was searched, its ranking, its failures', description='Show a run, finished or not.'
    )
    _add_run(show)
    show.add_argument(
        '--top', type=whole_number, default=10, metavar='N', help='how many of the best to show (default: %(default)s)'
    )
    _add_watch(show)
    _add_json(show)
    show.set_defaults(command='runs.show_run')

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
    resume.add_argument('--host', metavar='ADDRESS', help='of the web portal, as in nni-knas search (default: as it began)')
    _add_watch(resume)
    resume.set_defaults(command='runs.resume_run')

    register = commands.add_parser(
        'register',
        help='make the tuner KNAS known to nnictl',
        description='Make the tuner KNAS known to nnictl, once in an environment: '
        'nnictl algo register, with the file that comes with the package.',
    )
    register.set_defaults(command='runs.register_tuner')

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
    export.set_defaults(command='runs.export_network')


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', action='store_true', help='print JSON for other programs, and nothing else, on stdout')


def _add_watch(parser: Any) -> None:
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
    completed_by(parser.add_argument('run', metavar='RUN', help="NNI's id of the run, or its folder"), known_experiments)
    _add_directory(parser)


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--directory', type=Path, metavar='DIR', help='look for runs here, too')


# Pages.


def _add_reports(commands: Any) -> None:
    """Add the commands to the command line's."""
    report = commands.add_parser(
        'report',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='a run as one HTML page, and as CSV',
        description='Write a run, running, finished or killed, as one HTML page that needs no network to be opened, and\n'
        'the table of its candidates as CSV beside it.',
        epilog='examples:\n'
        "  nni-knas report k3vn8qyz                               report.html and report.csv in the run's folder\n"
        '  nni-knas report k3vn8qyz --to pages/digits.html        pages/digits.html and pages/digits.csv\n',
    )
    _add_run(report)
    _add_page_options(report, "report.html in the run's folder")
    report.add_argument(
        '--trust',
        action='store_true',
        help='measure costs and draw the network first, of a run that was interrupted or is of an earlier version; '
        'this executes what its networks are made of',
    )
    report.set_defaults(command='report.write_run_report')

    compare = commands.add_parser(
        'compare',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='several runs side by side, as one HTML page',
        description='Write two or more runs side by side as one HTML page that needs no network to be opened.',
        epilog='examples:\n  nni-knas compare k3vn8qyz 0z1ykqj6                     comparison.html here\n',
    )
    runs = compare.add_argument('runs', metavar='RUN', nargs='+', help="NNI's ids of the runs, or their folders")
    completed_by(runs, known_experiments)
    _add_directory(compare)
    _add_page_options(compare, 'comparison.html here')
    compare.set_defaults(command='report.write_runs_comparison')


def _add_page_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument('--to', type=Path, metavar='FILE', help=f'where to write (default: {default})')
    parser.add_argument('--open', action='store_true', help='show it in the browser')


# Benchmarks.


def _add_benchmark(commands: Any) -> None:
    """Add the command to the subparsers of ``nni-knas``."""
    parser = commands.add_parser(
        'benchmark',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help='how well scores rank the architectures of a tabular benchmark',
        description='Score random architectures of a benchmark and compare the scores with the accuracies in its table:\n'
        'rank correlations, the best architecture among the top of each ranking, and what each score costs. Of several\n'
        'benchmarks: one table at the end, with the mean and the worst of each score. What was scored is kept, and not\n'
        'scored again.',
        epilog='examples:\n'
        '  nni-knas benchmark --benchmark nats-tss --table NATS-tss-v1_0-3ffb9-simple --data cifar10\n'
        '  nni-knas benchmark --benchmark autoformer-digits --scores mgm,mgm-sampled --seeds 3\n'
        '  nni-knas benchmark --benchmark all --tables tables --data folder:cifar10 --text text:glue/RTE\n'
        "  nni-knas benchmark --protocol knas --table tss.csv --data folder:cifar10    the paper's own search\n"
        '  nni-knas benchmark --protocol search --benchmark all --tables tables --text text:glue/RTE    the learner\n',
    )
    _add_benchmarks_and_data(parser)
    _add_scoring(parser)
    _add_searches(parser)
    parser.add_argument(
        '--output',
        type=Path,
        metavar='DIR',
        help='where tables, plots and the cache of scores go (default: nni-knas-benchmark/BENCHMARK; of several a folder '
        'each below nni-knas-benchmark)',
    )
    _add_json(parser)
    parser.set_defaults(command='benchmark.run')


def _add_benchmarks_and_data(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group('benchmark and data')
    what.add_argument(
        '--benchmark',
        default='nats-tss',
        metavar='NAMES',
        help=f'{", ".join(BENCHMARKS)}, or yours as module:function; several with commas, or all whose tables lie in '
        '--tables, for one table of all of them (default: %(default)s)',
    )
    what.add_argument(
        '--table',
        metavar='PATH',
        help='the table of trained results, where the benchmark has none of its own; for nats-tss a CSV, a '
        "file or folder of NATS-Bench, NNI's database, or nni for the database where NNI keeps it",
    )
    what.add_argument(
        '--tables',
        type=Path,
        metavar='FOLDER',
        help='the folder where tables lie under their usual names, such as nb101.csv, in the place of --table; '
        'benchmarks whose table is not there are left out',
    )
    what.add_argument('--metric', metavar='NAMES', help='columns of the table, with commas (default: all final accuracies)')
    what.add_argument(
        '--data',
        help=f"what to score on: {DATA_HELP} (default: the benchmark's, or digits; of several cifar10, the same for all)",
    )
    what.add_argument(
        '--text', metavar='DATA', help='what benchmarks of texts are scored on: text:FOLDER, text:FOLDER@ENCODER, or yours'
    )
    what.add_argument(
        '--image-size',
        type=whole_number,
        metavar='PIXELS',
        help="images are resized to this (default: the benchmark's, or 32)",
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group('scoring')
    how.add_argument(
        '--scores',
        metavar='NAMES',
        help=f'with commas, of {", ".join((*SCORES, *AGGREGATES))}, and panel for all statistics (default: all of these '
        'scores; with --protocol search the recommended)',
    )
    how.add_argument(
        '--architectures',
        type=whole_number,
        metavar='N',
        help='how many random architectures of a benchmark (default: 1000, of each of several 300)',
    )
    how.add_argument(
        '--sample-seed', type=whole_number, default=0, metavar='SEED', help='of their draw (default: %(default)s)'
    )
    how.add_argument(
        '--seeds',
        default='1',
        metavar='SEEDS',
        help='of the minibatch and the initial weights: how many, from 0 on, or which, with commas (default: %(default)s)',
    )
    how.add_argument(
        '--batch-size', type=whole_number, default=16, metavar='N', help='images to score on (default: %(default)s)'
    )
    how.add_argument(
        '--normalization',
        choices=('sample', 'batch'),
        help="whose statistics a BatchNorm uses while scoring (default: the kernel's)",
    )
    how.add_argument('--device', help='cpu, cuda or cuda:N (default: cuda where there is one)')
    how.add_argument(
        '--resamples', type=whole_number, default=1000, metavar='N', help='of the bootstrap (default: %(default)s)'
    )
    how.add_argument(
        '--cost-architectures',
        type=whole_number,
        metavar='N',
        help='on how many each score is timed by itself; 0 leaves it out (default: 8, of several 0)',
    )
    how.add_argument(
        '--processes',
        type=whole_number,
        default=1,
        metavar='N',
        help='that score at the same time, with one thread each (default: %(default)s)',
    )
    how.add_argument('--kendall', action='store_true', help="of several benchmarks print Kendall's tau-b, too")


def _add_searches(parser: argparse.ArgumentParser) -> None:
    search = parser.add_argument_group('searches on tables')
    search.add_argument(
        '--protocol',
        choices=('correlation', 'knas', 'search'),
        default='correlation',
        help='knas: the search of the paper, which draws candidates, takes the top k by score, and lets the fine stage '
        'choose by the table; search: how well the learner, and others, choose what to train (default: %(default)s)',
    )
    search.add_argument(
        '--candidates', type=whole_number, metavar='N', help='in each repeat (default: 300, with search 1000 if there are)'
    )
    search.add_argument('--repeats', type=whole_number, metavar='N', help='(default: 9, with search 50)')
    search.add_argument('--top-k', metavar='K', help='numbers with commas (default: 20,40, with search 5,10,20,40)')
    search.add_argument(
        '--searches',
        metavar='NAMES',
        help=f'with search, with commas, of {", ".join(SEARCHES)} (default: all); the tops by the recommended score, by '
        'each statistic of the panel and by --scores stand beside them',
    )
    search.add_argument(
        '--concurrency',
        type=whole_number,
        default=1,
        metavar='N',
        help='with search, trainings that go on at the same time (default: %(default)s)',
    )
