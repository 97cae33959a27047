"""Mistakes that users make, and what each is told: the rows of docs/mistakes.md, which tests/test_mistakes.py tries.

To add one, put a line into the list of its group. It says what is given, as users would type it, and a part of the sentence
that is expected; `make mistakes` then writes the page with the whole one.
"""

from __future__ import annotations

from mistakes import command_line, data, files, in_python, runs, scores, search_spaces, spaces_of_models, tuner
from mistakes.attempts import Mistake

__all__ = ['GROUPS', 'Mistake']

GROUPS: dict[str, list[Mistake]] = {
    'Command line': command_line.MISTAKES,
    'The YAML file of a search': files.MISTAKES,
    'search_space.json': search_spaces.MISTAKES,
    'Spaces and evaluators': spaces_of_models.MISTAKES,
    'Data': data.MISTAKES,
    'Python': in_python.MISTAKES,
    'The tuner in nnictl': tuner.MISTAKES,
    'Runs': runs.MISTAKES,
    'Scores and benchmarks': scores.MISTAKES,
}
