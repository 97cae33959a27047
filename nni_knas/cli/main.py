"""The command line: ``nni-knas search``, ``score``, ``benchmark``, ``schema``, and the commands on runs."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nni
import pandas as pd
from nni.mutable import Sample
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from tqdm import tqdm

from nni_knas import __version__
from nni_knas.basics.texts import one_line
from nni_knas.cli.benchmark import add_command as add_benchmark
from nni_knas.cli.parser import Parser, whole_number
from nni_knas.cli.report import add_report_commands
from nni_knas.cli.runs import add_commands, add_watch
from nni_knas.cli.search import run_folder, search, stored_config
from nni_knas.config import (
    Option,
    SearchConfig,
    SearchOptions,
    absolute_data,
    default_config,
    load_config,
    markdown,
    options,
    read_search_space,
    schema,
)
from nni_knas.engine import Scorer
from nni_knas.networks import encode_sample, random_models

__all__ = ['main']


class UsageError(Exception):
    """A mistake of the user's; the message is shown without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        Exit status: 0 when all went well, 1 when the run failed, 2 for a mistake in the arguments.
    """
    parsed = _build_parser().parse_args(arguments)
    _silence_libraries()
    try:
        parsed.command(parsed)
    except (UsageError, ValueError, TypeError, LookupError, FileNotFoundError) as error:
        print(f'nni-knas: {error}', file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f'nni-knas: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('nni-knas: interrupted', file=sys.stderr)
        return 130
    return 0


def _build_parser() -> Parser:
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
    add_watch(run)
    search_parser.set_defaults(command=_run_search)

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
    score.set_defaults(command=_run_scoring)

    add_commands(commands)
    add_report_commands(commands)
    add_benchmark(commands)

    schema_parser = commands.add_parser(
        'schema',
        help='print the JSON Schema of configuration files',
        description='Print the JSON Schema of configuration files (nni-knas search '
        '--config), with which editors complete and check them.',
    )
    schema_parser.add_argument('--markdown', action='store_true', help='as tables for people')
    schema_parser.set_defaults(command=_print_schema)
    return parser


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
    group.add_argument(f'--{option.name.replace("_", "-")}', **more)


def _given_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, by name."""
    given = {option.name: getattr(parsed, option.name) for option in options() if hasattr(parsed, option.name)}
    for option in options():
        if option.kind is dict and option.name in given:
            given[option.name] = _json_object(given[option.name], option.name)
    if 'data' in given:
        given['data'] = absolute_data(given['data'], Path.cwd())
    return given


def _json_object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f'--{name.replace("_", "-")} {text!r} is no JSON object such as {{"width": 16}}')
    return value


def _run_search(parsed: argparse.Namespace) -> None:
    if parsed.concurrency is not None and parsed.concurrency < 1:
        raise UsageError(f'--concurrency is {parsed.concurrency}: it has to be 1 or more')
    search_options, search_space, config = _search_config(parsed)
    if parsed.search_space is not None:
        search_space = read_search_space(parsed.search_space)
    if parsed.concurrency is not None:
        config.trial_concurrency = parsed.concurrency
    if parsed.directory is not None:
        config.experiment_working_directory = str(parsed.directory.expanduser().absolute())
    search(
        SearchConfig(search_options, search_space, config),
        parsed.port,
        parsed.resume and Path(parsed.resume).name,
        parsed.watch,
    )


def _search_config(parsed: argparse.Namespace) -> SearchConfig:
    """What is to be done: from a file, from the run that is resumed, or from the command line alone."""
    given = _given_options(parsed)
    stored = _stored_search_config(parsed) if parsed.resume else None
    if parsed.config is not None:
        return load_config(parsed.config, given)
    if stored is not None:
        search_options = SearchOptions.from_mapping({**stored.options.to_mapping(), **given})
        return SearchConfig(search_options, stored.search_space, stored.config)
    return SearchConfig(SearchOptions.from_mapping(given), None, default_config())


