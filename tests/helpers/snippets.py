"""The code that stands in pages of Markdown, and how it is run.

A block of Python runs in the namespace of its page, in the page's order, on small numbers. A comment before a block, which
readers do not see, may add to that: ``<!-- given: CODE -->`` is run before it, and with ``<!-- not run: REASON -->`` it is
compiled only. ``RUN`` and ``OTHER`` are runs that are there.
"""

from __future__ import annotations

import atexit
import doctest
import importlib
import os
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from places import DOCS, REPOSITORY
from servers import free_port

import nni_knas

PAGES = [REPOSITORY / 'README.md', *(page for page in sorted(DOCS.rglob('*.md')) if page.name != 'mistakes.md')]
"""All pages but that of mistakes, whose code is wrong, and tried by tests of its own."""
NOT_CODE = {'text'}
PROGRAMS = ('nni-knas', 'nnictl', 'python', 'make', 'pip', '.venv/bin/nni-knas')
LESS = {
    r"load_data\('digits'": "load_data('digits', limit=60",
    r'\b(max_)?epochs=\d+': r'\1epochs=1',
    r'\bcandidates=\d+': 'candidates=4',
    r'\btop_k=\d{2,}|\btop_k=[2-9]': 'top_k=2',
    r'\bseeds=\d+': 'seeds=1',
    r'\btrial_concurrency = \d+': 'trial_concurrency = 1',
    r'\bNasBench201\(': 'NasBench201(num_modules_per_stack=1, stem_out_channels=4, ',
}
"""What code in pages has much of, and what tests have in its place."""

_NOTE = r'(?:<!-- (?P<note>given|not run):\s(?P<text>(?:(?!-->).)*?)\s*-->\n)?'
_BLOCK = re.compile(_NOTE + r'^```(?P<language>\S*)\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')


class Block(NamedTuple):
    """A block of code; ``given`` is what is run before it, ``why_not`` why it is not run."""

    line: int
    language: str
    code: str
    given: str
    why_not: str


def blocks(text: str) -> list[Block]:
    return [
        Block(
            1 + text[: found.start('code')].count('\n'),
            found['language'],
            found['code'],
            found['text'] if found['note'] == 'given' else '',
            found['text'] if found['note'] == 'not run' else '',
        )
        for found in _BLOCK.finditer(text)
    ]


def lines_of_shell(code: str) -> list[str]:
    """The commands of a block, with what continues one in its line."""
    return [line for line in code.replace('\\\n', ' ').splitlines() if line.strip() and not line.startswith('#')]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of all commands of a page: of its blocks, and those with arguments that stand in its text."""
    text = page.read_text(encoding='utf-8')
    inline = [
        each for each in _INLINE.findall(_BLOCK.sub('', text)) if each.count(' ') > 1 and not each.endswith('--config')
    ]
    for line in [line for block in blocks(text) if block.language == 'sh' for line in lines_of_shell(block.code)] + inline:
        if line.split(' ', 1)[0] in PROGRAMS:
            yield [word for word in shlex.split(line) if word != '...']


def smaller(code: str) -> str:
    for much, less in LESS.items():
        code = re.sub(much, less, code)
    return code.replace('port=8080', f'port={free_port()}')


def write_texts(folder: Path) -> None:
    """A task in GLUE's format, of few short texts."""
    folder.mkdir(parents=True)
    for name, count in (('train', 40), ('dev', 8)):
        rows = [f'{i}\tit is {i}\tit was {i % 7}\t{("entailment", "not_entailment")[i % 2]}' for i in range(count)]
        (folder / f'{name}.tsv').write_text('\n'.join(['index\tsentence1\tsentence2\tlabel', *rows]) + '\n')


def run_page(page: Path, folder: Path, runs: dict[str, str], sequential: bool) -> None:
    """Run the Python of a page; where ``sequential``, its experiments train in this process."""
    from nni.experiment.config import ExperimentConfig
    from nni.nas.experiment import NasExperimentConfig

    os.chdir(folder)
    key = Path('~/.ssh/id_ed25519').expanduser()  # configurations name it
    key.parent.mkdir(exist_ok=True)
    key.touch()
    write_texts(folder / 'GLUE' / 'RTE')
    if sequential:
        NasExperimentConfig.default = classmethod(lambda cls, *parts: NasExperimentConfig('sequential', 'simplified'))
    namespace: dict[str, Any] = {**runs, '__name__': '__main__'}
    for block in blocks(page.read_text(encoding='utf-8')):
        if block.language == 'python' and not block.why_not:
            exec(compile(smaller(block.given), f'{page}, given', 'exec'), namespace)
            exec(compile('\n' * (block.line - 1) + smaller(block.code), str(page), 'exec'), namespace)
    for value in namespace.values():
        if isinstance(value, ExperimentConfig):
            value.validate()
    atexit._run_exitfuncs()  # as at the end of a script: NNI ends a manager there, and forked processes do not get to it


def examples() -> Iterator[doctest.DocTest]:
    """Those of all docstrings of the package."""
    for module in pkgutil.walk_packages(nni_knas.__path__, 'nni_knas.'):
        if not module.name.endswith('__main__'):
            found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module.name))
            yield from (each for each in found if each.examples)
    yield from doctest.DocTestFinder(recurse=False).find(nni_knas)


def run_examples(folder: Path, run: str) -> None:
    """Run the examples of all docstrings; where one shows a value, it is of the kind that is given."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    write_texts(folder / 'glue' / 'RTE')
    (folder / 'my_module.py').write_text('import torch\n\ndef build(parameters):\n    return torch.nn.Linear(1, 1)\n')
    given: dict[str, Any] = {}
    exec(GIVEN.replace('RUN', repr(run)), given)
    for example in sorted(examples(), key=lambda each: each.name == 'nni_knas.trial'):
        print(example.name, flush=True)
        if example.name == 'nni_knas.trial':
            exec(TRIAL, given)
        run_example(example, dict(given), run)


def run_example(example: doctest.DocTest, namespace: dict[str, Any], run: str) -> None:
    namespace.update({name: value for name, value in example.globs.items() if not name.startswith('_')})
    for step in example.examples:
        code = smaller(step.source).replace('k3vn8qyz', run)
        if step.want:
            assert type(eval(code, namespace)) is type(eval(step.want.replace(', ...', '')))
        else:
            exec(code, namespace)


GIVEN = """
from pathlib import Path
import nni, nni_knas, nni_knas.trial, torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.hub.pytorch import NasBench201
from nni_knas import KNAS, GradientKernelEvaluator
from nni.nas.space import SimplifiedModelSpace
from nni_knas.text import load_text

NasExperimentConfig.default = classmethod(lambda cls, *parts: NasExperimentConfig('sequential', 'simplified'))
images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
dataset = torch.utils.data.TensorDataset(images, labels)
space = NasBench201(num_modules_per_stack=1, stem_out_channels=4, num_labels=10)
evaluator = FunctionalEvaluator(lambda network: nni.report_final_result(0.5))
run, kernel, network = nni_knas.open_run(RUN), GradientKernelEvaluator(dataset), space.random()
"""
"""What examples take for granted."""

TRIAL = """
import functools
nni.get_next_parameter = lambda: run.architecture
nni_knas.trial.network = functools.partial(nni_knas.trial.network, space='NasBench201')
"""
"""Further what an example of a trial does, whose experiment is not there."""
