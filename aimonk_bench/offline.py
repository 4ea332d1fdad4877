"""`--offline`: no connection of this process, or of one that it starts, leaves the machine.

The hub's own setting makes weights that are not here a message; what other libraries try, such as a tracker or a file
system of fsspec, is refused where Python opens the connection. Code in C that opens sockets by itself, such as Ray's,
is not seen.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys

SETTING = "AIMONK_BENCH_OFFLINE"  # in the environment, which processes inherit
LOCAL_NAMES = ("", "localhost", "ip6-localhost")
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")  # one on this machine would pass connections on
_OF_HOSTS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_OF_ADDRESSES = ("socket.connect", "socket.sendto", "socket.sendmsg")
_EVENTS = (*_OF_HOSTS, *_OF_ADDRESSES, "socket.getnameinfo")


def forbid() -> None:
    """Forbid connections from now on."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ[SETTING] = "1"
    for name in [name for name in os.environ if name.lower() in PROXIES]:
        del os.environ[name]
    obey()


def obey() -> None:
    """Forbid connections if this process or one before it was told to; every process calls it once."""
    if os.environ.get(SETTING) == "1" and not _hooked:
        sys.addaudithook(_refuse)
        _hooked.append(True)


_hooked: list[bool] = []  # a hook cannot be removed, and one is enough


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Raise an OSError where Python is about to look a host up or to connect to it."""
    if event not in _EVENTS or os.environ.get(SETTING) != "1":
        return
    host = _host(arguments) if event in _OF_ADDRESSES else arguments[0]
    if isinstance(host, tuple):  # of a reverse look-up: host and port
        host = host[0]
    if not _is_local(host):
        raise OSError(errno.ENETUNREACH, f"--offline forbids a connection to {host}")


def _host(arguments: tuple[object, ...]) -> object:
    """The host of an address of the internet; of a socket in the file system none."""
    connection, address = arguments[:2]
    family = getattr(connection, "family", None)
    if family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
        return address[0]
    return None


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or host.lower() in LOCAL_NAMES or host == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
