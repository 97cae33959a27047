"""The command line: ``nni-knas search``, ``score``, ``benchmark``, ``schema``, and the commands on runs."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Sequence

from nni_knas.cli.commands import build_parser

__all__ = ['main']


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. What it needs is imported when it is known.

    Returns
    -------
    int
        Exit status: 0 when all went well, 1 when the run failed, 2 for a mistake in the arguments.
    """
    parsed = build_parser().parse_args(arguments)
    module, _, function = parsed.command.partition('.')
    try:
        command = getattr(importlib.import_module(f'nni_knas.cli.{module}'), function)
        _silence_libraries()
        command(parsed)
    except (ValueError, TypeError, LookupError, FileNotFoundError) as error:
        print(f'nni-knas: {error}', file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f'nni-knas: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('nni-knas: interrupted', file=sys.stderr)
        return 130
    return 0


def _silence_libraries() -> None:
    """Keep the noise of the libraries from the user; NNI's own log is in the run's folder as ever."""
    nni = sys.modules.get('nni')
    if nni is not None:  # not every command needs it
        nni.silence_stdout()
    warnings.simplefilter('ignore')
    warnings.filterwarnings('default', module='nni_knas')
    for name in ('pytorch_lightning', 'lightning', 'lightning.pytorch', 'lightning_utilities'):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *others, **more: print(f'nni-knas: {message}', file=sys.stderr)  # type: ignore


if __name__ == '__main__':
    sys.exit(main())
