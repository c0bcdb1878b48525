"""A session pool of a backend with fake sessions."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.sessions.advance_openings import BeginOpen
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import (
    OnMessage,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)

Mode = Literal["Isolated", "PerClient", "Reused"]
ANN: Final = ClientIdentity("2025-11-25", b'{"sampling":{}}', None, "ann", "session-ann")
BO: Final = ClientIdentity("2025-11-25", b"{}", None, "bo", "session-bo")


class FakeLink:
    """A session that records its end."""

    def __init__(self, client: ClientIdentity, stateful: bool = True) -> None:
        self.client = client
        self.server = ServerDescription("2025-11-25", {})
        self.stateful = stateful
        self.alive = True
        self.closed = asyncio.Event()

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        return {}

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None: ...

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        ready()
        await self.closed.wait()

    async def close(self) -> None:
        self.closed.set()


class Stage:
    """A session pool whose sessions are fakes."""

    begin_open: BeginOpen | None = None
    """Opens a session by callbacks."""

    def __init__(
        self,
        mode: Mode = "Isolated",
        *,
        declared: bool = False,
        idle: float = 3600.0,
        warm_each: int = 2,
    ) -> None:
        self.opened: list[FakeLink] = []
        self.stateful = True
        self.era = "2025-11-25"
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.background = TaskSet()
        self.sessions = self.pool(mode, warm_each, declared, idle)

    def pool(
        self, mode: Mode, warm_each: int, declared: bool = False, idle: float = 3600.0
    ) -> SessionPool:
        """Return a pool of this backend's sessions."""
        return SessionPool(
            self.open,
            mode,
            declared,
            idle,
            self.background,
            warm_each,
            on_broadcast=_ignore,
            context_of=NullContext,
            begin_open=self.begin_open,
        )

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        link = FakeLink(client, self.stateful)
        link.server = ServerDescription(self.era, {})
        self.opened.append(link)
        return link

    async def used(self, client: ClientIdentity) -> Any:
        """Return the session of one request that is complete."""
        async with self.sessions.acquire(client) as link:
            return link

    @property
    def open_now(self) -> int:
        """Sessions that were not closed."""
        return sum(not link.closed.is_set() for link in self.opened)


async def _ignore(message: Message, client: ClientIdentity | None) -> None:
    """Ignore a broadcast."""


async def settled() -> None:
    """Run everything that does not wait for time to pass."""
    for _ in range(20):
        await asyncio.sleep(0)
