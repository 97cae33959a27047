"""What a run was started with, in its folder: for its trials, and for whoever takes it up or looks at it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nni_knas.basics.files import atomic_write
from nni_knas.config.options import SearchOptions
from nni_knas.record import settings_path

__all__ = ['Settings']


@dataclass
class Settings:
    """What a run was started with.

    Attributes
    ----------
    options
        KNAS's own options.
    search_space
        NNI's search space JSON; ``None`` or empty where the options name a model space and it was not narrowed.
    config
        NNI's experiment configuration of a search of the command line; ``None`` where the experiment is of the HPO kind.
    """

    options: SearchOptions
    search_space: dict[str, Any] | None = None
    config: dict[str, Any] | None = field(default=None)

    def write(self, folder: Path) -> None:
        """Write them for the experiment in a folder; passwords and keys of training services may be among them."""
        with atomic_write(settings_path(folder), private=True) as unfinished:
            unfinished.write_text(
                json.dumps(
                    {'options': self.options.to_mapping(), 'search_space': self.search_space, 'config': self.config},
                    indent=2,
                )
            )

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """The settings of the experiment in a folder.

        Raises
        ------
        FileNotFoundError
            If there are none.
        ValueError
            If they cannot be read.
        """
        path = settings_path(folder)
        try:
            content = json.loads(path.read_text())
            options = SearchOptions.from_mapping(content['options'])
        except PermissionError as error:
            raise ValueError(f'{path} is for its owner alone, since it may hold passwords') from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{path} is damaged, it does not say what the run was started with: {error}') from error
        return cls(options, content.get('search_space'), content.get('config'))
