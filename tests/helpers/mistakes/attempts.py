"""How a mistake is made, in a folder of its own: at the command line, in Python, or as an argument of the tuner."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nni_knas.cli import main

Files = Mapping[str, str | bytes]
"""What stands in the folder, by name; a name that ends in a slash is a folder."""


class Mistake(NamedTuple):
    """Something that cannot be."""

    given: str
    """What a user gives, for the page."""
    says: str
    """A part of the sentence that is expected."""
    attempt: Callable[[], Any]
    """Gives it, in the working directory; exits or raises."""


def command(line: str, says: str, given: str = '', files: Files | None = None) -> Mistake:
    """A command, without ``nni-knas``; it is what is shown, unless something is given instead."""

    def attempt() -> None:
        write(files or {})
        if status := main(shlex.split(line)):
            raise SystemExit(status)

    return Mistake(given or code(f'nni-knas {line}'), says, attempt)


def python(text: str, says: str, given: str = '', files: Files | None = None) -> Mistake:
    """Lines of Python."""

    def attempt() -> None:
        write(files or {})
        exec(compile(text, '<the user>', 'exec'), {'__name__': 'the_user'})

    return Mistake(given or code(text.strip().splitlines()[-1]), says, attempt)


def code(text: str) -> str:
    """Text as code in a cell of a table; what cannot be seen is spelled out."""
    shown = text.strip('\n').replace('\n', ' ⏎ ').replace('|', '\\|')
    return f'`` {shown} ``' if '`' in shown else f'`{shown}`'


def write(files: Files) -> None:
    """Write files into the working directory."""
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith('/'):
            path.mkdir(exist_ok=True)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding='utf-8')


def as_json(value: Any) -> str:
    return json.dumps(value)
