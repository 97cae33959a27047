"""Faces of rooms that open when something is asked for, so that who wants little imports little."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ['opened_later']


def opened_later(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """``__getattr__`` of a package, which imports what the package shows when it is asked for.

    Parameters
    ----------
    package
        The package's name.
    places
        The module below the package that has each name.
    """

    def look_up(name: str) -> Any:
        if name not in places:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        value = getattr(importlib.import_module(f'{package}.{places[name]}'), name)
        setattr(sys.modules[package], name, value)
        return value

    return look_up
