"""Task notifications: one `subscriptions/listen` at each backend with tasks of a client's listen.

Notifications for all clients arrive over a stream of the backend's monitor. Task states are for one
client only, so they need a stream in the name of the client.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Raw

from mcpproxy.backoff import Backoff
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.core.translation import era_translation
from mcpproxy.proxy.core.translation.result_names import TASK_NOTIFICATIONS, to_downstream_message
from mcpproxy.proxy.gateway.routing.route_finder import Route
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import (
    ACKNOWLEDGED,
    UpstreamRequest,
    UpstreamSession,
)

LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED_WITHIN: Final = 5.0
"""Seconds for backends to acknowledge; clients must poll all other tasks."""
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 30.0
"""Seconds before a broken stream is opened again; they double from the first on."""
_OF_RESULTS: Final = ("resultType", "_meta")
"""Fields of the result of `tasks/get` that are not the task's."""
NotificationHandler = Callable[[Message], None]
_listens: Final = itertools.count(1)


class TaskNotifications:
    """Streams of one client's listen."""

    def __init__(self, client: ClientIdentity, on_notification: NotificationHandler) -> None:
        """Create without streams. `on_notification` gets notifications with downstream names."""
        self._client = client
        self._on_notification = on_notification
        self._running: list[asyncio.Task[None]] = []

    async def open(self, routes: Iterable[Route]) -> list[str]:
        """Open the streams for tasks; return the acknowledged ids in their downstream form."""
        by_backend: dict[str, dict[str, str]] = {}
        backends: dict[str, Backend] = {}
        for route in routes:
            backends[route.backend.name] = route.backend
            upstream_id = route.name if route.own is None else jsonrpc.decode_str(route.own) or ""
            by_backend.setdefault(route.backend.name, {})[upstream_id] = route.name
        streams = [
            _TaskStream(backends[name], ids, self._client, self._on_notification)
            for name, ids in by_backend.items()
        ]
        self._running = [asyncio.create_task(stream.run()) for stream in streams]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACKNOWLEDGED_WITHIN):
                for stream in streams:
                    await stream.responded.wait()
        return [downstream_id for stream in streams for downstream_id in stream.acknowledged]

    def close(self) -> None:
        """Close the streams."""
        for task in self._running:
            task.cancel()


class _TaskStream(NullContext):
    """One listen at one backend, which receives the notifications of the stream."""

    def __init__(
        self,
        backend: Backend,
        ids: Mapping[str, str],
        client: ClientIdentity,
        on_notification: NotificationHandler,
    ) -> None:
        """Create a stream. `ids` map upstream to downstream ids."""
        super().__init__(client)
        self.acknowledged: list[str] = []
        """Downstream ids that the backend has acknowledged."""
        self.responded = asyncio.Event()
        """Set once the backend has acknowledged, or will not."""
        self._backend = backend
        self._ids = ids
        self._told: set[str] = set()
        """Upstream ids of the tasks with a notification since the stream was opened last."""
        self._open = asyncio.Event()
        """Set while the backend has acknowledged the current stream."""
        self._on_notification = on_notification

    async def run(self) -> None:
        """Listen until the backend ends the stream, or fails before it acknowledges."""
        backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)
        while True:
            try:
                await self._listen(is_reopened=bool(self.acknowledged))
                return
            except (BackendError, RpcError):
                if not self.acknowledged:
                    return
            finally:
                self.responded.set()
            await asyncio.sleep(backoff.record_failure())

    async def _listen(self, *, is_reopened: bool) -> None:
        wanted = jsonrpc.encode_raw({"taskIds": list(self._ids)})
        async with self._backend.sessions.acquire(self.client) as link:
            if not link.server.modern:
                return
            self._told.clear()
            self._open.clear()
            catching_up = asyncio.create_task(self._catch_up(link)) if is_reopened else None
            try:
                await self._request(link, LISTEN, {"notifications": wanted}, self)
            finally:
                if catching_up is not None:
                    catching_up.cancel()

    async def _request(
        self, link: UpstreamSession, method: str, params: Message, caller: CallContext
    ) -> Message:
        params = era_translation.add_client_meta(params, self.client, link.server.revision, None)
        request_id = Raw(b'"mcpproxy-tasks-%d"' % next(_listens))
        return await link.request(UpstreamRequest(request_id, method, params), caller)

    async def _catch_up(self, link: UpstreamSession) -> None:
        """Notify of the present states of all tasks, because changes may have been missed."""
        await self._open.wait()
        for task_id in list(self._ids):
            params = {"taskId": jsonrpc.encode_raw(task_id)}
            try:
                answer = await self._request(link, "tasks/get", params, NullContext(self.client))
                task = jsonrpc.decode_object(answer.get("result", jsonrpc.EMPTY))
            except (BackendError, RpcError):
                continue
            if task_id not in self._told and "status" in task:
                state = {name: raw for name, raw in task.items() if name not in _OF_RESULTS}
                await self.notify(
                    {
                        "jsonrpc": jsonrpc.VERSION,
                        "method": jsonrpc.encode_raw(TASK_NOTIFICATIONS[0]),
                        "params": jsonrpc.encode_raw(state),
                    }
                )

    def _wanted_task(self, message: Message) -> str | None:
        """Return the task of a notification; None if the client does not listen to it, whatever
        the backend sends."""
        params = jsonrpc.decode(message.get("params"))
        task_id = params.get("taskId") if isinstance(params, dict) else None
        return task_id if isinstance(task_id, str) and task_id in self._ids else None

    async def notify(self, message: Message) -> None:
        method = jsonrpc.decode_str(message["method"])
        if method == ACKNOWLEDGED:
            params = jsonrpc.decode(message.get("params"))
            honoured = params.get("notifications") if isinstance(params, dict) else None
            task_ids = honoured.get("taskIds") if isinstance(honoured, dict) else None
            acknowledged = task_ids if isinstance(task_ids, list) else []
            self.acknowledged = [
                self._ids[task_id] for task_id in self._ids if task_id in acknowledged
            ]
            self.responded.set()
            self._open.set()
        elif method in TASK_NOTIFICATIONS and (task_id := self._wanted_task(message)) is not None:
            self._told.add(task_id)
            self._on_notification(
                to_downstream_message(message, self._backend.names, self.client.principal)
            )
