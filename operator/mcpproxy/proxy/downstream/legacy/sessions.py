"""Process-local state of legacy sessions: running requests, server requests, the stream.

An idle session has no state here, because its id carries everything necessary.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import ENDED_SESSIONS, LIVE_SESSIONS
from mcpproxy.limits.instances import SHARED_WITH
from mcpproxy.proxy.core.exchange import (
    ClientIdentity,
)
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.downstream.legacy.event_store import EventStore, StreamLog
from mcpproxy.proxy.downstream.legacy.sent_requests import SentRequests
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.fair_shares import FairShares, Holder
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.relay import Call

MAX_SPARE: Final = 64


@dataclass(slots=True)
class RunningRequest:
    """Request that runs in a task, and ends with it."""

    task: "asyncio.Task[Any] | None"
    cancelled: bool = False

    def cancel(self, cause: Message | None) -> None:
        """Cancel the task for the client."""
        if self.task is not None:
            self.cancelled = True
            self.task.cancel(cause)


@dataclass(slots=True)
class SessionState:
    """State of one session in this process."""

    log_level: str | None = None
    used_at: float = 0.0
    in_flight: dict[bytes, RunningRequest | Call] = field(default_factory=dict)
    cancelled: dict[bytes, tuple[Call, Message | None]] = field(default_factory=dict)
    """Calls that the client has cancelled and that no task has taken over, with the causes."""
    asked: SentRequests = field(default_factory=SentRequests)
    stream: MessageQueue | None = None
    synced_until: float = 0.0
    """The time at which this instance asks the owner, another instance, for its state again."""
    is_copy: bool = False
    """True while the log level is that of the owner, another instance."""
    has_own_level: bool = False
    """True if the client has set the log level while the owner was unavailable."""
    shared_with: dict[str, None] = field(default_factory=dict)
    """Other instances that serve the session, in the order of their latest synchronization."""
    subscriptions: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """Resource → canceller of the subscription."""
    users: list[float] = field(default_factory=list)
    """The times at which requests and streams have begun to use this object."""
    kept: bool = False
    """True if the session is counted among those with state between requests."""

    def mark_kept(self, kept: bool) -> None:
        """Record whether the session is counted among those with state between requests."""
        self.kept = kept

    def attach(self, stream: MessageQueue) -> None:
        """Send the messages that belong to no request to this stream."""
        self.stream = stream

    def detach(self, stream: MessageQueue) -> None:
        """Stop to send messages to this stream."""
        if self.stream is stream:
            self.stream = None

    def synchronize(self, log_level: str | None, until: float) -> None:
        """Take over the state of the owner until a time; without a level, keep this instance's."""
        self.log_level = log_level or self.log_level
        self.synced_until, self.is_copy = until, True

    def stand_in(self, until: float) -> None:
        """Serve the session without its owner, which is unavailable, until a time."""
        self.synced_until, self.is_copy = until, False

    def mark_own_level(self, own: bool) -> None:
        """Record whether the owner does not know the log level that the client has set."""
        self.has_own_level, self.is_copy = own, not own

    @property
    def stands_in(self) -> bool:
        """True if this instance serves the session without its owner."""
        return self.synced_until > 0.0 and not self.is_copy

    def is_synced(self, now: float) -> bool:
        """Return True if this instance need not ask the owner for its state now."""
        return now < self.synced_until

    @property
    def idle(self) -> bool:
        """True if dropping the session would lose nothing."""
        held = self.in_flight or self.asked or self.stream or self.subscriptions
        return not (held or self.log_level or self.shared_with or self.synced_until)

    @property
    def restorable(self) -> bool:
        """True if synchronization restores the state with the next request of the session."""
        return not (self.asked or self.subscriptions or (self.log_level and not self.is_copy))

    @property
    def in_use(self) -> bool:
        """True if a request or stream uses the session."""
        return bool(self.users or self.in_flight or self.stream)

    def share_with(self, owner: str) -> None:
        """Record that another instance serves the session; it then gets all changes."""
        self.shared_with.pop(owner, None)
        if len(self.shared_with) >= SHARED_WITH.value:
            SHARED_WITH.record()
            del self.shared_with[next(iter(self.shared_with))]
        self.shared_with[owner] = None

    def updated(self, message: Message) -> None:
        """Announce the change of a subscribed resource."""
        if self.stream is not None:
            self.stream.announce(jsonrpc.encode(message))

    async def unsubscribe(self) -> None:
        """Cancel all subscriptions."""
        while self.subscriptions:
            _, end = self.subscriptions.popitem()
            await end()

    def cancel(self, request_id: bytes | Raw, cause: Message | None = None) -> None:
        """Cancel a request for the client; `cause` is the client's notification."""
        key = jsonrpc.id_key(request_id)
        running = self.in_flight.get(key)
        if isinstance(running, Call):
            # Only a task can be cancelled, which takes the request over first.
            self.cancelled[key] = running, cause
            running.detach()
        elif running is not None:
            running.cancel(cause)

    def take_over(self, key: bytes, running: RunningRequest, call: Call | None) -> None:
        """Let a task run a request, which may have begun as a call without one."""
        self.in_flight[key] = running
        cancelled, cause = self.cancelled.pop(key, (None, None))
        if call is not None and cancelled is call:
            running.cancel(cause)

    def drop(self, call: Call) -> None:
        """Forget a call whose task has ended, if the task has not taken it over."""
        key = jsonrpc.id_key(call.request.id)
        if self.in_flight.get(key) is call:
            del self.in_flight[key]
        if self.cancelled.get(key, (None, None))[0] is call:
            del self.cancelled[key]


