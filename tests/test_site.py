"""The documentation as a whole: each page can be found, each link leads somewhere. `make docs` tells the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from places import DOCS, REPOSITORY
from snippets import PAGES

SITE = REPOSITORY / 'mkdocs.yml'
FILES = [*PAGES, DOCS / 'mistakes.md', REPOSITORY / 'SECURITY.md', REPOSITORY / 'CHANGELOG.md']
GENERATED = {'commands.md': REPOSITORY / 'nni_knas' / 'cli' / 'commands.py'}
"""Pages that are made when the site is built, and of what."""


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