def _stored_search_config(parsed: argparse.Namespace) -> SearchConfig:
    try:
        folder = run_folder(parsed.resume, parsed.directory)
    except FileNotFoundError:
        raise UsageError(f'there is no run {parsed.resume!r} to resume') from None
    stored = stored_config(folder)
    if stored is None:
        raise UsageError(
            f'the run {folder.name} is not of nni-knas search: nni-knas resume {folder.name} says how it goes on'
        )
    return stored


def _print_schema(parsed: argparse.Namespace) -> None:
    print(markdown() if parsed.markdown else json.dumps(schema(), indent=2) + '\n', end='')


def _run_scoring(parsed: argparse.Namespace) -> None:
    if parsed.samples < 1:
        raise UsageError(f'--samples is {parsed.samples}: it has to be 1 or more')
    score_options = SearchOptions.from_mapping(_given_options(parsed))
    search_space = read_search_space(parsed.search_space) if parsed.search_space is not None else None
    _find_modules_here()
    data = score_options.load_data()
    kernel = score_options.make_kernel(data)
    candidates = SimplifiedModelSpace.from_model(score_options.make_space(data.classes, search_space))
    scorer = Scorer(kernel, candidates)
    rows = []
    models = list(_chosen_models(parsed, candidates, score_options.seed))
    for model in tqdm(models, desc='Scoring', unit='candidate', disable=None):
        network = scorer.build(model.sample or {})
        parameters = sum(p.numel() for p in network.parameters())
        start = time.perf_counter()
        try:
            score, reason = kernel.score(network), ''
        except Exception as error:
            score, reason = float('nan'), str(error)
        rows.append((score, time.perf_counter() - start, parameters, reason, encode_sample(model.sample or {})))
    table = pd.DataFrame(rows, columns=['score', 'seconds', 'parameters', 'reason', 'architecture'])
    table = table.sort_values('score', ascending=False, kind='stable')
    if parsed.csv is not None:
        table.to_csv(parsed.csv, index=False)
    print(f'{"score":>10}  {"parameters":>10}  {"seconds":>7}  architecture')
    for row in table.itertuples():
        print(
            f'{row.score:>10.4g}  {row.parameters:>10}  {row.seconds:>7.2f}  {one_line(json.loads(row.architecture))}'
            + (f'  ({row.reason})' if row.reason else '')
        )


def _chosen_models(parsed: argparse.Namespace, space: ExecutableModelSpace, seed: int) -> list[ExecutableModelSpace]:
    """The models to score: those of the file, or different random ones."""
    if parsed.architectures is not None:
        return [_freeze(space, sample) for sample in _read_samples(parsed.architectures)]
    return random_models(space, parsed.samples, seed)


def _freeze(space: ExecutableModelSpace, sample: Sample) -> ExecutableModelSpace:
    try:
        return space.freeze(sample)
    except Exception as error:
        raise UsageError(f'{json.dumps(sample)} is no architecture of the space: {error}') from error


def _read_samples(path: Path) -> list[Sample]:
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}') from error
    try:
        samples = json.loads(text)
    except json.JSONDecodeError:
        try:
            samples = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise UsageError(f'{path} is neither a JSON list of architectures nor one a line: {error}') from error
    return [samples] if isinstance(samples, dict) else samples


def _find_modules_here() -> None:
    """Modules of the user's are found in the working directory, as with ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _silence_libraries() -> None:
    """Keep the noise of the libraries from the user; NNI's own log is in the run's folder as ever."""
    nni.silence_stdout()
    warnings.simplefilter('ignore')
    warnings.filterwarnings('default', module='nni_knas')
    for name in ('pytorch_lightning', 'lightning', 'lightning.pytorch', 'lightning_utilities'):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *others, **more: print(f'nni-knas: {message}', file=sys.stderr)  # type: ignore


if __name__ == '__main__':
    sys.exit(main())
