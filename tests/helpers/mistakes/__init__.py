"""Mistakes that users make, and what each is told: the rows of docs/mistakes.md, which tests/test_mistakes.py tries.

To add one, put a line into the list of its group. It says what is given, as users would type it, and a part of the sentence
that is expected; `make mistakes` then writes the page with the whole one.
"""

from __future__ import annotations

from mistakes import command_line, files, search_spaces
from mistakes.attempts import Mistake

__all__ = ['GROUPS', 'Mistake']

GROUPS: dict[str, list[Mistake]] = {
    'Command line': command_line.MISTAKES,
    'The YAML file of a search': files.MISTAKES,
    'search_space.json': search_spaces.MISTAKES,
}
