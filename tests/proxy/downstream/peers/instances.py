"""Two instances: one that accepts connections of others, and one that connects to it."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcpproxy.limits import instances as limits
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.peers.acceptor import PeerAcceptor
from mcpproxy.proxy.downstream.peers.forwarding import UNREAD, PeerForwarder
from mcpproxy.proxy.downstream.request_context import RequestContext
from mcpproxy.proxy.http1.server.request import Request, RequestHead
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.http1.server.server import HttpServer
from tests.proxy.http1.server.served import App, Served
from tests.proxy.runtime.waiting import soon

KEY, NEW_KEY = b"k" * 32, b"n" * 32


def sealer(*keys: bytes) -> Sealer:
    """A sealer of these keys, the first of which seals."""
    return Sealer(keys or [KEY], bytes)


def limit(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> Limit:
    """Set a limit for one test."""
    changed: Limit = replace(getattr(limits, name), value=value)
    monkeypatch.setattr(limits, name, changed)
    return changed


class Pair:
    """An owner of sessions, and another instance whose clients ask it for them."""

    def __init__(
        self,
        served: Served,
        clock: Callable[[], float] = lambda: 0.0,
        host: str = "127.0.0.1",
    ) -> None:
        """`served` is where clients of the other instance are, `host` where the owner is."""
        self._host = host
        self.served = served
        self.clock = clock
        self.app = App()
        """The one of the owner."""

    async def start(self, owner: Sealer, other: Sealer) -> None:
        """Accept connections; both have sealing keys."""
        self._owner = Served()
        self.server = HttpServer(self.app, before_close=UNREAD)

        def acceptor_at(port: int) -> PeerAcceptor:
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.owner = PeerForwarder(owner, f"{host}:{port}", "/mcp")
            return PeerAcceptor(self.owner.credentials, self.server.new_connection)

        await self._owner.start(self._host, acceptor_at)
        await self.server.start(())
        self.other = PeerForwarder(other, "127.0.0.1:1", "/mcp", clock=self.clock)
        self.served.app.handlers["/mcp"] = self.pass_on

    async def pass_on(self, inbound: Request, reply: ResponseWriter) -> None:
        """Have the owner serve a request of a client."""
        inbound.head.context = RequestContext(inbound.head)
        await self.other.forward(self.owner.owner, inbound, reply)

    async def tell(self) -> tuple[int, bytes]:
        """Exchange something that no client waits for."""
        return await self.other.send(self.owner.owner, "POST", an_inbound(), b"{}")

    @property
    def port(self) -> int:
        """The port of the owner."""
        return self._owner.port

    @property
    def accepted(self) -> Served:
        """The owner's port, where clients are, too."""
        return self._owner

    async def stop(self) -> None:
        """Close; nothing may be left behind."""
        self.other.close()
        for client in self._owner.clients:
            client.close()
        await soon(
            lambda: not (self.server.connections or self._owner.server.connections),
            "connections of the owner to end",
        )
        await self.server.drain(0)
        await self._owner.server.drain(0)
        assert self.server.held == 0
        assert not self._owner.problems


def an_inbound() -> Request:
    """A request of a client."""
    head = RequestHead("POST", "/mcp", [(b"content-type", b"application/json")])
    head.context = RequestContext(head)
    return Request(head)


def client_hello(name: str, context: ssl.SSLContext | None = None) -> bytes:
    """The first bytes of a TLS connection to a server of this name."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = context or ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def connect(port: int, context: ssl.SSLContext, name: str) -> bytes:
    """Connect by TLS, ask for something, and return what comes. Raises OSError."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    try:
        writer.write(b"POST /mcp HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}")
        async with asyncio.timeout(10):
            return await reader.read(65536)
    finally:
        writer.transport.abort()


async def is_refused(port: int, context: ssl.SSLContext, name: str) -> bool:
    """Return True if a connection by TLS ends without an answer."""
    try:
        return await connect(port, context, name) == b""
    except OSError:
        return True
