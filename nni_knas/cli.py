"""The command line: ``nni-knas search``, ``nni-knas score`` and ``nni-knas benchmark``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import nni
import nni.nas.hub.pytorch as hub
import nni.nas.strategy as strategies
import pandas as pd
import torch
from nni.mutable import Sample
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import ExecutableModelSpace, SimplifiedModelSpace
from tqdm import tqdm

from nni_knas import KNAS, GradientKernelEvaluator, Run, __version__, open_run
from nni_knas.benchmark.command import add_command as add_benchmark
from nni_knas.candidates import encode_sample, random_models
from nni_knas.data import DATA_HELP, Data, load_data, load_object
from nni_knas.engine import Scorer
from nni_knas.experiment import experiment_folder
from nni_knas.portal import PORTAL_PAGE
from nni_knas.scores import RECOMMENDED, score_names
from nni_knas.strategy import PLACEMENTS, Effort

__all__ = ['main']

HUB = sorted(name for name, value in vars(hub).items() if isinstance(value, type) and issubclass(value, ModelSpace))
EXPLORERS: dict[str, Callable[[int], Any]] = {
    'random': lambda seed: strategies.Random(seed=seed),
    'grid': lambda seed: strategies.GridSearch(seed=seed),
    'evolution': lambda seed: strategies.RegularizedEvolution(seed=seed, population_size=50, sample_size=10),
    'tpe': lambda seed: strategies.TPE(seed=seed),
    'rl': lambda seed: strategies.PolicyBasedRL(),
}


class UsageError(Exception):
    """A mistake of the user's; the message is shown without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        Exit status: 0 when all went well, 1 when the run failed, 2 for a mistake in the arguments.
    """
    options = _parser().parse_args(arguments)
    _silence()
    try:
        options.command(options)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='nni-knas', description='Training-free neural architecture search for NNI: score networks by their gradients '
        'at initialisation, and train only the best few.')
    parser.add_argument('--version', action='version', version=f'nni-knas {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')

    search = commands.add_parser(
        'search', formatter_class=argparse.RawDescriptionHelpFormatter,
        help='search a space: score many candidates, train the best few',
        description='Draw candidates from a model space, score each without training (coarse stage), train the best few\n'
                    'with NNI on this machine (fine stage), and print the ranking. The web portal is on while it runs.',
        epilog='examples:\n'
               '  nni-knas search                                        NAS-Bench-201 on digits\n'
               '  nni-knas search --data folder:photos --epochs 10       your own images, one folder a class\n'
               '  nni-knas search --explorer evolution --candidates 1000 --top-k 5\n'
               '  nni-knas search --space mymodels:MySpace --space-args \'{"width": 32}\' --data mydata:load\n')
    _add_space_options(search)
    _add_kernel_options(search)
    coarse = search.add_argument_group('coarse stage')
    coarse.add_argument('--candidates', type=int, default=300, metavar='N', help='how many to score (default: %(default)s)')
    coarse.add_argument('--explorer', choices=EXPLORERS, default='random',
                        help='how the space is explored (default: %(default)s)')
    coarse.add_argument('--placement', choices=PLACEMENTS, default='process',
                        help='where candidates are scored: in this process, in worker processes, in one for each GPU, or in '
                             'NNI\'s trials (default: %(default)s)')
    coarse.add_argument('--workers', type=int, metavar='N', help='score in N worker processes (default for --placement '
                                                                'workers: one a core)')
    coarse.add_argument('--effort', choices=get_args(Effort), default='adaptive',
                        help='score all quickly and the best in full, or all in full (default: %(default)s)')
    coarse.add_argument('--merge-identical', action='store_true',
                        help='score candidates that compute the same once')
    fine = search.add_argument_group('fine stage')
    fine.add_argument('--top-k', type=int, default=3, metavar='K',
                      help='how many of the best to train; 0 stops after scoring (default: %(default)s)')
    fine.add_argument('--epochs', type=int, default=4, help='training epochs for each (default: %(default)s)')
    fine.add_argument('--learning-rate', type=float, default=0.001, help='of Adam (default: %(default)s)')
    fine.add_argument('--train-batch', type=int, default=16, metavar='N',
                      help='batch size of training (default: %(default)s)')
    fine.add_argument('--concurrency', type=int, metavar='N',
                      help='trials at the same time (default: 2, with a GPU 1)')
    run = search.add_argument_group('the run')
    run.add_argument('--port', type=int, help='of the web portal (default: 8080, or a free one where that is taken)')
    run.add_argument('--directory', type=Path, metavar='DIR',
                     help='where runs are kept (default: NNI\'s own, ~/nni-experiments)')
    run.add_argument('--resume', metavar='ID', help='take up a run that was interrupted; give the same options as then')
    search.set_defaults(command=_search)

    score = commands.add_parser(
        'score', formatter_class=argparse.RawDescriptionHelpFormatter,
        help='score given architectures, or a random sample of a space',
        description='Score architectures of a space without training them, and print them best first.',
        epilog='examples:\n'
               '  nni-knas score --samples 20                            20 random architectures of NAS-Bench-201\n'
               '  nni-knas score --score mgm-sampled --csv scores.csv\n'
               '  nni-knas score --architectures mine.json               a list of NNI samples, or one a line\n')
    _add_space_options(score)
    _add_kernel_options(score)
    which = score.add_mutually_exclusive_group()
    which.add_argument('--samples', type=int, default=10, metavar='N',
                       help='how many random architectures (default: %(default)s)')
    which.add_argument('--architectures', type=Path, metavar='FILE',
                       help='JSON file of NNI samples (architecture dicts): a list, or one a line')
    score.add_argument('--csv', type=Path, metavar='FILE', help='write the table to a file, too')
    score.set_defaults(command=_score)

    add_benchmark(commands)
    return parser


def _add_space_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('space and data')
    group.add_argument('--space', default='NasBench201',
                       help=f'a space of NNI\'s hub ({", ".join(HUB)}) or your own as module:Class (default: %(default)s)')
    group.add_argument('--space-args', default='{}', metavar='JSON',
                       help='arguments of the space, a JSON object; the number of classes is passed as num_labels, where '
                            'the space takes it')
    group.add_argument('--data', default='digits', help=f'{DATA_HELP} (default: %(default)s)')
    group.add_argument('--image-size', type=int, default=32, metavar='PIXELS', help='images are resized to this '
                                                                                    '(default: %(default)s)')
    group.add_argument('--images', type=int, metavar='N', help='use at most N images for training, and for validation')


def _add_kernel_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('scoring')
    group.add_argument('--score', choices=score_names(), default=RECOMMENDED, help='(default: %(default)s)')
    group.add_argument('--batch-size', type=int, default=16, metavar='N', help='images to score on (default: %(default)s)')
    group.add_argument('--normalization', choices=('sample', 'batch'), default='sample',
                       help='whose statistics a BatchNorm uses while scoring (default: %(default)s)')
    group.add_argument('--seed', type=int, default=0, help='of the images, the initial weights and the exploration '
                                                           '(default: %(default)s)')
    group.add_argument('--device', help='cpu, cuda or cuda:N (default: cuda where there is one)')


def _search(options: argparse.Namespace) -> None:
    for name in ('epochs', 'train_batch', 'concurrency', 'images'):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {value}: it has to be 1 or more')
    data, space, kernel = _prepare(options)
    strategy = KNAS(kernel, options.candidates, options.top_k, _explorer(options), placement=options.placement,
                    workers=options.workers, effort=options.effort, merge_identical=options.merge_identical)
    experiment = NasExperiment(space, _training(options, data), strategy, _config(options), id=options.resume)
    if options.resume and not experiment.has_checkpoint():
        raise UsageError(f'there is no run {options.resume!r} to resume')
    port = _port(options.port)
    print(f'Run {experiment.id} in {experiment_folder(experiment)}')
    print(f'Web portal while it runs: http://127.0.0.1:{port} (trials with their scores: '
          f'http://127.0.0.1:{port}/logs/{PORTAL_PAGE})', flush=True)
    start = time.monotonic()
    try:
        (experiment.resume if options.resume else experiment.run)(port)
    finally:
        experiment.stop()
    _report(open_run(experiment_folder(experiment)), time.monotonic() - start)


def _report(run: Run, seconds: float) -> None:
    scores, trained = run.scores(), run.ranking()
    shown = trained if len(trained) else scores.head(10)
    print()
    print(f'{"rank":>4}  {"score":>10}  {"accuracy":>8}  architecture')
    for rank, row in shown.iterrows():
        accuracy = '' if pd.isna(row.metric) else f'{row.metric:.4f}'
        score = '' if pd.isna(row.score) else f'{row.score:.4g}'
        print(f'{rank:>4}  {score:>10}  {accuracy:>8}  {_one_line(row.architecture)}')
    failed, screened = (int((scores.status == status).sum()) for status in ('failed', 'screened'))
    notes = (f', {len(scores) - screened} of them in full' if screened else '') + (f', {failed} failed' if failed else '')
    print(f'\nScored {len(scores)} candidates in {_duration(run.record.scoring_seconds())}{notes}; trained {len(trained)} '
          f'in {_duration(scores.training_seconds.sum())} of trials; {_duration(seconds)} in all.')
    if len(trained):
        print(f'Best: accuracy {trained.metric.iloc[0]:.4f}, rank {trained.index[0]} of {len(scores)} by score.')
    print(f'Again from Python: nni_knas.open_run({str(run.folder)!r})')


def _score(options: argparse.Namespace) -> None:
    if options.samples < 1:
        raise UsageError(f'--samples is {options.samples}: it has to be 1 or more')
    _, space, kernel = _prepare(options)
    candidates = SimplifiedModelSpace.from_model(space)
    scorer = Scorer(kernel, candidates)
    rows = []
    for model in tqdm(list(_chosen(options, candidates)), desc='Scoring', unit='candidate', disable=None):
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
    if options.csv is not None:
        table.to_csv(options.csv, index=False)
    print(f'{"score":>10}  {"parameters":>10}  {"seconds":>7}  architecture')
    for row in table.itertuples():
        print(f'{row.score:>10.4g}  {row.parameters:>10}  {row.seconds:>7.2f}  {_one_line(json.loads(row.architecture))}'
              + (f'  ({row.reason})' if row.reason else ''))


def _chosen(options: argparse.Namespace, space: ExecutableModelSpace) -> list[ExecutableModelSpace]:
    """The models to score: those of the file, or different random ones."""
    if options.architectures is not None:
        return [_frozen(space, sample) for sample in _read_samples(options.architectures)]
    return random_models(space, options.samples, options.seed)


def _frozen(space: ExecutableModelSpace, sample: Sample) -> ExecutableModelSpace:
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


def _prepare(options: argparse.Namespace) -> tuple[Data, ModelSpace, GradientKernelEvaluator]:
    data = load_data(options.data, size=options.image_size, limit=options.images)
    kernel = GradientKernelEvaluator(data.train, options.score, options.batch_size, options.seed, options.normalization,
                                     device=options.device)
    return data, _space(options, data.classes), kernel


def _space(options: argparse.Namespace, classes: int) -> ModelSpace:
    names = {name.lower(): name for name in HUB}
    if ':' in options.space:
        factory = load_object(options.space)
    elif options.space.lower() in names:
        factory = getattr(hub, names[options.space.lower()])
    else:
        raise UsageError(f'unknown space {options.space!r}: it is one of {", ".join(HUB)}, or module:Class')
    try:
        arguments = json.loads(options.space_args)
        assert isinstance(arguments, dict)
    except (json.JSONDecodeError, AssertionError):
        raise UsageError(f'--space-args {options.space_args!r} is no JSON object such as {{"width": 16}}') from None
    try:
        try:
            space = factory(**{'num_labels': classes, **arguments})
        except TypeError as error:
            if 'num_labels' not in str(error):
                raise
            space = factory(**arguments)
    except Exception as error:
        raise UsageError(f'the space {options.space} cannot be built, see --space-args: {error}') from error
    if not isinstance(space, ModelSpace):
        raise UsageError(f'{options.space} is no NNI model space (nni.nas.nn.pytorch.ModelSpace)')
    return space


def _explorer(options: argparse.Namespace) -> Any:
    try:
        return EXPLORERS[options.explorer](options.seed)
    except ImportError:
        raise UsageError('the explorer rl needs packages that are not here: pip install "nni-knas[rl]"') from None


def _training(options: argparse.Namespace, data: Data) -> Any:
    from nni.nas.evaluator.pytorch import Classification, DataLoader

    return Classification(
        learning_rate=options.learning_rate, num_classes=data.classes, max_epochs=options.epochs,
        train_dataloaders=DataLoader(data.train, batch_size=options.train_batch, shuffle=True),
        val_dataloaders=DataLoader(data.validation, batch_size=256),
        accelerator='gpu' if torch.cuda.is_available() else 'cpu', devices=1,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, logger=False)


def _config(options: argparse.Namespace) -> NasExperimentConfig:
    config = NasExperimentConfig('ts', 'simplified', 'local')
    config.experiment_name = 'nni-knas search'
    gpu = torch.cuda.is_available()
    config.trial_concurrency = options.concurrency or (1 if gpu else 2)
    if gpu:
        config.trial_gpu_number = 1
        config.training_service.use_active_gpu = True
    if options.directory is not None:
        config.experiment_working_directory = str(options.directory.expanduser().absolute())
    # The trials share the cores. (This process has its threads already.)
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // config.trial_concurrency)))
    return config


def _port(wanted: int | None) -> int:
    """The port asked for, or 8080, or a free one where that is taken."""
    for port in (wanted or 8080, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('', port))
                return probe.getsockname()[1]
            except (OSError, OverflowError) as error:
                if wanted is not None:
                    raise UsageError(f'port {wanted} cannot be used: {error}') from error
    raise UsageError('there is no free port')


def _one_line(sample: Sample) -> str:
    return json.dumps(sample, default=str).replace('"', '')


def _duration(seconds: float) -> str:
    return f'{seconds:.1f} s' if seconds < 60 else f'{int(seconds // 60)} min {int(seconds % 60)} s'


def _silence() -> None:
    """Keep the noise of the libraries from the user; NNI's own log is in the run's folder as ever."""
    nni.silence_stdout()
    warnings.simplefilter('ignore')
    warnings.filterwarnings('default', module='nni_knas')
    for name in ('pytorch_lightning', 'lightning', 'lightning.pytorch', 'lightning_utilities'):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *others, **more: print(f'nni-knas: {message}', file=sys.stderr)  # type: ignore


if __name__ == '__main__':
    sys.exit(main())
