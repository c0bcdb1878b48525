"""A session over one stream each way: whom its messages are for."""

import asyncio
import json
from typing import Any

from msgspec import Raw

from mcpproxy.proxy.back.duplex import DuplexLink
from mcpproxy.proxy.back.link import Background, Greeting, Outgoing
from mcpproxy.proxy.core.exchange import Client, Discarding
from mcpproxy.proxy.wire.jsonrpc import Message

MODERN = "2026-07-28"


class Pipe:
    """A channel whose other end is the test."""

    answers_late = False

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._coming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, body: bytes) -> None:
        self.sent.put_nowait(json.loads(body))

    async def receive(self) -> bytes | None:
        return await self._coming.get()

    async def close(self) -> None:
        self._coming.put_nowait(None)

    def says(self, **message: Any) -> None:
        self._coming.put_nowait(json.dumps({"jsonrpc": "2.0", **message}).encode())


class Listener(Discarding):
    """A caller that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(Client(MODERN))
        self.heard: list[str] = []

    async def notify(self, message: Message) -> None:
        self.heard.append(json.loads(bytes(message["method"])))


async def test_the_acknowledgement_of_our_own_listening_reaches_no_caller() -> None:
    pipe, background, caller = Pipe(), Background(), Listener()
    link = DuplexLink(pipe, background)
    link.greeting = Greeting(MODERN, {})

    async def announced(message: Message) -> None:
        raise AssertionError(message)

    listening = asyncio.create_task(link.listen(Listener(), announced, lambda: None))
    assert (await pipe.sent.get())["method"] == "subscriptions/listen"
    call = asyncio.create_task(link.request(Outgoing(Raw(b"7"), "tools/call", {}), caller))
    sent = await pipe.sent.get()
    pipe.says(method="notifications/subscriptions/acknowledged", params={"notifications": {}})
    pipe.says(method="notifications/message", params={"level": "info", "data": "working"})
    pipe.says(id=sent["id"], result={})
    assert bytes((await call)["id"]) == b"7"
    assert caller.heard == ["notifications/message"]
    listening.cancel()
    await link.close()
    await background.close()
