"""Connections from other instances, on the port of the clients.

An instance begins with TLS, a client with HTTP. Once both ends have proven the sealing key, the
connection carries HTTP to a separate server.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, cast

from mcpproxy.limits import instances as limits
from mcpproxy.proxy.downstream.peers.tls import PeerCertificate, PeerCertificates

SHUTDOWN: Final = 2.0
"""Seconds that the peer has to confirm the end of a connection."""
_NEVER: Final = 3600.0
"""Seconds; longer than the limit on handshakes, so that the timeout of asyncio never applies."""


class PeerAcceptor:
    """Connection acceptor that turns connections of clients into connections of instances."""

    def __init__(
        self, credentials: PeerCertificates, connection_factory: Callable[[], asyncio.Protocol]
    ) -> None:
        """`connection_factory` returns the protocol of a connection after its handshake."""
        self._credentials = credentials
        self._connection_factory = connection_factory
        self._handshakes: set[asyncio.Task[None]] = set()

    def accept(self, transport: asyncio.Transport, hello: bytes) -> bool:
        """Take over a connection whose first bytes are `hello`.

        Return False, and do nothing, unless they begin TLS with this process.
        """
        credential = self._credentials.named_in(hello)
        if credential is None:
            return False
        if len(self._handshakes) >= limits.HANDSHAKES.value:
            limits.HANDSHAKES.record()
            transport.abort()
            return True
        handshake = asyncio.get_running_loop().create_task(
            self._handshake(transport, hello, credential)
        )
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)
        return True

    async def _handshake(
        self, transport: asyncio.Transport, hello: bytes, credential: PeerCertificate
    ) -> None:
        is_complete = False
        try:
            # An ssl.SSLError, which is an OSError, means that the peer does not have the key.
            with contextlib.suppress(OSError):
                async with asyncio.timeout(limits.HANDSHAKE.value) as deadline:
                    await self._switch(transport, hello, credential)
                    is_complete = True
            if deadline.expired():
                limits.HANDSHAKE.record()
        finally:
            if not is_complete:
                transport.abort()

    async def _switch(
        self, transport: asyncio.Transport, hello: bytes, credential: PeerCertificate
    ) -> None:
        """Do the handshake, then hand the connection over to another protocol."""
        early = _EarlyData()
        loop = asyncio.get_running_loop()
        starting = loop.create_task(
            loop.start_tls(
                transport,
                early,
                credential.server_context,
                server_side=True,
                ssl_handshake_timeout=_NEVER,
                ssl_shutdown_timeout=SHUTDOWN,
            )
        )
        try:
            await _receive(transport, hello)
            tls_transport = await starting
        finally:
            starting.cancel()
        assert tls_transport is not None
        early.hand_over(tls_transport, self._connection_factory())

    def close(self) -> None:
        """Abort the handshakes in progress."""
        for handshake in self._handshakes:
            handshake.cancel()


class _EarlyData(asyncio.Protocol):
    """Buffer of data that the peer sends together with its last handshake message."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._is_lost = False

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Pass the transport and the data to another protocol."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._chunks:
            protocol.data_received(b"".join(self._chunks))
        if self._is_lost:
            protocol.connection_lost(None)


async def _receive(transport: asyncio.Transport, hello: bytes) -> None:
    """Feed the TLS protocol of a transport with bytes that were read before."""
    # start_tls sets the protocol in its first step and connects it in the second.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    protocol = cast("asyncio.BufferedProtocol", transport.get_protocol())
    buffer = memoryview(protocol.get_buffer(len(hello)))
    buffer[: len(hello)] = hello
    protocol.buffer_updated(len(hello))
