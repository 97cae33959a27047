"""What a user may ask for: options, the YAML file with its schema, and what a run was started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nni_knas.basics.faces import opened_later
from nni_knas.config.options import Option, SearchOptions, options
from nni_knas.config.reading import read_search_space
from nni_knas.config.settings import Settings

if TYPE_CHECKING:
    from nni_knas.config.file import SearchConfig, absolute_data, default_config, enter, load_config
    from nni_knas.config.json_schema import schema
    from nni_knas.config.tables import markdown

__all__ = [
    'Option',
    'SearchConfig',
    'SearchOptions',
    'Settings',
    'absolute_data',
    'default_config',
    'enter',
    'load_config',
    'markdown',
    'options',
    'read_search_space',
    'schema',
]

_OF_FILES = ('SearchConfig', 'absolute_data', 'default_config', 'enter', 'load_config')

__getattr__ = opened_later(__name__, {**dict.fromkeys(_OF_FILES, 'file'), 'markdown': 'tables', 'schema': 'json_schema'})
