"""What is done beside the work, and must not end it: energy, progress bars, figures."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ['Harmless']

_logger = logging.getLogger(__name__)


class Harmless:
    """A context in which what goes wrong is said once, and harms nothing; it can be entered again and again.

    Parameters
    ----------
    consequence
        What it means for the user that something went wrong.
    """

    def __init__(self, consequence: str) -> None:
        self._consequence = consequence
        self._said = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._said:
                self._said = True
                _logger.warning('%s (%s: %s)', self._consequence, type(error).__name__, error)
            _logger.debug('Where it came from:', exc_info=True)
