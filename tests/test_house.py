"""The house: which room imports which, and that a room is known by its face alone. See docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from importlinter.api import read_configuration
from places import DOCS, EXAMPLES, REPOSITORY, TESTS

ROOT = REPOSITORY / 'nni_knas'
SETTINGS = str(REPOSITORY / 'pyproject.toml')
OPEN = {'nni_knas.basics', 'nni_knas.bridge'}
"""Rooms whose modules are their faces: their packages import none of them."""


class Import(NamedTuple):
    by: str
    module: str
    name: str | None

    def __str__(self) -> str:
        return f'{self.by} imports {self.name or "it"} from {self.module}'


@cache
def modules() -> dict[str, Path]:
    """The files of the package, by module."""
    return {
        '.'.join(file.relative_to(REPOSITORY).with_suffix('').parts).removesuffix('.__init__'): file
        for file in sorted(ROOT.rglob('*.py'))
    }


def rooms() -> set[str]:
    """All packages but the root; nni_knas.networks.drawing is a room in a room."""
    return {module for module, file in modules().items() if file.name == '__init__.py'} - {'nni_knas'}


def of_the_package(module: str) -> bool:
    return module.partition('.')[0] == 'nni_knas'


def imports(by: str, file: Path) -> Iterator[Import]:
    """What a file imports of the package: in functions and for types, too."""
    tree = ast.parse(file.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(by, alias.name, None) for alias in node.names if of_the_package(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{by}, line {node.lineno}: imports name the package'
            for alias in node.names if of_the_package(node.module or '') else ():
                module = f'{node.module}.{alias.name}'
                package = node.module or ''
                if module in modules() and (f'{by}.'.startswith(f'{package}.') or not is_shown(package, alias.name)):
                    yield Import(by, module, None)
                    yield from attributes(by, tree, module, alias.asname or alias.name)
                else:
                    yield Import(by, package, alias.name)


def is_shown(package: str, name: str) -> bool:
    """Whether a room shows something of this name, as nni_knas.cli does with main, which is a module's name, too."""
    return package in rooms() - OPEN and name in importlib.import_module(package).__all__


def attributes(by: str, tree: ast.AST, module: str, name: str) -> Iterator[Import]:
    """What is taken from a module that was imported under a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
            yield Import(by, module, node.attr)


@cache
def package_imports() -> list[Import]:
    return [each for module, file in modules().items() for each in imports(module, file)]


def room_of(module: str) -> str:
    """The innermost room that a module stands in; a package is its own."""
    return module if module in {'nni_knas', *rooms()} else module.rpartition('.')[0]


def breaks_in(found: Import) -> bool:
    """Whether an import takes what is not on show."""
    room = room_of(found.module)
    if room in ('nni_knas', *OPEN) or f'{found.by}.'.startswith(f'{room}.'):  # what stands in the root is public
        return False
    return found.module != room or (found.name is not None and not is_shown(room, found.name))


def test_a_room_imports_only_from_rooms_below_it():
    """In a process of its own: it turns off the loggers that other tests listen to."""
    command = [Path(sys.executable).with_name('lint-imports'), '--config', SETTINGS, '--no-cache']
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_thirteen_floors():
    (contract,) = read_configuration(SETTINGS)['contracts_options']
    assert len(contract['layers']) <= 13


def test_six_modules_in_the_root():
    assert len(list(ROOT.glob('*.py'))) <= 6


def test_no_circles():
    """Among modules; the root is left out, since for type checkers it names what it imports later."""
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for each in package_imports():
        if each.by != 'nni_knas' and each.module != each.by:
            graph[each.by].add(each.module)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(' is imported by '.join(error.args[1]))


def test_rooms_are_known_by_their_faces():
    assert [str(each) for each in package_imports() if breaks_in(each)] == []


def test_the_root_gives_rooms_its_version_only():
    taken = {each.name for each in package_imports() if each.module == 'nni_knas' and each.by != 'nni_knas'}
    assert taken <= {'__version__'}


@pytest.mark.parametrize('folder', [EXAMPLES, DOCS, REPOSITORY / 'measurements'], ids=lambda folder: folder.name)
def test_users_know_faces_only(folder):
    files = [*folder.rglob('*.py')]
    assert files
    assert [str(each) for file in files for each in imports(file.stem, file) if breaks_in(each)] == []


def test_tests_stand_in_the_same_rooms():
    folders = {test.parent for test in TESTS.rglob('test_*.py')} - {TESTS}
    assert folders
    assert {f'nni_knas.{folder.relative_to(TESTS)}' for folder in folders} <= rooms()


def test_breaks_are_seen():
    assert breaks_in(Import('nni_knas.cli.main', 'nni_knas.runs.run', 'Run'))
    assert breaks_in(Import('nni_knas.cli.main', 'nni_knas.runs', 'load_weights'))
    assert breaks_in(Import('nni_knas.networks.costs', 'nni_knas.networks.drawing.svg', None))
    assert not breaks_in(Import('nni_knas.cli.main', 'nni_knas.runs', 'Run'))
    assert not breaks_in(Import('nni_knas.runs.run', 'nni_knas.runs.ranked', 'load_weights'))
    assert not breaks_in(Import('nni_knas.networks.drawing.svg', 'nni_knas.networks.costs', 'measure'))
    assert not breaks_in(Import('nni_knas.cli.main', 'nni_knas.basics.texts', 'table'))


def test_each_room_is_in_the_table():
    text = (DOCS / 'architecture.md').read_text(encoding='utf-8')
    names = sorted(room.removeprefix('nni_knas.').replace('.', '/') for room in rooms())
    assert [name for name in names if f'| `{name}` |' not in text] == []


def test_no_two_files_of_tests_have_one_name():
    """Their folders are no packages, so that pytest cannot tell them apart."""
    names = [file.name for file in TESTS.rglob('test_*.py')]
    assert sorted(names) == sorted(set(names))
