"""A mistake is one sentence; what went wrong otherwise says what and where, and can be seen whole."""

from __future__ import annotations

import pytest

from nni_knas.cli import main

MODULE = """
from torch import nn

def build(parameters):
    return Network()

class Network(nn.Module):
    def forward(self, inputs):
        return undefined(inputs)

def data():
    return len(3)

def make_evaluator(data):
    return data.missing
"""
HINT = 'nni-knas --traceback ... shows it whole'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / 'users_failures.py').write_text(MODULE)
    (tmp_path / 'space.json').write_text('{"width": {"_type": "choice", "_value": [4, 0]}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def score(capsys, *arguments, before=()):
    status = main([*before, 'score', *arguments])
    return status, capsys.readouterr()


def test_where_the_users_data_fail(folder, capsys):
    _, said = score(capsys, '--data', 'users_failures:data')
    assert "TypeError: object of type 'int' has no len() in users_failures.py, line 12" in said.err
    assert 'Traceback' not in said.err


def test_where_a_forward_pass_fails(folder, capsys):
    _, said = score(capsys, '--network', 'users_failures:build', '--search-space', 'space.json')
    assert "NameError: name 'undefined' is not defined in users_failures.py, line 9" in said.out + said.err


def test_a_mistake_of_ours_is_not_taken_for_one_of_the_users(monkeypatch, capsys):
    def fail(*_):
        return {}['no such key']

    monkeypatch.setattr('nni_knas.cli.listing._run_folders', fail)
    assert main(['list']) == 1
    said = capsys.readouterr().err
    assert "nni-knas: KeyError: 'no such key' in test_failures.py, line" in said and HINT in said
    assert 'Traceback' not in said


@pytest.mark.parametrize('arguments', [['--traceback', 'list'], ['list', '--traceback']])
def test_it_is_shown_whole(arguments, monkeypatch, capsys):
    monkeypatch.setattr('nni_knas.cli.listing._run_folders', lambda *_: 1 / 0)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert 'Traceback (most recent call last)' in said and 'ZeroDivisionError' in said


def test_what_we_say_is_a_line_and_no_more(capsys):
    assert main(['show', 'no-such-run']) == 2
    said = capsys.readouterr().err
    assert said.startswith("nni-knas: there is no experiment 'no-such-run'") and len(said.splitlines()) == 1
