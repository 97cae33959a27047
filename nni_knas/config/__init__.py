"""What a user may ask for: options, the YAML file with its schema, and what a run was started with."""

from nni_knas.config.file import (
    SearchConfig,
    absolute_data,
    default_config,
    enter,
    load_config,
)
from nni_knas.config.options import Option, SearchOptions, options
from nni_knas.config.reading import read_search_space
from nni_knas.config.schema import schema
from nni_knas.config.settings import Settings
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
