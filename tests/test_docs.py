"""The code in README.md and docs: Python is run, files are loaded, and commands are read by the programs they are for."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from image_searches import image_kernel
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.hub.pytorch import NasBench201
from places import DOCS, EXAMPLES, REPOSITORY
from processes import Forked
from searches import search
from snippets import NOT_CODE, PAGES, PROGRAMS, blocks, commands, run_examples, run_page

from nni_knas import KNAS
from nni_knas.cli import main
from nni_knas.config import SearchOptions, load_config, options
from nni_knas.data import load_data

README = REPOSITORY / 'README.md'
KNOWN = {'python', 'sh', 'yaml', 'json', *NOT_CODE}
BLOCKS = [(page, block) for page in PAGES for block in blocks(page.read_text(encoding='utf-8'))]
COMMANDS = list(dict.fromkeys(tuple(words) for page in PAGES for words in commands(page)))
QUICK = ('list', 'show', 'export', 'report', 'compare', 'schema')


def of(language):
    return [pytest.param(block, id=f'{page.name}:{block.line}') for page, block in BLOCKS if block.language == language]


def with_python():
    pages = [page for page in PAGES if any(block.language == 'python' for block in blocks(page.read_text(encoding='utf-8')))]
    return [pytest.param(page, id=page.name, marks=pytest.mark.slow if page == README else ()) for page in pages]


@pytest.fixture(scope='module')
def searched(home, tmp_path_factory):
    """Runs in NNI's folder, of two trained networks each, by the names that pages have for them."""
    data = load_data('digits', limit=40)
    loaders = DataLoader(data.train, batch_size=20), DataLoader(data.validation, batch_size=20)
    quiet = {'enable_progress_bar': False, 'logger': False, 'enable_checkpointing': False, 'enable_model_summary': False}
    evaluator = Classification(
        num_classes=10, max_epochs=2, train_dataloaders=loaders[0], val_dataloaders=loaders[1], **quiet
    )
    space = NasBench201(stem_out_channels=4, num_modules_per_stack=1, num_labels=10)
    folder = home / 'nni-experiments'
    folder.mkdir(exist_ok=True)
    run = search(KNAS(image_kernel(), 5, 2), folder, space, evaluator).id
    shutil.copytree(folder / run, folder / f'{run}2')
    return {'RUN': run, 'ID': run, 'OTHER': f'{run}2'}


def test_each_block_says_what_it_is():
    assert [(page.name, block.line) for page, block in BLOCKS if block.language not in KNOWN] == []
    text = [block.code for _, block in BLOCKS if block.language == 'text']
    assert not re.search(rf'^({"|".join(PROGRAMS)}) ', '\n'.join(text), re.M)
    for page in PAGES:
        assert len(re.findall('^```', page.read_text(encoding='utf-8'), re.M)) == 2 * sum(each == page for each, _ in BLOCKS)


def test_what_is_not_run_says_why():
    """At present all is run."""
    assert [block.why_not for _, block in BLOCKS if block.why_not] == []
    assert sum(block.language == 'python' for _, block in BLOCKS) >= 12


@pytest.mark.parametrize('page', with_python())
def test_python(page, searched, fork_server, tmp_path):
    """README's with the trials that it starts, the others' experiments in one process."""
    said = tmp_path / 'said'
    process = Forked(run_page, page, tmp_path, searched, page != README, output=tmp_path / 'printed', errors=said)
    assert process.wait() == 0, said.read_text()[-3000:]


def test_examples_of_docstrings(searched, fork_server, tmp_path):
    said, names = tmp_path / 'said', tmp_path / 'names'
    process = Forked(run_examples, tmp_path, searched['RUN'], output=names, errors=said)
    assert process.wait() == 0, said.read_text()[-3000:]
    assert {'nni_knas.search.strategy.KNAS', 'nni_knas.trial'} <= set(names.read_text().split())


@pytest.mark.parametrize('block', of('yaml'))
def test_yaml(block, tmp_path):
    for name in ('search_space.json', 'my_network.py'):
        shutil.copy(EXAMPLES / 'nnictl' / name, tmp_path)
    (tmp_path / 'search.yml').write_text(block.code)
    assert yaml.safe_load(block.code)
    load_config(tmp_path / 'search.yml')
    for schema in re.findall(r'\$schema=\S*/(\S+)', block.code):
        assert (DOCS / schema).is_file()


