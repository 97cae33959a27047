"""What commands print and write for other programs: JSON, with nothing else on stdout."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ['json_text', 'plain', 'print_json', 'records', 'stdout_kept']


@contextlib.contextmanager
def stdout_kept(wanted: bool = True) -> Iterator[None]:
    """Have what is printed meanwhile on stderr: by us, by libraries, by the user's modules, and by processes."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def print_json(value: Any) -> None:
    """Print a value of numbers, texts, lists and mappings."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """A value of numbers, texts, lists and mappings as JSON."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def plain(value: Any) -> Any:
    """The same for JSON, which has no number that is not finite."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, with its numbers as Python's."""
    return [
        {str(name): plain(cell.item() if hasattr(cell, 'item') else cell) for name, cell in row.items()}
        for row in table.to_dict('records')
    ]
