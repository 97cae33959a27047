"""Mappings in files, YAML or JSON, each key of which stands there once."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import yaml

__all__ = ['read_mapping', 'read_search_space']


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises
    ------
    ValueError
        If it cannot be read, or holds anything else.
    """
    try:
        content = yaml.load(file.read_text(encoding='utf-8'), _Loader)
    except OSError as error:
        raise ValueError(f'{file} cannot be read: {error.strerror}') from error
    except _Twice as error:
        raise ValueError(f'{file}: {error}') from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f'{file} is no YAML: {_what_is_wrong(error)}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} should hold a mapping of fields to values, such as trialConcurrency: 2')
    return content


def read_search_space(file: Path) -> dict[str, Any]:
    """NNI's search space in a file, JSON or YAML.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    with contextlib.suppress(OSError, ValueError):  # JSON is no part of PyYAML's YAML: it reads 1e-3 as text
        content = json.loads(file.read_text(encoding='utf-8'), object_pairs_hook=_once)
        if isinstance(content, dict):
            return content
    return read_mapping(file)


class _Twice(Exception):
    """A key stands in a mapping twice, of which readers keep the last without a word."""


class _Loader(yaml.SafeLoader):
    """YAML without tags of Python, and without keys that stand there twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _Twice(f'the field {key.value} is given twice, again in line {key.start_mark.line + 1}')
                seen.add((key.tag, key.value))
        return node


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return 'it is no text'
    if isinstance(error, RecursionError):
        return 'it is nested too deep'
    mark = getattr(error, 'problem_mark', None)
    line = f' in line {mark.line + 1}' if mark is not None else ''
    return f'{getattr(error, "problem", None) or " ".join(str(error).split())}{line}'


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; YAML's reader says where a key stands twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError
    return content