@pytest.mark.parametrize('block', of('json'))
def test_json(block):
    json.loads(block.code)


class Parsed(BaseException):
    """A program has understood its arguments."""


@pytest.fixture
def parsed(monkeypatch):
    """What a program reads in its arguments, which it does not do."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, *arguments):
        raise Parsed(parse(self, *arguments))

    def parsed(program, arguments):
        monkeypatch.setattr(sys, 'argv', ['program', *arguments])
        with monkeypatch.context() as patch, pytest.raises(Parsed) as found:
            patch.setattr(argparse.ArgumentParser, 'parse_args', parse_only)
            program()
        return found.value.args[0]

    level = logging.root.level
    yield parsed
    logging.root.setLevel(level)  # which nnictl changes
    logging.disable(logging.NOTSET)  # which some scripts turn off


def check_knas(arguments, parsed):
    """The options are of a search that can be."""
    if arguments == ['--help']:
        return
    found = vars(parsed(lambda: main(arguments), arguments))
    given = {each.name: found[each.name] for each in options() if each.name in found}
    given = {
        name: json.loads(value) if isinstance(value, str) and value[:1] == '{' else value for name, value in given.items()
    }
    if arguments[0] == 'search':
        SearchOptions.from_mapping(given)
    if found.get('config') is not None and found['config'].name != 'FILE.yml' and found['config'] != Path('search.yml'):
        load_config(REPOSITORY / found['config'])


def check_nnictl(arguments, parsed):
    from nni.tools.nnictl.nnictl import parse_args

    found = vars(parsed(parse_args, arguments))
    if found.get('config'):
        load_config(REPOSITORY / found['config'])


def check_python(arguments, parsed):
    if arguments[:2] == ['-m', 'nni_knas.nnictl']:
        return
    run = (
        (lambda: runpy.run_module(arguments[1], run_name='__main__', alter_sys=False))
        if arguments[0] == '-m'
        else (lambda: runpy.run_path(str(REPOSITORY / arguments[0]), run_name='__main__'))
    )
    with mock.patch.object(sys, 'path', [str(REPOSITORY / 'measurements'), *sys.path]):  # what stands beside the script
        parsed(run, arguments[2:] if arguments[0] == '-m' else arguments[1:])


def check_make(arguments, parsed):
    """What ``make`` would do, and what its command reads in the arguments that are passed on."""
    command = ['make', '--dry-run', 'VENV=/nowhere/venv', *arguments]
    # What make was given that runs the tests is not meant for this one.
    environment = {
        name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MAKEOVERRIDES', 'MFLAGS', 'ARGS')
    }
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for passed in re.findall(r'^\S*/nni-knas (.*)', result.stdout, re.M):
        check_knas(passed.split(), parsed)


def check_pip(arguments, parsed):
    assert arguments[0] == 'install'
    known = importlib.metadata.metadata('nni-knas').get_all('Provides-Extra')
    for wanted in arguments[1:]:
        name, extras = re.fullmatch(r'([^\[]+)(?:\[(.*)\])?', wanted).groups()
        assert name in ('.', 'nni-knas')
        assert not extras or set(extras.split(',')) <= set(known)


CHECKS = {
    'nni-knas': check_knas,
    '.venv/bin/nni-knas': check_knas,
    'nnictl': check_nnictl,
    'python': check_python,
    'make': check_make,
    'pip': check_pip,
}


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_commands_are_understood(words, parsed):
    program, *arguments = words
    CHECKS[program](arguments, parsed)


def test_quick_commands_run(searched, tmp_path, monkeypatch, capsys):
    """With the run in the place of what stands for one, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    quick = [words for words in COMMANDS if words[0] == 'nni-knas' and words[1] in QUICK and '--watch' not in words]
    assert {words[1] for words in quick} == set(QUICK)
    given = {**searched, 'FOLDER': 'exported'}
    for words in quick:
        with mock.patch('webbrowser.open'):
            assert main([given.get(word, word) for word in words[1:]]) == 0, (words, capsys.readouterr().err)
