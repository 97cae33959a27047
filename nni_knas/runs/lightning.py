"""Lightning, in the process that searches: for each network it prints a table, the devices and advertisements."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

__all__ = ['quiet_lightning']

_LOGGERS = ('pytorch_lightning', 'lightning.pytorch', 'lightning.fabric', 'lightning_fabric')
_SUMMARY = 'callbacks.model_summary'


@contextlib.contextmanager
def quiet_lightning(evaluator: Any) -> Iterator[None]:
    """Have Lightning log warnings only, and the table of layers where the evaluator was told ``enable_model_summary=True``.

    Who has set the level of Lightning's log has it as it is.
    """
    wanted = getattr(evaluator, 'trace_kwargs', {}).get('enable_model_summary') is True
    with contextlib.ExitStack() as stack:
        for name in _LOGGERS:
            logger, summary = logging.getLogger(name), logging.getLogger(f'{name}.{_SUMMARY}')
            if logger.level != logging.INFO:  # Lightning's own choice
                continue
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.WARNING)
            if wanted:
                stack.callback(summary.setLevel, summary.level)
                summary.setLevel(logging.INFO)
        yield
