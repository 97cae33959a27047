"""A mistake gets one clear sentence before anything is begun; docs/mistakes.md shows which; these tests write it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

import pytest
from mistakes import GROUPS, Mistake
from mistakes.attempts import code
from nni.nas.experiment import NasExperiment
from places import DOCS

PAGE = DOCS / 'mistakes.md'
MISTAKES = [pytest.param(each, id=f'{each.given}') for group in GROUPS.values() for each in group]
INTRODUCTION = """\
# What is said of mistakes

A mistake gets one sentence, on standard error, which says what is wrong and what would be right. The command ends with exit
status 2, before anything is scored and without a trace of a run. From Python the sentence is that of a `ValueError` or
`TypeError`, and from `nnictl` that of the experiment's error.

`make mistakes` writes this page: each of these {count} mistakes is made by the tests, and what they were told stands here.
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    before = set(sys.modules)
    yield tmp_path
    os.chdir('/')
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], '__file__', None) or '').startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def nothing_is_begun(home, folder, monkeypatch):
    def start(*arguments, **keywords):
        pytest.fail('the experiment was begun')

    monkeypatch.setattr(NasExperiment, 'start', start)
    before = runs_in(home)
    yield
    assert runs_in(home) == before


def runs_in(home: Path) -> set[Path]:
    return set(home.glob('nni-experiments/*'))


@pytest.fixture(scope='module')
def told(request):
    """What each mistake was told, for the page."""
    told: dict[Mistake, str] = {}
    yield told
    if request.config.getoption('write_mistakes'):
        PAGE.write_text(page_of(told), encoding='utf-8')


def page_of(told: dict[Mistake, str]) -> str:
    parts = [INTRODUCTION.format(count=sum(map(len, GROUPS.values())))]
    for title, group in GROUPS.items():
        rows = [row_of(each, told[each]) for each in group if each in told]
        parts.append('\n'.join([f'## {title}', '', '| what is given | what is said |', '| --- | --- |', *rows, '']))
    return '\n'.join(parts)


def row_of(mistake: Mistake, sentence: str) -> str:
    return f'| {mistake.given} | {code(sentence)} |'


def sentence_of(mistake: Mistake) -> str:
    """What a mistake gets: one line and nothing else."""
    errors, output = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(output),
        pytest.raises((Exception, SystemExit)) as got,
    ):
        mistake.attempt()
    error = got.value
    if not isinstance(error, SystemExit):
        assert isinstance(error, (ValueError, TypeError, LookupError, FileNotFoundError, RuntimeError)), (
            f'{type(error).__name__}: {error}'
        )
        return str(error)
    assert error.code == 2, errors.getvalue()
    assert output.getvalue() == ''
    assert re.match('nni-knas[ a-z]*: ', errors.getvalue())
    return errors.getvalue().removesuffix('\n')


@pytest.mark.usefixtures('nothing_is_begun')
@pytest.mark.parametrize('mistake', MISTAKES)
def test_one_sentence(mistake, folder, home, told, request):
    sentence = sentence_of(mistake).replace(str(folder), '/home/me/work').replace(str(home), '/home/me')
    assert mistake.says in sentence
    assert '\n' not in sentence and 'Traceback' not in sentence and sentence.strip()
    told[mistake] = sentence
    if not request.config.getoption('write_mistakes'):
        assert row_of(mistake, sentence) in PAGE.read_text(encoding='utf-8').splitlines(), (
            'make mistakes writes the page anew'
        )


def test_the_page_has_no_others(request):
    """Each is there once, in its group; that the rows are right is tested above."""
    if request.config.getoption('write_mistakes'):
        pytest.skip('it is written when all have been told')
    lines = PAGE.read_text(encoding='utf-8').splitlines()
    rows = [line.partition(' | ')[0].removeprefix('| ') for line in lines if line.startswith('| ')]
    assert [row for row in rows if row not in ('what is given', '---')] == [
        each.given for g in GROUPS.values() for each in g
    ]
