"""Sessions with a backend that opens fake links."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from mcpproxy.proxy.back.link import Background, Greeting, Link, OnMessage, Outgoing
from mcpproxy.proxy.back.sessions import Sessions
from mcpproxy.proxy.core.exchange import Caller, Client
from mcpproxy.proxy.wire.jsonrpc import Message

Mode = Literal["Isolated", "PerClient", "Reused"]
ANN: Final = Client("2025-11-25", b'{"sampling":{}}', None, "ann", "session-ann")
BO: Final = Client("2025-11-25", b"{}", None, "bo", "session-bo")


class FakeLink:
    """A session that notes its end."""

    def __init__(self, client: Client, stateful: bool = True) -> None:
        self.client = client
        self.greeting = Greeting("2025-11-25", {})
        self.stateful = stateful
        self.alive = True
        self.closed = asyncio.Event()

    async def request(self, outgoing: Outgoing, caller: Caller) -> Message:
        """See Link."""
        return {}

    def begin(self, outgoing: Outgoing, client: Client, done: Callable[[], None]) -> None:
        """See Link."""

    def completes(self, outgoing: Outgoing) -> bool:
        """See Link."""
        return False

    async def notify(self, message: Message, client: Client | None = None) -> None:
        """See Link."""

    async def listen(
        self,
        standing: Caller,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link."""
        ready()
        await self.closed.wait()

    async def close(self) -> None:
        """See Link."""
        self.closed.set()


class Stage:
    """Sessions with a backend that opens fake links."""

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
        self.background = Background()
        self.sessions = Sessions(self.open, mode, declared, idle, self.background, warm_each)

    async def open(self, client: Client) -> Link:
        """See Sessions."""
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        link = FakeLink(client, self.stateful)
        link.greeting = Greeting(self.era, {})
        self.opened.append(link)
        return link

    async def used(self, client: Client) -> Any:
        """The link of one request that is over."""
        async with self.sessions.use(client) as link:
            return link

    @property
    def open_now(self) -> int:
        """Links that were not closed."""
        return sum(not link.closed.is_set() for link in self.opened)


async def settled() -> None:
    """Let everything run that needs no waiting."""
    for _ in range(20):
        await asyncio.sleep(0)
