"""``python -m nni_knas.nnictl``: NNI's ``nnictl``, with our repairs (:mod:`nni_knas.bridge.repairs`) in managers it starts.

Without them a manager listens to all machines that reach this one, may mix up the parameters of trials that start
together, and fails to start on a busy machine. What is wrong with an argument of the tuner KNAS is said before an experiment
is created.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from nni.tools.nnictl.nnictl import parse_args

from nni_knas.bridge.listening import check_host, listening_on
from nni_knas.bridge.portal import portal_address
from nni_knas.config import SearchOptions

__all__ = ['check', 'main']


def page_address(arguments: Sequence[str]) -> str | None:
    """The address of our page in the portal of an experiment of the tuner that ``nnictl create`` is to start."""
    if arguments[:1] != ['create'] or _tuner_of(arguments) is None:
        return None
    given = dict(pairwise(arguments))
    prefix = given.get('--url_prefix') or given.get('-u') or ''
    return portal_address(int(given.get('--port') or given.get('-p') or 8080), prefix)


def _tuner_of(arguments: Sequence[str]) -> dict[str, Any] | None:
    """The tuner KNAS in the configuration that ``nnictl create`` is given; ``None`` where it is another."""
    for option, file in pairwise(arguments[1:]):
        if arguments[0] == 'create' and option in ('--config', '-c') and Path(file).is_file():
            content = yaml.safe_load(Path(file).read_text(encoding='utf-8'))
            tuner = content.get('tuner') if isinstance(content, dict) else None
            if isinstance(tuner, dict) and 'KNAS' in (tuner.get('name'), str(tuner.get('className')).rpartition('.')[2]):
                return tuner
    return None


def check(arguments: Sequence[str]) -> str | None:
    """Check the arguments of the tuner in the configuration that ``nnictl create`` is given; gives its ``host``.

    Raises
    ------
    ValueError
        If one cannot be; the message says what would be right.
    """
    tuner = _tuner_of(arguments)
    host = SearchOptions.from_mapping(tuner.get('classArgs') or {}).host if tuner is not None else None
    return None if host is None else check_host(host)


def main() -> int:
    """Run ``nnictl``; exit status 2 for a mistake in the tuner's arguments."""
    try:
        host = check(sys.argv[1:])
    except ValueError as error:
        print(f'nni_knas.nnictl: {error}', file=sys.stderr)
        return 2
    with listening_on(host):
        parse_args()
    address = page_address(sys.argv[1:])
    if address is not None:
        print(f'The progress of the search, and its trials with their scores: {address}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
