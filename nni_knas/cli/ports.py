"""The port of NNI's web portal."""

from __future__ import annotations

import socket

__all__ = ['USUAL', 'check_port', 'free_port']

USUAL = 8080
"""That which a search takes where it is free."""


def check_port(port: int | None) -> None:
    """Raise ``ValueError`` for a number that no port has."""
    if port is not None and not 0 < port < 2**16:
        raise ValueError(f'port {port} cannot be used: it has to be a number from 1 to 65535')


def free_port(wanted: int | None, before: int | None = None) -> int:
    """The port asked for; or else the one that the run had before, or 8080, or a free one where those are taken.

    Raises
    ------
    ValueError
        If the port asked for cannot be used.
    """
    check_port(wanted)
    for port in [wanted] if wanted is not None else [*([before] if before else []), USUAL, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was in use a moment ago is free
            try:
                probe.bind(('', port))
                return int(probe.getsockname()[1])
            except OSError as error:
                if wanted is not None:
                    raise ValueError(f'port {wanted} cannot be used: {error}') from error
    raise ValueError('there is no free port')
