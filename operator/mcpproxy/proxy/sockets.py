"""Opening ports, and serving the admin port on one."""

import errno
import socket
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

DRAIN: Final = 30
"""Seconds that calls in flight have to end after SIGTERM."""
EVERYWHERE: Final = "::"
"""Host that stands for all addresses of both families."""
_BACKLOG: Final = 2048


class AdminServer(uvicorn.Server):
    """Serves the admin port. The process has another server: this one takes no signals."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN,
            )
        )

    def end(self) -> None:
        """Accept nothing more; `serve` returns when what is in flight has ended."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Any:
        yield


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens; with `shared` beside those of other processes. Raises OSError."""
    sock = bind(host, port, shared=shared)
    sock.listen(_BACKLOG)
    return sock


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that has the port and does not listen yet. Raises OSError.

    `::` stands for every address of either family; where the kernel has no IPv6, of IPv4.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bound(family, host, port, shared=shared)
    except OSError as error:
        if host != EVERYWHERE or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(socket.AF_INET, "0.0.0.0", port, shared=shared)


def _bound(family: socket.AddressFamily, host: str, port: int, *, shared: bool) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named: else small answers
    # wait 40 ms for an acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == EVERYWHERE:
        # Its default is a setting of the machine (net.ipv6.bindv6only).
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
