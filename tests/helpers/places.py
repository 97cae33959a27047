"""Where things are; what trials and other processes of tests import is in this folder."""

from __future__ import annotations

from pathlib import Path

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
REPOSITORY = TESTS.parent
DOCS = REPOSITORY / 'docs'
EXAMPLES = REPOSITORY / 'examples'
