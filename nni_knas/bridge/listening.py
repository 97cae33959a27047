"""Where NNI's manager listens: it knows no login, and runs what it is sent, so that only this machine is to reach it.

Its addresses are chosen in ``repairs.js``, which is loaded into managers that are started where ``nni_knas`` is imported.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import socket
from collections.abc import Iterator

__all__ = ['HOST', 'address_of', 'check_host', 'listening_on', 'reachable_only']

_logger = logging.getLogger(__name__)

HOST = 'NNI_KNAS_HOST'
"""The environment variable that opens managers: an address of this machine, or 0.0.0.0 for all of them."""

LOOPBACK = '127.0.0.1'


def check_host(host: str) -> str:
    """The address of a host that a manager is to listen on.

    Raises
    ------
    ValueError
        If it is none of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f'host {host!r} is no address of this machine: it has to be one, or 0.0.0.0 for all of them; '
            'left out, this machine alone reaches the web portal'
        ) from error
    return str(address[0])


@contextlib.contextmanager
def listening_on(host: str | None) -> Iterator[None]:
    """Managers that are started while the context lasts listen on a host; ``None`` leaves it as it is."""
    before = os.environ.get(HOST)
    if host is not None:
        os.environ[HOST] = host
    try:
        yield
    finally:
        if host is not None:
            os.environ.pop(HOST)
            os.environ.update({HOST: before} if before is not None else {})


def address_of(platform: str, port: int) -> str:
    """The address that a manager is to listen on; empty for all of them. With it others can reach it, which is said.

    Parameters
    ----------
    platform
        The training service. All but ``'local'`` are on machines that have to reach the manager.
    port
        The manager's port.
    """
    host = os.environ.get(HOST)
    address = check_host(host) if host else LOOPBACK if platform == 'local' else ''
    if not address or not ipaddress.ip_address(address.partition('%')[0]).is_loopback:
        asked = '' if host else ', since the machines that train have to reach it'
        _logger.warning(
            "NNI's manager listens on %s, port %d%s, and knows no login: whoever reaches it can run code on this machine "
            'as you. Let a firewall keep others out.',
            address or 'every address of this machine',
            port,
            asked,
        )
    return address


def reachable_only(record: logging.LogRecord) -> bool:
    """A filter for what NNI says of its portal: it lists all addresses of this machine, whatever the manager listens on."""
    if not os.environ.get(HOST) and str(record.msg).startswith('Web portal URLs:') and f'http://{LOOPBACK}:' in record.msg:
        record.msg = re.sub(rf' http://(?!{re.escape(LOOPBACK)}:)\S+', '', record.msg)
    return True
