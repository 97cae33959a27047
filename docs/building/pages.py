"""Makes pages of what the documentation shows beside ``docs/*.md``, as hooks of MkDocs.

The README is the first page. What pages link to outside of ``docs`` (examples, the changelog) is a page of the site, and so
are the tutorial, with the outputs that are kept in it, and the help of the command line. Formulas become MathML: a browser
shows them without a script.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from notebook import markdown_of, with_outputs

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / 'docs'
LANGUAGES = {'.py': 'python', '.yml': 'yaml', '.json': 'json', '.js': 'js'}
ALWAYS = ('README.md', 'CHANGELOG.md', 'SECURITY.md', 'examples/tutorial.ipynb', 'examples/*.py', 'examples/text/*.py')
COMMANDS = 'commands.md'
FIGURES = 'assets/plotly.min.js'

_LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))')
_FENCE = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r'^<!-- (?:given|not run):.*?-->\n', re.MULTILINE | re.DOTALL)
_FETCHED = re.compile(r'<(?:script|img|iframe)\b[^>]*\bsrc="https?:[^>]*>|<link\b(?=[^>]*stylesheet)[^>]*"https?:[^>]*>')
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in ``docs``."""
    waiting = [source for name in ALWAYS for source in REPOSITORY.glob(name)]
    waiting += [link for page in DOCS.rglob('*.md') for link in _links(page, page.read_text(encoding='utf-8'))]
    done = set()
    while waiting:
        source = waiting.pop()
        if source in done or not source.is_file() or DOCS in source.parents:
            continue
        done.add(source)
        content = page_of(source)
        files.append(File.generated(config, name_of(source), content=content))
        if source.suffix in ('.md', '.ipynb'):
            waiting += _links(source, content)
    files.append(File.generated(config, COMMANDS, content=help_of_commands()))
    script = REPOSITORY / 'nni_knas' / 'report' / 'plotly-cartesian.min.js'
    files.append(File.generated(config, FIGURES, abs_src_path=str(script)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site, and leave out what is meant for the tests."""
    here = _source_of(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        target = name_of((here.parent / found[1]).resolve())
        return os.path.relpath(target, Path(page.file.src_uri).parent).replace(os.sep, '/') + (found[2] or '')

    return _outside_code(_NOTE.sub('', markdown), lambda text: _LINK.sub(led, text))


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, and put the outputs of a notebook in their places."""
    source = _source_of(page.file.src_uri).with_suffix('.ipynb')
    if source.is_file():
        script = os.path.relpath(FIGURES, Path(page.file.dest_uri).parent)
        content = with_outputs(content, json.loads(source.read_text(encoding='utf-8')), script)
    display = {'(': 'inline', '[': 'block'}
    return _FORMULA.sub(lambda found: mathml(html.unescape(found[3]), display[found[2]]), content)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Hold that no page fetches anything from elsewhere."""
    if found := _FETCHED.search(output):
        raise PluginError(f'{page.file.src_uri} fetches {found[0]}')
    return output


def mathml(formula: str, display: str) -> str:
    """A formula in MathML; one that is not understood whole ends the build."""
    plain = re.sub(r'\\[bB]ig(?=\\)', '', formula).replace(r'\|', r'\Vert ')
    made = convert(plain, display=display)
    if '\\' in made:
        raise PluginError(f'not understood: {formula}')
    return made


def name_of(source: Path) -> str:
    """The page of a file, or the file itself where it lies in ``docs``."""
    if source == REPOSITORY / 'README.md':
        return 'index.md'
    if DOCS in source.parents:
        return source.relative_to(DOCS).as_posix()
    return source.relative_to(REPOSITORY).with_suffix('.md').as_posix()


def page_of(source: Path) -> str:
    """Markdown that shows a file."""
    text = source.read_text(encoding='utf-8')
    if source.suffix == '.md':
        return text
    if source.suffix == '.ipynb':
        name = source.relative_to(REPOSITORY)
        note = f'This is `{name}`, with the outputs of one run. Jupyter opens it, and the tests execute it.'
        return markdown_of(json.loads(text), note)
    return f'# {source.name}\n\n`{source.relative_to(REPOSITORY)}`\n\n````{LANGUAGES.get(source.suffix, "")}\n{text}````\n'


def help_of_commands() -> str:
    """What ``--help`` says of ``nni-knas`` and of each of its commands."""
    whole = _help()
    names = re.findall(r'^    (\w+) ', whole.partition('COMMAND')[2], re.MULTILINE)
    parts = ['# Command line', 'What `--help` says.', f'```text\n{whole}```']
    parts += [f'## nni-knas {name}\n\n```text\n{_help(name)}```' for name in names]
    return '\n\n'.join(parts)


def _help(*command: str) -> str:
    environment = {**os.environ, 'COLUMNS': '110', 'NO_COLOR': '1'}
    words = [sys.executable, '-m', 'nni_knas', *command, '--help']
    return subprocess.run(words, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True).stdout


def _links(page: Path, text: str) -> list[Path]:
    found: list[str] = []
    _outside_code(text, lambda part: found.extend(link for link, _ in _LINK.findall(part)) or part)
    return [(page.parent / link).resolve() for link in found]


def _outside_code(text: str, change) -> str:
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return ''.join([*parts, change(text[end:])])


def _source_of(name: str) -> Path:
    """The file that a page shows."""
    if name == 'index.md':
        return REPOSITORY / 'README.md'
    for place in (DOCS / name, REPOSITORY / name):
        if place.exists():
            return place
    return REPOSITORY / name  # links of a notebook are relative to its folder, whatever its name
