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
_MAX_PORT: Final = 65535


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


class PortUnavailable(OSError):
    """A port cannot be opened. The message names it, the reason and the option."""

    def __init__(self, error: OSError, host: str, port: int, option: str) -> None:
        super().__init__(error.errno, error.strerror)
        self._text = _describe_failure(error, host, port, option)

    def __str__(self) -> str:
        return self._text


def _describe_failure(error: OSError, host: str, port: int, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{option}: port {port} is in use on {host}; stop the other program or choose another"
            f" port, such as {option} {_next_port(port)}"
        )
    if error.errno == errno.EACCES:
        return f"{option}: port {port} is reserved for root; choose a port from 1024"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        host_option = option.replace("port", "host")
        return f"{host_option}: {host} is not an address of this machine; try 127.0.0.1"
    return f"{option}: cannot listen on port {port} of {host}: {error.strerror}"


def _next_port(port: int) -> int:
    return port + 1 if port < _MAX_PORT else port - 1


def listen(host: str, port: int, *, shared: bool = False, option: str = "--port") -> socket.socket:
    """Return a listening socket; `shared` allows other processes on its port.

    `option` set the port. Raise PortUnavailable.
    """
    sock = bind(host, port, shared=shared, option=option)
    try:
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise PortUnavailable(error, host, port, option) from error
    return sock


def bind(host: str, port: int, *, shared: bool = False, option: str = "--port") -> socket.socket:
    """Return a bound socket that does not listen yet. Raise PortUnavailable.

    `::` means every address of either family, or of IPv4 if the kernel has no IPv6.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bind(family, host, port, shared=shared)
    except OSError as error:
        if host != EVERYWHERE or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise PortUnavailable(error, host, port, option) from error
    try:
        return _bind(socket.AF_INET, "0.0.0.0", port, shared=shared)
    except OSError as error:
        raise PortUnavailable(error, host, port, option) from error


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
