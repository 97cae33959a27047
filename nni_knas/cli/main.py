"""The command line: ``nni-knas search``, ``score``, ``benchmark``, ``schema``, the commands on runs, and ``doctor``."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence

from nni_knas.basics.failures import is_said_by_us, told
from nni_knas.cli.commands import build_parser
from nni_knas.cli.parser import complete

__all__ = ['main']


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. What it needs is imported when it is known.

    Returns
    -------
    int
        Exit status: 0 when all went well, 1 when something failed, 2 for a mistake of the user's, 130 when interrupted.
    """
    parser = build_parser()
    complete(parser)
    parsed = parser.parse_args(arguments)
    module, _, function = parsed.command.partition('.')
    try:
        command = getattr(importlib.import_module(f'nni_knas.cli.{module}'), function)
        _silence_libraries()
        status = command(parsed)
    except KeyboardInterrupt:
        print('nni-knas: interrupted', file=sys.stderr)
        return 130
    except Exception as error:
        if getattr(parsed, 'traceback', False):
            traceback.print_exception(error)
        return _explained(error)
    return status or 0


def _explained(error: Exception) -> int:
    """Say in a line what went wrong: a mistake as it is; anything else with its kind, its place, and how to see it whole."""
    print(f'nni-knas: {told(error)}', file=sys.stderr)
    if not is_said_by_us(error):
        print('nni-knas: this is no mistake in the arguments; nni-knas --traceback ... shows it whole', file=sys.stderr)
        return 1
    return 2 if isinstance(error, (ValueError, TypeError, LookupError, FileNotFoundError)) else 1


def _silence_libraries() -> None:
    """Keep the noise of the libraries from the user; NNI's own log is in the run's folder as ever."""
    nni = sys.modules.get('nni')
    if nni is not None:  # not every command needs it
        nni.silence_stdout()
    warnings.simplefilter('ignore')
    warnings.filterwarnings('default', module='nni_knas')
    for name in ('pytorch_lightning', 'lightning', 'lightning.pytorch', 'lightning_utilities'):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *others, **more: print(f'nni-knas: {message}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
