"""Turns the reStructuredText of docstrings into Markdown, as an extension of griffe."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import griffe

_ROLE = re.compile(r':(?:class|func|meth|mod|attr):`~?([^`]+)`')
_BLOCK = re.compile(r'^( *)\.\. math::(.*\n?(?:(?:\1 +.*)?\n)*(?:\1 +.*)?)', re.MULTILINE)
_INLINE = re.compile(r':math:`([^`]+)`')


class Markdown(griffe.Extension):
    """Formulas as arithmatex knows them, and names as code."""

    def on_object(self, *, obj: griffe.Object, **more: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

    def on_function(self, *, func: griffe.Function, **more: Any) -> None:
        """A default that stands elsewhere is shown as what it is."""
        for parameter in func.parameters:
            while isinstance(parameter.default, (griffe.ExprAttribute, griffe.ExprName)):
                path = parameter.default.canonical_path
                found = func.modules_collection.get_member(path) if path.startswith('nni_knas.') else None
                value = getattr(found, 'value', None)
                if value is None:
                    break
                parameter.default = value

    def on_class(self, *, cls: griffe.Class, **more: Any) -> None:
        """A score is asked for by name."""
        name = cls.members.get('name')
        if cls.docstring and 'passes' in cls.members and isinstance(name, griffe.Attribute):
            head, _, rest = cls.docstring.value.partition('\n\n')
            cls.docstring.value = f'{head}\n\nName: `{str(name.value).strip(chr(39))}`.\n\n{rest}'


def markdown(text: str) -> str:
    text = _BLOCK.sub(lambda found: f'{found[1]}$$\n{_lines(found[1], found[2])}\n{found[1]}$$\n\n', text)
    text = _INLINE.sub(lambda found: f'${" ".join(found[1].split())}$', text)
    return _ROLE.sub(lambda found: f'`{found[1]}`', text)


def _lines(indent: str, formula: str) -> str:
    lines = [line.strip() for line in dedent(formula).splitlines()]
    return '\n'.join(indent + line for line in lines if line)
