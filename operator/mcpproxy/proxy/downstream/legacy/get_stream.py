"""GET streams of sessions: messages that belong to no request, and resumed streams."""

import asyncio
import contextlib
import time
from typing import Any

from mcpproxy.limits.clients import STANDING_ANSWER
from mcpproxy.proxy.core.exchange import (
    NOT_OFFERED,
    ClientIdentity,
    NotificationHandler,
    ResumableStream,
)
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.downstream.legacy.event_store import EventsEvicted, StreamLog
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import PING_EVERY, ResponseWriter
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message


class SessionStreamContext:
    """Call context outside of requests: messages go to the session's stream (HTTP GET)."""

    resumption: ResumableStream | None = None

    def __init__(self, client: ClientIdentity, sessions: SessionRegistry) -> None:
        self.client = client
        self.log_level: str | None = None
        self._sessions = sessions

    async def notify(self, message: Message) -> None:
        # Dropped without a stream.
        live = self._sessions.find(self.client.session)
        if live is not None and live.stream is not None:
            live.stream.put(jsonrpc.encode(message))

    async def ask(
        self, request: Message, on_notification: NotificationHandler | None = None
    ) -> Message:
        live = self._sessions.find(self.client.session)
        if live is None or live.stream is None:
            return {"error": NOT_OFFERED}
        stream = live.stream

        async def put(message: bytes) -> None:
            stream.put(message)

        try:
            async with asyncio.timeout(STANDING_ANSWER.value):
                request_id = self._sessions.question_id()
                return await live.asked.send(request_id, request, on_notification, put)
        except TimeoutError:
            return {"error": NOT_OFFERED}


class RelayedStreams:
    """Streams of sessions that other instances serve and this one forwards to clients."""

    def __init__(self, peers: PeerForwarder) -> None:
        self._peers = peers
        self._relayed: dict[asyncio.Task[Any], Identity] = {}

    async def relay(self, owner: str, inbound: Request, reply: ResponseWriter) -> None:
        """Forward the stream of another instance until one of the two stops.

        Raise PeerUnavailable or HttpError.
        """
        task = asyncio.current_task()
        assert task is not None
        self._relayed[task] = inbound.head.context.identity
        try:
            await self._peers.forward(owner, inbound, reply)
        except asyncio.CancelledError:
            if task in self._relayed:
                raise
            task.uncancel()
            await reply.end()
        finally:
            self._relayed.pop(task, None)

    def end(self) -> None:
        """End all streams."""
        self._end(list(self._relayed))

    def end_revoked(self, issuer: str, subject: str | None) -> None:
        """End the streams of callers whose credentials may count no longer.

        Their owner may have read the new keys before the client opened the stream here.
        """
        relayed = self._relayed.items()
        self._end([task for task, who in relayed if who.is_of(issuer, subject)])

    def _end(self, tasks: "list[asyncio.Task[Any]]") -> None:
        for task in tasks:
            del self._relayed[task]
            task.cancel()


async def pump(stream: MessageQueue, reply: ResponseWriter) -> None:
    """Send the messages of a queue until it ends."""
    await reply.ping()
    while True:
        try:
            message = await stream.get(PING_EVERY)
        except TimeoutError:
            await reply.ping()
            continue
        if message is None:
            await reply.end()
            return
        await reply.event(message)


async def resume(
    log: StreamLog, after: int, reply: ResponseWriter, identity: Identity = ANONYMOUS
) -> None:
    """Send the events after event `after` of a stream that broke off, until it ends.

    Send none after the caller's token has expired.
    """
    reply.keep_alive()
    current = asyncio.current_task()
    assert current is not None
    reply.on_disconnect(current.cancel)
    await reply.ping()
    with contextlib.suppress(EventsEvicted, TimeoutError):
        async with asyncio.timeout(identity.stream_lifetime(time.time())):
            async for event_id, message in log.after(after):
                await reply.event(message, event_id)
    await reply.end()
