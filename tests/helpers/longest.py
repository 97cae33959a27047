"""The order in which processes that share the tests take modules from the heap: the longest first."""

from __future__ import annotations

from collections import Counter

import pytest
from places import TESTS

LONGEST = (
    'text/test_text_search.py',
    'search/test_resume.py',
    'cli/test_killed.py',
    'tuner/test_nnictl.py',
    'test_faults.py',
    'search/test_services.py',
    'search/test_several_machines.py',
    'test_examples.py',
    'search/test_effort_resumed.py',
    'cli/test_watch.py',
    'test_tutorial.py',
    'engine/test_trials_of_nni.py',
    'search/test_effort.py',
    'networks/test_export.py',
    'search/test_near.py',
    'networks/test_layers.py',
    'networks/test_hub.py',
    'cli/test_benchmark_search.py',
    'spaces/test_text_space.py',
)
"""Modules that take a minute or more, mostly with few tests: last, one process would be at work on them, and no other."""


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the tests, those of a module together: the longest modules, then the others by their number of tests."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (places.get(item.path, len(places)), -counts[item.path], str(item.path)))
