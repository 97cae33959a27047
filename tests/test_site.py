"""The documentation as a whole: each page can be found, each link leads somewhere. `make docs` tells the rest."""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest
from places import DOCS, REPOSITORY
from snippets import PAGES

SITE = REPOSITORY / 'mkdocs.yml'
FILES = [*PAGES, DOCS / 'mistakes.md', REPOSITORY / 'SECURITY.md', REPOSITORY / 'CHANGELOG.md']
README = REPOSITORY / 'README.md'
GENERATED = {'index.md': README, 'commands.md': REPOSITORY / 'nni_knas' / 'cli' / 'commands.py'}
"""Pages that are made when the site is built, and of what."""
SPACES = {
    'AutoFormer': 'autoformer',
    'DARTS': 'darts',
    'FlexiBERT': 'flexibert',
    'NAS-Bench-101': 'nasbench101',
    'NAS-Bench-201': 'nats-tss',
    'TransNAS': 'transnas-micro',
    'mean': 'mean',
}
"""Columns of the first page's table, and of those of all scores."""
ROWS = [
    ('nni-knas', 'two-way-rank', 'learn'),
    ('number of parameters', 'parameters', 'parameters'),
    ('number of FLOPs', 'flops', 'flops'),
    ('published: snip', 'snip', None),
    ('published: mgm', 'mgm', None),
    ('published: zico', 'zico', None),
    ('published: az-nas', 'az-nas', None),
    ('random search', None, 'random'),
]
"""Its rows: how they begin, and which score and which search they are of."""


def links(page):
    text = re.sub(r'^```.*?^```$', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r'\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)', text)


def anchors(page):
    """Of headings, as GitHub and the site make them."""
    heads = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', head.lower()).strip().replace(' ', '-') for head in heads}


@pytest.mark.parametrize('page', FILES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page):
    for link, anchor in links(page):
        target = (page.parent / link).resolve() if link else page
        made = GENERATED.get(target.relative_to(DOCS).as_posix()) if DOCS in target.parents else None
        assert (made or target).exists(), link
        assert not anchor or anchor in anchors(target), f'{link}#{anchor}'


def test_each_page_is_in_the_navigation():
    named = set(re.findall(r'^ +- .*: (\S+\.md)$', SITE.read_text(encoding='utf-8').partition('\nnav:')[2], re.MULTILINE))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob('*.md')} <= named
    for name in named - set(GENERATED):
        shown = [DOCS / name, *REPOSITORY.glob(name), *REPOSITORY.glob(f'{Path(name).with_suffix("")}.*')]
        assert any(source.is_file() for source in shown), name


def test_no_package_is_promised_that_is_not_there():
    assert [page.name for page in FILES if re.search(r'install ["\']?nni-knas', page.read_text(encoding='utf-8'))] == []


def test_the_first_page_is_short_and_begins_with_what_one_needs():
    text = README.read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 90
    wanted = ['![', '## Installation', 'git clone', 'make search', '```python', '| random search', '## When not to use it']
    places = [text.index(each) for each in wanted]
    assert places == sorted(places)
    [picture] = re.findall(r'!\[.*?\]\((.*?)\)', text)
    assert (REPOSITORY / picture).stat().st_size < 200_000


def table(page, heading):
    """The first one below a heading or a sentence: rows by their first cell, cells by their column, without intervals."""
    lines = iter(page.read_text(encoding='utf-8').partition(heading)[2].splitlines())
    rows = takewhile(lambda line: line.startswith('|'), dropwhile(lambda line: not line.startswith('|'), lines))
    head, _, *body = [[re.sub(r'[*`]| \[.*', '', cell).strip() for cell in line[1:-1].split('|')] for line in rows]
    return {name: dict(zip(head[1:], cells)) for name, *cells in body}


def test_the_numbers_of_the_first_page_are_those_of_the_whole_tables():
    shown = table(README, '## What it finds')
    all_300 = table(DOCS / 'scores.md', '300 architectures of each space')
    all_100 = table(DOCS / 'scores.md', 'Published scores on the first 100')
    searches = table(DOCS / 'learner.md', 'Mean percentile of the best of')
    assert len(shown) == len(ROWS)
    for begin, score, search in ROWS:
        [(name, cells)] = [row for row in shown.items() if row[0].startswith(begin)]
        found = (all_100 if '100 networks' in name else all_300).get(score, {})
        assert [cells[space] for space in SPACES] == [found.get(column, '') for column in SPACES.values()], name
        assert cells['best of 20 among the best'] == (f'{searches[search]["20"]} %' if search else ''), name
