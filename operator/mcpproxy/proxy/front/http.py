"""The MCP endpoint over streamable HTTP, both eras.

What every request passes: path, Host and Origin. Then the header Mcp-Protocol-Version says which
era it belongs to.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpproxy.proxy.core.seal import Sealer
from mcpproxy.proxy.core.sessions import LIFETIME
from mcpproxy.proxy.front.guard import Guard
from mcpproxy.proxy.front.handover import PRINCIPAL, Peers
from mcpproxy.proxy.front.http_legacy import LegacyHttp
from mcpproxy.proxy.front.http_modern import ModernHttp
from mcpproxy.proxy.front.live import LiveSessions, StandingCaller
from mcpproxy.proxy.front.parking import Parking
from mcpproxy.proxy.front.reply import Reply
from mcpproxy.proxy.front.request import Head, HttpRefusal, Inbound
from mcpproxy.proxy.gateway import Gateway
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire.revisions import LEGACY

SESSION_IDLE: Final = 1800.0
REAP_EVERY: Final = 30.0
_LEGACY: Final = frozenset(revision.encode() for revision in LEGACY)


class HttpFront:
    """Serves one gateway on one path."""

    def __init__(
        self, gateway: Gateway, sealer: Sealer, guard: Guard, address: str, path: str
    ) -> None:
        """`address` is where other instances reach this process, `path` where the endpoint is."""
        self._gateway = gateway
        self._guard = guard
        self._path = path.rstrip("/")
        self.peers = Peers(sealer, address, self._path or "/")
        self.peers.passed = gateway.passed
        self.live = LiveSessions(sealer, self.peers.owner, SESSION_IDLE)
        parking = Parking(sealer, self.peers.owner, time.time)
        self._legacy = LegacyHttp(gateway, sealer, self.live, self.peers)
        self._modern = ModernHttp(gateway, parking, self.peers)
        self._parking = parking
        self._reaper: asyncio.Task[None] | None = None
        gateway.set_standing(lambda client: StandingCaller(client, self.live))
        gateway.metrics.sessions.set_function(lambda: len(self.live))
        gateway.metrics.parked.set_function(lambda: parking.count)

    def start(self) -> None:
        """Begin to look after what clients leave behind."""
        self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY)
            await self.live.reap(asyncio.get_running_loop().time(), LIFETIME)

    def drain(self) -> None:
        """The process stops: streams of changes end properly, calls go on to their end."""
        self._legacy.end_streams()
        self.live.end_streams()
        self._modern.end_streams()

    def close(self) -> None:
        """Cancel what still waits for clients."""
        self._parking.close()
        self.peers.close()
        if self._reaper is not None:
            self._reaper.cancel()

    def screened(self, inbound: Inbound) -> HttpRefusal | None:
        """See App: what is not meant for us is not read."""
        if inbound.path != self._path and inbound.path.rstrip("/") != self._path:
            return HttpRefusal(404, f"there is nothing at this path; the endpoint is {self._path}")
        if not self._guard.admits_host(inbound.headers.get(b"host")):
            return HttpRefusal(421, "the Host header names another server")
        if not self._guard.admits_origin(inbound.headers.get(b"origin")):
            return HttpRefusal(403, "requests of this Origin are not allowed")
        return None

    def at_once(self, inbound: Inbound, reply: Reply) -> bool:
        """See App."""
        if self._gateway.tracing is not None:
            self._gateway.tracing.receive(inbound.headers)
        way = inbound.head.way or self._found_way(inbound.head)
        return way(inbound, reply)

    def _found_way(self, head: Head) -> Callable[[Inbound, Reply], bool]:
        version = head.headers.get(h.PROTOCOL_VERSION)
        if head.method != "POST" or not head.fits:
            head.way = _takes_a_task
        elif version is None or version in _LEGACY:
            head.way = self._legacy.at_once
        else:
            head.way = self._modern.at_once
        return head.way

    def serve(self, inbound: Inbound, reply: Reply) -> Coroutine[Any, Any, None]:
        """See App."""
        version = inbound.headers.get(h.PROTOCOL_VERSION)
        if version is None or version in _LEGACY:
            return self._legacy.serve(inbound, reply)
        return self._modern.serve(inbound, reply)


class InstanceFront:
    """Serves what other instances hand over, on connections where they have proven the key."""

    def __init__(self, front: HttpFront, gateway: Gateway) -> None:
        self._front = front
        self._gateway = gateway

    def screened(self, inbound: Inbound) -> HttpRefusal | None:
        """See App: the instance that has the client has checked it."""
        return None

    def at_once(self, inbound: Inbound, reply: Reply) -> bool:
        """See App."""
        if self._gateway.tracing is not None:
            self._gateway.tracing.receive(inbound.headers)
        return False

    def serve(self, inbound: Inbound, reply: Reply) -> Coroutine[Any, Any, None]:
        """See App."""
        inbound.handed_over = True
        inbound.head.vouch(inbound.headers.get(PRINCIPAL, b"").decode("latin-1"))
        return self._front.serve(inbound, reply)


def _takes_a_task(inbound: Inbound, reply: Reply) -> bool:
    """Requests of which none can be answered at once."""
    return False
