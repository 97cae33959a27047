"""``nni-knas schema``."""

from __future__ import annotations

import argparse
import json

from nni_knas.config import markdown, schema

__all__ = ['run']


def run(parsed: argparse.Namespace) -> None:
    """Print the schema of the YAML file, or the tables of the options."""
    print(markdown() if parsed.markdown else json.dumps(schema(), indent=2) + '\n', end='')
