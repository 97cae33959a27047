"""Tables of the NATS-Bench topology space (NAS-Bench-201), from the files that users have."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nni.common.blob_utils import nni_cache_home
from tqdm import tqdm

from nni_knas.basics.extras import how_to_install
from nni_knas.benchmark.nats import index_of, string_of, to_sample, to_string
from nni_knas.gradients import first_line

__all__ = ['WHERE', 'load_nats_table']

WHERE = (
    'it is a CSV with the columns index or arch_str and accuracies, or NATS-tss-v1_0-3ffb9.pickle.pbz2 or the folder '
    "NATS-tss-v1_0-3ffb9-simple (both linked at https://github.com/D-X-Y/NATS-Bench), or NNI's database "
    'nasbench201-b2b60732.db (python -m nni.nas.benchmark.download nasbench201)'
)
"""Says where a table is to be had."""

CACHE = Path('~/.cache/nni-knas/tables').expanduser()
DATASETS = {'cifar10': 'cifar10', 'cifar100': 'cifar100', 'ImageNet16-120': 'imagenet16'}
EARLY_EPOCH = 20  # of the run over 200 epochs, by which the paper's fine stage chooses
SHORT_RUN = 12  # epochs of the benchmark's short run


def load_nats_table(source: str | Path | None) -> pd.DataFrame:
    """Trained accuracies of architectures of NAS-Bench-201.

    Parameters
    ----------
    source
        Path of one of

        - a CSV with a column ``index`` or ``arch_str`` (or both); its other numeric columns are the metrics;
        - ``NATS-tss-v1_0-3ffb9.pickle.pbz2``, or the folder ``NATS-tss-v1_0-3ffb9-simple`` (they need the package
          ``nats_bench``);
        - NNI's own database of NAS-Bench-201, or the word ``nni`` for the one where NNI keeps it.

    Returns
    -------
    pandas.DataFrame
        Indexed by architecture string; a column a metric, in percent. From the benchmark's own files, for each of
        ``cifar10``, ``cifar100`` and ``imagenet16`` and averaged over the training seeds: ``*_valid_acc`` and
        ``*_test_acc`` after 200 epochs, ``*_valid_acc_epoch12`` after the short run of 12, and the result after 20 of the
        200 epochs, ``*_valid_acc_epoch20`` (``*_valtest_acc_epoch20`` where only that of validation and test images
        together is kept). Validation on CIFAR-10 is that of the networks trained on half of the training images. Columns
        without any value are left out.

    Raises
    ------
    ValueError
        If there is no such table, or it cannot be read; the message says where one is to be had.
    """
    if source is None:
        raise ValueError(f'the benchmark needs a table (--table): {WHERE}')
    path = _nni_database() if str(source) == 'nni' else Path(source).expanduser()
    if not path.exists():
        raise ValueError(f'there is no table {path}: {WHERE}')
    if path.is_dir():
        if not (path / 'meta.pickle.pbz2').is_file():
            raise ValueError(f'the folder {path} holds no meta.pickle.pbz2, so it is no table: {WHERE}')
        return _cached_table(path, _read_nats_bench)
    if path.suffix in ('.pbz2', '.pickle'):
        return _cached_table(path, _read_nats_bench)
    if _is_sqlite(path):
        return _cached_table(path, _read_nni_database)
    return _read_csv(path)


def _is_sqlite(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(15) == b'SQLite format 3'


# CSV.


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f'{path} cannot be read as a table ({first_line(error)}): {WHERE}') from error
    architectures = _architectures(table, path)
    metrics = table.drop(columns=['index', 'arch_str'], errors='ignore').select_dtypes('number')
    metrics = metrics[[name for name in metrics.columns if not str(name).startswith('Unnamed')]]
    if metrics.columns.empty:
        raise ValueError(
            f'{path} has no accuracy column: besides index and arch_str it should have at least one numeric column'
        )
    return metrics.astype('float64').set_axis(pd.Index(architectures, name='architecture'))


def _architectures(table: pd.DataFrame, path: Path) -> list[str]:
    """The architecture strings of a CSV's rows."""
    if 'index' not in table and 'arch_str' not in table:
        raise ValueError(f'{path} has neither a column index nor arch_str, so its architectures are not known')
    found: list[str] = []
    columns = [table[name] if name in table else [None] * len(table) for name in ('arch_str', 'index')]
    for row, (string, index) in enumerate(zip(*columns), start=2):  # the header is line 1
        try:
            by_string = None if string is None else to_string(to_sample(string))
            by_index = None if index is None else string_of(int(index) if _is_whole(index) else index)
        except ValueError as error:
            raise ValueError(f'line {row} of {path}: {error}') from None
        if by_string and by_index and by_string != by_index:
            raise ValueError(
                f'line {row} of {path}: index and arch_str disagree, index {index} is {by_index} and '
                f'{by_string} has index {index_of(by_string)}'
            )
        found.append(by_string or by_index or '')
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())


# The files of the package nats_bench.


def _read_nats_bench(path: Path) -> pd.DataFrame:
    try:
        import nats_bench  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(f'reading {path.name} needs the package nats_bench: {how_to_install("benchmark")}') from None
    folder = path.is_dir()
    try:
        api = nats_bench.create(str(path), 'tss', fast_mode=folder, verbose=False)
    except Exception as error:
        raise ValueError(f'{path} cannot be read by nats_bench ({first_line(error)}): {WHERE}') from error
    rows = {}
    for index in tqdm(_evaluated_indices(api, path), desc='Reading the table', unit='architecture', disable=None):
        rows[to_string(to_sample(api.arch(index)))] = _nats_row(api, index)
        if folder:
            api.arch2infos_dict.pop(index, None)  # else the whole benchmark gathers in memory
    return pd.DataFrame.from_dict(rows, orient='index', dtype='float64')


