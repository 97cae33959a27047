"""What rooms show is documented, parameters and errors included. How docstrings are laid out, ruff looks after."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import nni_knas

FACES = ['nni_knas', *(found.name for found in pkgutil.walk_packages(nni_knas.__path__, 'nni_knas.') if found.ispkg)]
MANY = 4
"""A function of so many parameters says what each of them is."""
_HEADING = r'^\w[\w ]*\n-+$'


class Shown(NamedTuple):
    """A class, a function or a method that users see, with what stands in its code and in its docstring."""

    name: str
    thing: Any
    code: Any
    text: str

    def parameters(self) -> set[str]:
        """What its signature names; nothing where that is NNI's, which takes anything."""
        names = {name for name in inspect.signature(self.code).parameters if name not in ('self', 'cls')}
        return set() if names == {'args', 'kwargs'} else names

    def described(self) -> set[str]:
        """What stands under the heading Parameters."""
        section = re.search(rf'^Parameters\n-+\n(.*?)(?={_HEADING}|\Z)', self.text, re.MULTILINE | re.DOTALL)
        lines = re.findall(r'^(\S.*)$', section[1], re.MULTILINE) if section else []
        return {name.strip().lstrip('*') for line in lines for name in line.split(':')[0].split(',')}

    def raises(self) -> set[str]:
        """The errors that its own code raises."""
        function = vars(self.code).get('__init__') if inspect.isclass(self.code) else self.code
        try:
            source = inspect.getsource(function) if function is not None else ''
        except (OSError, TypeError):  # the constructor of a named tuple
            return set()
        return set(re.findall(r'^ *raise (\w+)\(', source, re.MULTILINE)) - {'NotImplementedError'}


def is_ours(thing: Any) -> bool:
    return (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith('nni_knas')


def shown_by(face: str) -> Iterator[Shown]:
    module = importlib.import_module(face)
    for name in getattr(module, '__all__', ()):
        thing = getattr(module, name)
        if is_ours(thing):
            yield Shown(name, thing, thing, inspect.getdoc(thing) or '')
            yield from methods_of(name, thing) if inspect.isclass(thing) else ()


def methods_of(owner: str, kind: type) -> Iterator[Shown]:
    """Its public methods and properties; one that overrides another has its docstring where it has none."""
    for name in dir(kind):
        if name.startswith('trace_'):  # what NNI adds to the class of what a traced function returns
            continue
        method = inspect.getattr_static(kind, name)
        code = method.fget if isinstance(method, property) else getattr(method, '__func__', method)
        if not name.startswith('_') and inspect.isfunction(code) and is_ours(code):
            text = inspect.getdoc(method if isinstance(method, property) else getattr(kind, name)) or ''
            yield Shown(f'{owner}.{name}', kind, code, text)


@pytest.fixture(scope='module', params=FACES)
def shown(request: pytest.FixtureRequest) -> list[Shown]:
    return list(shown_by(request.param))


def test_there_is_a_docstring(shown):
    assert [each.name for each in shown if not each.text] == []


def test_where_parameters_are_described_all_are(shown):
    wrong = {each.name: each.described() ^ each.parameters() for each in shown if each.described() and each.parameters()}
    assert {name: names for name, names in wrong.items() if names} == {}


def test_many_parameters_are_described(shown):
    functions = [each for each in shown if inspect.isfunction(each.thing) and len(each.parameters()) >= MANY]
    assert [each.name for each in functions if not each.described()] == []


def test_errors_that_are_raised_are_named(shown):
    wrong = {each.name: {error for error in each.raises() if error not in each.text} for each in shown}
    assert {name: errors for name, errors in wrong.items() if errors} == {}


def test_what_lacks_is_seen():
    def silent(first, second, third, fourth):
        raise ValueError('nothing said')

    def half(first, second):
        """Say half of it.

        Parameters
        ----------
        first, third
            Two.
        """

    one, other = (Shown(each.__name__, each, each, inspect.getdoc(each) or '') for each in (silent, half))
    assert one.raises() == {'ValueError'}
    assert len(one.parameters()) == MANY and not one.described()
    assert other.described() ^ other.parameters() == {'second', 'third'}
