"""Where data that was downloaded or tokenised is kept."""

from __future__ import annotations

from pathlib import Path

__all__ = ['CACHE']

CACHE = Path('~/.cache/nni-knas').expanduser()
"""A folder of the user's."""
