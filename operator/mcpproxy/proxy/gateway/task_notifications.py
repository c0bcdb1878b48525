"""Notifications of tasks: one listen at each backend that has tasks of a client's listen.

What is announced to all clients comes over one stream that the watch of a backend has. States of
tasks are for one client alone, so they are asked for in its name.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Raw

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.core.translation import era_translation
from mcpproxy.proxy.core.translation.result_names import TASK_NOTIFICATIONS, to_downstream_message
from mcpproxy.proxy.gateway.router import Route
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import ACKNOWLEDGED, UpstreamRequest

LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED_WITHIN: Final = 5.0
"""Seconds that the backends have to acknowledge; the client polls those that they don't."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a stream that broke is opened again; the last pause stays."""
Told = Callable[[Message], None]
_listens: Final = itertools.count(1)


class TaskNotifications:
    """The streams of one client's listen."""

    def __init__(self, client: ClientIdentity, told: Told) -> None:
        """`told` takes the notifications, with the names that the client knows."""
        self._client = client
        self._told = told
        self._running: list[asyncio.Task[None]] = []

    async def open(self, routes: Iterable[Route]) -> list[str]:
        """Open the streams for tasks; the ids, as the client knows them, that are acknowledged."""
        by_backend: dict[str, dict[str, str]] = {}
        backends: dict[str, Backend] = {}
        for route in routes:
            backends[route.backend.name] = route.backend
            own = route.name if route.own is None else jsonrpc.decode_str(route.own) or ""
            by_backend.setdefault(route.backend.name, {})[own] = route.name
        streams = [
            _TaskStream(backends[name], ids, self._client, self._told)
            for name, ids in by_backend.items()
        ]
        self._running = [asyncio.create_task(stream.run()) for stream in streams]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACKNOWLEDGED_WITHIN):
                for stream in streams:
                    await stream.answered.wait()
        return [shown for stream in streams for shown in stream.acknowledged]

    def close(self) -> None:
        """End them."""
        for task in self._running:
            task.cancel()


class _TaskStream(NullContext):
    """One listen at one backend, which takes what comes over it."""

    def __init__(
        self, backend: Backend, ids: Mapping[str, str], client: ClientIdentity, told: Told
    ) -> None:
        """`ids` are those of the backend, and as the client knows them."""
        super().__init__(client)
        self.acknowledged: list[str] = []
        """Ids, as the client knows them, that the backend has acknowledged."""
        self.answered = asyncio.Event()
        """Set once the backend has acknowledged, or will not."""
        self._backend = backend
        self._ids = ids
        self._told = told

    async def run(self) -> None:
        """Listen until the backend has nothing more to tell, or has never acknowledged."""
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            try:
                await self._listen()
                return
            except (BackendError, RpcError):
                if not self.acknowledged:
                    return
            finally:
                self.answered.set()
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        wanted = jsonrpc.encode_raw({"taskIds": list(self._ids)})
        async with self._backend.sessions.acquire(self.client) as link:
            if not link.greeting.modern:
                return
            revision = link.greeting.revision
            params = era_translation.add_client_meta(
                {"notifications": wanted}, self.client, revision, None
            )
            request_id = Raw(b'"mcpproxy-tasks-%d"' % next(_listens))
            await link.request(UpstreamRequest(request_id, LISTEN, params), self)

    async def notify(self, message: Message) -> None:
        method = jsonrpc.decode_str(message["method"])
        if method == ACKNOWLEDGED:
            params = jsonrpc.decode(message.get("params"))
            honoured = params.get("notifications") if isinstance(params, dict) else None
            own = honoured.get("taskIds") if isinstance(honoured, dict) else None
            known = own if isinstance(own, list) else []
            self.acknowledged = [self._ids[one] for one in self._ids if one in known]
            self.answered.set()
        elif method in TASK_NOTIFICATIONS:
            self._told(to_downstream_message(message, self._backend.names, self.client.principal))
