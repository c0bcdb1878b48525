"""A connection to a backend without a socket: the test provides every byte."""

import asyncio
from collections.abc import Callable
from typing import Any

from mcpproxy.proxy.http1.client.connection import ClientConnection, ClientResponse


class Wire(asyncio.Transport):
    """The transport of one connection, which closes in the next turn of the loop, as others do."""

    def __init__(self, connection: ClientConnection | None = None) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.connection = connection or ClientConnection(self._loop)
        self.sent: list[bytes] = []
        self.closing = False
        self.paused = False
        self.connection.connection_made(self)

    def begin(self, done: Callable[[], None] | None = None) -> ClientResponse:
        """Send a request and return its response."""
        return self.connection.begin(b"", done)

    def feed(self, data: bytes) -> None:
        """Deliver bytes of the backend, if the connection is still read."""
        if data and not self.closing:
            self.connection.data_received(data)

    def end(self) -> None:
        """Close the connection at the backend."""
        self.abort()

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self.connection.connection_lost, None)

    close = abort

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
