"""Several instances of one proxy in this process, and a backend that counts its watchers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder
from mcpproxy.proxy.instances.watch_sharing import WatchSharing
from mcpproxy.proxy.protocol.kinds import TOOLS
from mcpproxy.proxy.upstream.monitor.shared.watch_share import WatchShare
from scripts.ports import ports_in_a_row
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import soon

LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


class WatchedBackend:
    """A peer with one page of tools, and its open streams of announcements."""

    def __init__(self, era: str) -> None:
        self.peer = Peer("p", era)
        self.peer.tools = {"echo": self.peer.echo}
        self.streams = 0
        """Open streams: of an HTTP GET, or of subscriptions/listen."""

    @property
    def lists(self) -> int:
        """The number of requests for lists so far."""
        return sum(self.peer.gate.count(method) for method in LISTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = scope["type"] == "http" and scope["method"] == "GET"
        self.streams += streams

        async def recorded() -> Message:
            nonlocal streams
            message = await receive()
            if not streams and b"subscriptions/listen" in message.get("body", b""):
                streams = True
                self.streams += 1
            return message

        try:
            await self.peer.gate(scope, recorded, send)
        finally:
            self.streams -= streams


@dataclass
class Instances:
    """Instances of one proxy, by port, in front of the backend `p`."""

    backend: WatchedBackend
    proxies: dict[int, Proxy] = field(default_factory=dict)

    def share(self, port: int) -> WatchShare:
        """The watch of the backend in an instance."""
        return self.proxies[port].runtime.gateway.backends["p"].watch.share

    def sharing(self, port: int) -> WatchSharing:
        """The division of the watches in an instance."""
        sharing = self.proxies[port].runtime.gateway.watches
        assert sharing is not None
        return sharing

    def peers(self, port: int) -> PeerForwarder:
        """The connections of an instance to the others."""
        front = self.proxies[port].runtime._front
        assert front is not None
        return front.peers

    @property
    def watchers(self) -> list[int]:
        """The instances that watch the backend."""
        return [port for port in self.proxies if self.share(port).watches]

    async def until_watched_by(self, count: int) -> list[int]:
        """Wait until so many instances watch the backend; return their ports."""
        await soon(
            lambda: len(self.watchers) == self.backend.streams == count,
            f"{count} of the instances to watch the backend",
        )
        return self.watchers

    async def until_listed(self, tool: str) -> None:
        """Wait until all instances list a tool."""
        await soon(
            lambda: all(tool in self._tools(port) for port in self.proxies),
            f"all instances to list {tool}",
        )

    def _tools(self, port: int) -> frozenset[str]:
        return frozenset(self.proxies[port].runtime.gateway.catalog.names("p", TOOLS))

    async def stop(self, port: int) -> None:
        """Stop an instance as SIGTERM does."""
        await self.proxies.pop(port).stop()


@asynccontextmanager
async def instances(count: int, era: str = "legacy", **backend: Any) -> AsyncIterator[Instances]:
    """So many instances in front of one backend, which know each other's addresses."""
    first = ports_in_a_row(count)
    ports = range(first, first + count)
    names = tuple(("127.0.0.1", port) for port in ports)
    async with AsyncExitStack() as stack:
        watched = WatchedBackend(era)
        base = await stack.enter_async_context(serving(watched))
        result = Instances(watched)
        for port in ports:
            options = {"port": port, "instances": names, "keys": (KEY,)}
            content = {"name": "p", "url": f"{base}/mcp", **backend}
            proxy = proxied(content, options=options)
            result.proxies[port] = await stack.enter_async_context(proxy)
        yield result
