"""Listening sockets, and the server of the admin port."""

import errno
import socket
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from mcpproxy.proxy.config.options import DRAIN

EVERYWHERE: Final = "::"
"""Host for all addresses of both families."""
_BACKLOG: Final = 2048


class AdminServer(uvicorn.Server):
    """Server of the admin port. It handles no signals, because the process has another server."""

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
        """Stop accepting connections; `serve` returns when all requests are complete."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Any:
        yield


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a listening socket; `shared` allows other processes on its port. Raise OSError."""
    sock = bind(host, port, shared=shared)
    sock.listen(_BACKLOG)
    return sock


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound socket that does not listen yet. Raise OSError.

    `::` means every address of either family, or of IPv4 if the kernel has no IPv6.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bind(family, host, port, shared=shared)
    except OSError as error:
        if host != EVERYWHERE or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bind(socket.AF_INET, "0.0.0.0", port, shared=shared)


def _bind(family: socket.AddressFamily, host: str, port: int, *, shared: bool) -> socket.socket:
    # asyncio disables Nagle's algorithm only if the protocol is named. Otherwise small responses
    # wait 40 ms for an acknowledgment.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == EVERYWHERE:
        # The default is a setting of the machine (net.ipv6.bindv6only).
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
