"""``nni-knas search``: from the command line to a search."""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_knas.cli.given import given_options
from nni_knas.cli.search import run_folder, search, stored_config
from nni_knas.config import SearchConfig, SearchOptions, default_config, load_config, read_search_space

__all__ = ['run']


def run(parsed: argparse.Namespace) -> None:
    """Check what a search is asked for, and begin it."""
    if parsed.concurrency is not None and parsed.concurrency < 1:
        raise ValueError(f'--concurrency is {parsed.concurrency}: it has to be 1 or more')
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
    given = given_options(parsed)
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
        raise ValueError(f'there is no run {parsed.resume!r} to resume') from None
    stored = stored_config(folder)
    if stored is None:
        raise ValueError(
            f'the run {folder.name} is not of nni-knas search: nni-knas resume {folder.name} says how it goes on'
        )
    return stored