class SessionRegistry:
    """Sessions with state in this process, and terminated sessions."""

    def __init__(self, sealer: Sealer, owner: str, idle: float) -> None:
        """Create an empty registry. `owner` is this process's address; `idle` is in seconds."""
        self._sealer = sealer
        self._owner = owner
        self._idle = idle
        self.logs = EventStore()
        """Logs of resumable streams."""
        self._live: dict[str, SessionState] = {}
        self._spare: list[SessionState] = []
        self._kept: FairShares[str] = FairShares(LIVE_SESSIONS.value)
        """Holders of the sessions with state between requests."""
        self.ended: dict[str, float] = {}
        """Terminated sessions, and the time of their end."""
        self._enders: FairShares[str] = FairShares(ENDED_SESSIONS.value)
        """Holders of terminated sessions.

        A session id that is evicted from here is accepted again until it expires.
        """
        self._background: set[asyncio.Future[object]] = set()
        self._questions = itertools.count(1)

    def acquire(self, session: str, now: float) -> SessionState:
        """Return the state of a session for a request or stream; create it if necessary.

        Its user calls `release` once at the end.
        """
        live = self._live.get(session)
        if live is None:
            live = self._live[session] = self._spare.pop() if self._spare else SessionState()
        live.used_at = now
        live.users.append(now)
        return live

    def find(self, session: str) -> SessionState | None:
        """Return the state of a session, or None."""
        return self._live.get(session)

    def release(self, client: ClientIdentity, live: SessionState) -> None:
        """Handle the end of a request or stream: drop its session if it has no state left."""
        session = client.session
        live.users.pop()
        # A session may have been terminated and created again while it was used.
        if self._live.get(session) is not live or live.in_flight:
            return
        if not live.idle:
            self._keep(client, live)
        elif not live.users:
            del self._live[session]
            if live.kept:
                live.mark_kept(False)
                self._kept.discard(session)
            if len(self._spare) < MAX_SPARE:
                # Without state and users, it can be another session's.
                self._spare.append(live)

    def _keep(self, client: ClientIdentity, live: SessionState) -> None:
        """Keep a session between its requests; beyond the limit, terminate another one."""
        if live.kept:
            self._kept.touch(client.session)
            return
        if self._kept.is_full:
            LIVE_SESSIONS.record()
            ending = self._kept.choose(self._may_end)
            if ending is not None:
                self._end_kept(ending, live.used_at)
        live.mark_kept(True)
        self._kept.add(client.session, client.holder)

    def _may_end(self, session: str) -> bool:
        live = self._live.get(session)
        return live is None or not live.in_use

    def _end_kept(self, session: str, now: float) -> None:
        """Drop a session to make room; if state is lost, its client gets an error."""
        live = self._live.pop(session, None)
        if live is None or not live.restorable:
            self._remember(session, self._kept.holder(session), now)
        self._kept.discard(session)
        if live is not None:
            self._unsubscribe(live)

    def _unsubscribe(self, live: SessionState) -> None:
        """Cancel subscriptions in the background, because each may take a backend some time."""
        if live.subscriptions:
            self.spawn(live.unsubscribe())

    def spawn(self, work: Coroutine[Any, Any, object]) -> "asyncio.Future[object]":
        """Run a coroutine in the background."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def close(self) -> None:
        """Cancel the background tasks."""
        for task in self._background:
            task.cancel()

    async def end(self, client: ClientIdentity, now: float) -> None:
        """Terminate a session for its client."""
        session = client.session
        self.mark_terminated(client, now)
        self.logs.drop(session)
        self._kept.discard(session)
        live = self._live.pop(session, None)
        if live is not None:
            if live.stream is not None:
                live.stream.end()
            for request_id in list(live.in_flight):
                live.cancel(request_id)
            await live.unsubscribe()

    def open_log(self, client: ClientIdentity) -> StreamLog:
        """Open a log for a stream; its sealed name contains the address of this process."""
        name = self._sealer.seal("stream", {"o": self._owner, "n": next(self._questions)})
        return self.logs.open(name, client.session, client.holder)

    def owner_of_stream(self, name: str) -> str | None:
        """Return the owner of the stream with this name, or None if the name is invalid."""
        return self._unseal_owner("stream", name)

    def owner_of_request(self, question_id: Raw) -> str | None:
        """Return the owner of the server request with this id, or None if the id is invalid."""
        return self._unseal_owner("question", jsonrpc.decode_str(question_id) or "")

    def _unseal_owner(self, purpose: str, token: str) -> str | None:
        try:
            owner: str = self._sealer.open(purpose, token)["o"]
        except InvalidToken:
            return None
        return owner

    def mark_terminated(self, client: ClientIdentity, now: float) -> None:
        """Reject a session from now on, because its state is lost."""
        self._remember(client.session, client.holder, now)

    def _remember(self, session: str, holder: Holder, now: float) -> None:
        """Record that a session was terminated."""
        self.ended.pop(session, None)
        self.ended[session] = now
        if self._enders.is_full and session not in self._enders:
            ENDED_SESSIONS.record()
            oldest = self._enders.choose()
            if oldest is not None:
                self._forget_ended(oldest)
        self._enders.add(session, holder)

    def _forget_ended(self, session: str) -> None:
        del self.ended[session]
        self._enders.discard(session)

    def question_id(self) -> bytes:
        """Return an id for a server request, with the sealed address of this process."""
        content = {"o": self._owner, "n": next(self._questions)}
        return jsonrpc.encode(self._sealer.seal("question", content))

    def reap(self, now: float, lifetime: float) -> None:
        """Drop sessions that were unused for too long, and records that expired."""
        self.logs.forget(now)
        for session, live in list(self._live.items()):
            if live.in_use:
                continue
            if live.idle:
                del self._live[session]
                self._kept.discard(session)
            elif now - live.used_at > self._idle:
                del self._live[session]
                self._kept.discard(session)
                self._unsubscribe(live)
        while self.ended and now - next(iter(self.ended.values())) > lifetime:
            self._forget_ended(next(iter(self.ended)))

    def __len__(self) -> int:
        return len(self._live)
