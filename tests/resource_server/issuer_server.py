"""The HTTP server of the issuers, over TLS if it is given a certificate."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.resource_server.issuer import LARGE_BYTES, Issuer, Issuers, Mode

JSON: Final = "application/json"
SLOW_SECONDS: Final = 45.0
"""Time that a slow key set takes; longer than any client of a server waits."""
UNTRUSTED: Final = "/untrusted-origin"
"""Path of the server for redirects and header URLs; no request to it is ever right."""


class IssuerServer(ThreadingHTTPServer):
    """Serves the issuers on one port of the loopback interface."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, tls: ssl.SSLContext | None, audience: str, scope: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.issuers = Issuers(f"{scheme}://127.0.0.1:{self.server_port}", audience, scope)
        self.redirect_target = f"{scheme}://localhost:{self.server_port}{UNTRUSTED}/jwks"
        self.slow_seconds = SLOW_SECONDS
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: IssuerServer
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing: the issuers record their requests."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        issuer = self.server.issuers.find(path)
        if issuer is None:
            self.server.issuers.strays.append(path)
            self._respond(404, b"")
            return
        issuer.record(path)
        if issuer.mode is Mode.DOWN:
            self._hang_up()
        elif self.server.issuers.metadata_form(path, issuer):
            self._respond(200, json.dumps(issuer.metadata()).encode())
        elif path == issuer.jwks_url.removeprefix(self.server.issuers.origin):
            self._respond_with_keys(issuer)
        else:
            self._respond(404, b"")

    do_HEAD = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _respond_with_keys(self, issuer: Issuer) -> None:
        body = issuer.key_set()
        if issuer.mode is Mode.REDIRECT:
            self._respond(307, b"", Location=self.server.redirect_target)
        elif issuer.mode is Mode.GARBAGE:
            self._respond(200, b"<!doctype html><title>Sign in</title>", "text/html")
        elif issuer.mode is Mode.LARGE:
            self._respond(200, b" " * LARGE_BYTES + body)
        elif issuer.mode is Mode.ENDLESS:
            self._trickle()
        else:
            slow = issuer.mode is Mode.SLOW
            self.server.closing.wait(self.server.slow_seconds if slow else issuer.delay)
            self._respond(200, body)

    def _trickle(self) -> None:
        self._head(200, JSON, LARGE_BYTES)
        deadline = time.monotonic() + self.server.slow_seconds
        with suppress(OSError):
            while time.monotonic() < deadline and not self.server.closing.wait(0.2):
                self.wfile.write(b" ")
        self.close_connection = True

    def _respond(self, status: int, body: bytes, kind: str = JSON, **headers: str) -> None:
        with suppress(OSError):
            self._head(status, kind, len(body), **headers)
            self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(
    port: int, audience: str, scope: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[IssuerServer]:
    """Run the server in a thread; port 0 chooses a free one."""
    with IssuerServer(port, tls, audience, scope) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
