"""Nothing that tests do leaves the machine: this process is refused it, and what it starts is told so."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

import psutil

# Each of these libraries has a switch of its own, which the processes that tests start inherit.
os.environ.update(
    dict.fromkeys(('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE', 'HF_DATASETS_OFFLINE', 'SE_OFFLINE', 'SE_AVOID_STATS'), 'true')
)

refused: list[str] = []
"""What this process has tried; it may have caught the error."""


class Refused(ConnectionError):
    """A test wants something that is not on this machine."""


def is_here(host: str | bytes | None) -> bool:
    """Whether a name or an address is this machine's."""
    name = host.decode() if isinstance(host, bytes) else host or ''
    if name in ('', 'localhost', socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(name.split('%')[0])
    except ValueError:
        return False
    own = {each.address.split('%')[0] for addresses in psutil.net_if_addrs().values() for each in addresses}
    return address.is_loopback or address.is_unspecified or str(address) in own


def check(host: str | bytes | None) -> None:
    if not is_here(host):
        refused.append(f'{host!r}')
        raise Refused(f'a test may not leave the machine, and this one wants {host!r}')


def _asking_first(connect: Callable) -> Callable:
    """``connect`` and the like, whose last argument is an address."""

    @functools.wraps(connect)
    def guarded(self: socket.socket, *arguments: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(arguments[-1][0])
        return connect(self, *arguments)

    return guarded


def _resolving_first(resolve: Callable) -> Callable:
    @functools.wraps(resolve)
    def guarded(host: str | bytes | None, *arguments: Any, **keywords: Any) -> Any:
        check(host)
        return resolve(host, *arguments, **keywords)

    return guarded


def guard() -> None:
    """From now on, refuse all sockets of this process what is not on this machine."""
    for name in ('connect', 'connect_ex', 'sendto'):
        setattr(socket.socket, name, _asking_first(getattr(socket.socket, name)))
    for name in ('getaddrinfo', 'gethostbyname', 'gethostbyname_ex'):
        setattr(socket, name, _resolving_first(getattr(socket, name)))
