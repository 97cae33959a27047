"""The options of a search that were given on the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nni_knas.config import absolute_data, options

__all__ = ['given_options']


def given_options(parsed: argparse.Namespace) -> dict[str, Any]:
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
        raise ValueError(f'--{name.replace("_", "-")} {text!r} is no JSON object such as {{"width": 16}}')
    return value