def _evaluated_indices(api: Any, path: Path) -> list[int]:
    """Indices of the architectures that the file or folder has results of."""
    if not path.is_dir():
        return sorted(api.evaluated_indexes)
    return [
        index
        for index in range(len(api))
        if any((path / f'{name}.pickle.pbz2').is_file() for name in (f'{index:06d}', f'{index:d}'))
    ]


def _nats_row(api: Any, index: int) -> dict[str, float]:
    row: dict[str, float] = {}
    for dataset, name in DATASETS.items():
        validated = 'cifar10-valid' if dataset == 'cifar10' else dataset
        final, short = (_nats_info(api, index, validated, hp) for hp in ('200', str(SHORT_RUN)))
        early = _nats_info(api, index, validated, '200', EARLY_EPOCH - 1)
        tested = final if validated == dataset else _nats_info(api, index, dataset, '200')
        row |= _metrics_of(
            name,
            final.get('valid-accuracy'),
            tested.get('test-accuracy'),
            short.get('valid-accuracy'),
            early.get('valid-accuracy'),
            early.get('valtest-accuracy'),
        )
    return row


def _nats_info(api: Any, index: int, dataset: str, epochs: str, epoch: int | None = None) -> dict[str, Any]:
    """What the package knows of one run, averaged over its seeds; nothing, where the files do not have it."""
    try:
        info: dict[str, Any] = api.get_more_info(index, dataset, iepoch=epoch, hp=epochs, is_random=False)
        return info
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return {}


def _metrics_of(name: str, valid: Any, test: Any, short: Any, early: Any, early_mixed: Any) -> dict[str, float]:
    """The metrics of one architecture on one dataset; ``nan`` for what is not known."""
    values = {
        f'{name}_valid_acc': valid,
        f'{name}_test_acc': test,
        f'{name}_valid_acc_epoch{SHORT_RUN}': short,
        f'{name}_valid_acc_epoch{EARLY_EPOCH}': early,
        f'{name}_valtest_acc_epoch{EARLY_EPOCH}': early_mixed if early is None else None,
    }
    return {key: math.nan if value is None else float(value) for key, value in values.items()}


# NNI's database.

# It is read without NNI's own query function, which makes an object of each of some 100,000 rows, and needs peewee below 4.
_FINAL = """
SELECT c.arch, c.dataset, c.num_epochs, AVG(s.valid_acc), AVG(s.test_acc), AVG(s.ori_test_acc)
FROM nb201trialstats s JOIN nb201trialconfig c ON s.config_id = c.id GROUP BY c.id
"""
_EARLY = """
SELECT c.arch, c.dataset, AVG(i.valid_acc), AVG(i.ori_test_acc)
FROM nb201intermediatestats i JOIN nb201trialstats s ON i.trial_id = s.id JOIN nb201trialconfig c ON s.config_id = c.id
WHERE i.current_epoch = ? AND c.num_epochs = 200 GROUP BY c.id
"""


def _nni_database() -> Path:
    """The path at which NNI keeps its database."""
    folder = Path(os.environ.get('NASBENCHMARK_DIR') or Path(nni_cache_home()) / 'nasbenchmark')
    return next(iter(sorted(folder.glob('nasbench201*.db'))), folder / 'nasbench201-b2b60732.db')


def _read_nni_database(path: Path) -> pd.DataFrame:
    connection = sqlite3.connect(f'{path.absolute().as_uri()}?mode=ro', uri=True)
    try:
        final = connection.execute(_FINAL).fetchall()
        early = connection.execute(_EARLY, (EARLY_EPOCH,)).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f'{path} is no database of NAS-Bench-201 as NNI makes it ({error}): {WHERE}') from error
    finally:
        connection.close()
    runs = {(arch, dataset, epochs): results for arch, dataset, epochs, *results in final}
    early_runs = {(arch, dataset): results for arch, dataset, *results in early}
    rows = {}
    for arch in dict.fromkeys(arch for arch, *_ in runs):
        row: dict[str, float] = {}
        for dataset, name in DATASETS.items():
            dataset = dataset.lower()
            validated = 'cifar10-valid' if dataset == 'cifar10' else dataset
            valid, test, _ = runs.get((arch, validated, 200), (None, None, None))
            if dataset == 'cifar10':  # its networks were tested on the original test images
                test = runs.get((arch, dataset, 200), (None, None, None))[2]
            short = runs.get((arch, validated, SHORT_RUN), (None, None, None))[0]
            early_valid, early_mixed = early_runs.get((arch, validated), (None, None))
            row |= _metrics_of(name, valid, test, short, early_valid, None if dataset == 'cifar10' else early_mixed)
        rows[to_string({f'cell/{edge}': operation for edge, operation in json.loads(arch).items()})] = row
    return pd.DataFrame.from_dict(rows, orient='index', dtype='float64')


# What takes minutes to read is kept.


def _cached_table(path: Path, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """The table that ``read`` gives, from the user's cache where the same file has been read before."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    state = [str(path.resolve()), Path(__file__).read_text(), *_file_states(files)]
    kept = CACHE / f'nats-tss-{hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]}.csv'
    if kept.is_file():
        return pd.read_csv(kept, index_col='architecture')
    table = read(path).dropna(axis='columns', how='all').rename_axis('architecture')
    if table.empty:
        raise ValueError(f'{path} has no result of any architecture: {WHERE}')
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(unfinished := kept.with_suffix(f'.{os.getpid()}'))
        unfinished.replace(kept)
    except OSError:
        pass  # a cache that cannot be written costs time only
    return table


def _file_states(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    return [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
