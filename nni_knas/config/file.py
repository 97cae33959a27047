"""A search in a YAML file: NNI's own experiment configuration, and a section of KNAS's options."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from nni.experiment.config import LocalConfig
from nni.experiment.config.utils import internal, is_missing
from nni.nas.experiment import NasExperimentConfig

from nni_knas.bridge.experiment import UNNAMED
from nni_knas.config.checking import checked
from nni_knas.config.json_schema import schema
from nni_knas.config.options import SearchOptions, checked_values
from nni_knas.config.reading import read_mapping, read_search_space
from nni_knas.data import split_texts

__all__ = ['SearchConfig', 'absolute_data', 'default_config', 'enter', 'load_config', 'with_defaults']


class SearchConfig(NamedTuple):
    """What a configuration file says."""

    options: SearchOptions
    search_space: dict[str, Any] | None
    """NNI's search space, where there is one"""
    config: NasExperimentConfig


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SearchConfig:
    """Read a configuration file. All fields are checked; nothing of the user's is imported yet.

    Parameters
    ----------
    path
        The YAML (or JSON) file; ``docs/config.md`` describes its fields. Paths in it are relative to its folder.
    overrides
        Options that take the place of the file's, as :meth:`SearchOptions.from_mapping` takes them.

    Raises
    ------
    ValueError
        If the file cannot be read, a field is unknown, or a value cannot be; the message names the file and the field.
    """
    file = Path(path).expanduser().absolute()
    content = {key: value for key, value in checked(read_mapping(file), schema(), str(path)).items() if value is not None}
    section, where = _section(content, str(path))
    with _naming(where):
        values = checked_values(section)
    if 'data' in values:
        values['data'] = absolute_data(values['data'], file.parent)
    search_options = SearchOptions(**{**values, **checked_values(overrides or {})})
    with _naming(str(path)):
        search_options.check()
        return SearchConfig(search_options, _search_space(content, file), _experiment_config(content, file.parent))


def default_config() -> NasExperimentConfig:
    """NNI's configuration of a search of the command line without a file: the local training service."""
    config = NasExperimentConfig('ts', 'simplified', 'local')
    config.trial_code_directory = os.getcwd()
    return with_defaults(config)


def with_defaults(config: NasExperimentConfig) -> NasExperimentConfig:
    """Fill in what NNI asks for and a file need not say: a name, the concurrency, and the GPU of a local machine."""
    config.experiment_name = config.experiment_name or UNNAMED
    service = config.training_service
    if isinstance(service, LocalConfig):
        if config.trial_gpu_number is None and torch.cuda.is_available():
            config.trial_gpu_number = 1
        if config.trial_gpu_number and service.use_active_gpu is None:
            service.use_active_gpu = True
    if is_missing(config.trial_concurrency):
        config.trial_concurrency = 1 if config.trial_gpu_number else 2
    return config


def enter(config: NasExperimentConfig) -> None:
    """Go to the directory of the user's code, so that its modules are found here and in trials; then check all of NNI's.

    NNI runs the trials of a NAS experiment in the working directory of the process that searches.

    Raises
    ------
    ValueError
        If there is no such directory, or NNI refuses the configuration.
    """
    directory = Path(config.trial_code_directory)
    if not directory.is_dir():
        raise ValueError(f'trialCodeDirectory {directory} is no directory')
    os.chdir(directory)
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        config.canonical_copy()
    except (AssertionError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f'NNI refuses the configuration: {error or type(error).__name__}') from error
    except OSError as error:  # NNI asks the network which address this machine has
        raise ValueError(
            f'the address of this machine is not known ({error.strerror or error}): give nniManagerIp, where the training '
            'machines can reach it'
        ) from error


def absolute_data(name: str, base: Path) -> str:
    """The name of data, with the paths in ``folder:PATH`` and ``text:PATH@ENCODER`` made absolute."""
    kind, _, path = name.partition(':')
    if kind == 'folder':
        return f'folder:{base / Path(path).expanduser()}'
    if kind == 'text':
        source, encoder = split_texts(path, base)
        if not source.startswith('hf:'):
            source = str(base / Path(source).expanduser())
        folder = base / Path(encoder).expanduser()  # one of no folder is known by name
        return f'text:{source}@{folder if encoder and folder.is_dir() else encoder}'.rstrip('@')
    return name


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error


def _section(content: Mapping[str, Any], path: str) -> tuple[Mapping[str, Any], str]:
    """The options of KNAS, and where they stand."""
    tuner = content.get('tuner')
    where = f'{path}, knas' if tuner is None else f'{path}, tuner, classArgs'
    section = content.get('knas') if tuner is None else tuner.get('classArgs')
    if not isinstance(section or {}, dict):
        raise ValueError(f'{where}: it is {section!r}: it has to be a mapping of options to values')
    return section or {}, where


def _search_space(content: Mapping[str, Any], file: Path) -> dict[str, Any] | None:
    if 'searchSpaceFile' in content:
        return read_search_space(file.parent / Path(content['searchSpaceFile']).expanduser())
    return content.get('searchSpace')


def _experiment_config(content: Mapping[str, Any], base: Path) -> NasExperimentConfig:
    own = ('knas', 'tuner', 'searchSpace', 'searchSpaceFile', 'trialCommand')
    fields = {key: value for key, value in content.items() if key not in own}
    fields['trialCodeDirectory'] = internal.resolve_path(fields.get('trialCodeDirectory', '.'), base)
    internal.set_base_path(base)
    try:
        platform = None if 'trainingService' in fields else 'local'
        return with_defaults(NasExperimentConfig('ts', 'simplified', platform, **fields))
    finally:
        internal.unset_base_path()
