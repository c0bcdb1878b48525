"""What lives in one process for a legacy client: requests in flight, questions, its stream.

An idle session holds nothing here: its id carries what has to be known.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import ENDED_SESSIONS, LIVE_SESSIONS, STANDING_ANSWER
from mcpproxy.limits.instances import SHARED_WITH
from mcpproxy.proxy.core.exchange import (
    NOT_OFFERED,
    ClientIdentity,
    Told,
    cancelled_notification,
    cancelled_request_id,
)
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.downstream.direct_call import DirectCall
from mcpproxy.proxy.downstream.legacy.event_store import EventStore, StreamLog
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.fair_shares import FairShares, Holder
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

MAX_SPARE: Final = 64

Put = Callable[[bytes], Awaitable[None]]
"""Sends a message to a client's stream."""


@dataclass(slots=True)
class PendingServerRequest:
    """A question of a backend that the client has not answered yet."""

    waiting: "asyncio.Future[Message]"
    token: Raw | None
    """The backend's progress token for it."""
    told: Told | None


class SessionStreamContext:
    """A client outside of its requests: what comes goes onto its stream (HTTP GET)."""

    def __init__(self, client: ClientIdentity, sessions: "SessionRegistry") -> None:
        self.client = client
        self.log_level: str | None = None
        self._sessions = sessions

    async def notify(self, message: Message) -> None:
        """Without a stream nobody could take it."""
        live = self._sessions.find(self.client.session)
        if live is not None and live.stream is not None:
            live.stream.put(jsonrpc.encode(message))

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        live = self._sessions.find(self.client.session)
        if live is None or live.stream is None:
            return {"error": NOT_OFFERED}
        stream = live.stream

        async def put(message: bytes) -> None:
            stream.put(message)

        try:
            async with asyncio.timeout(STANDING_ANSWER.value):
                return await live.ask(self._sessions.question_id(), request, told, put)
        except TimeoutError:
            return {"error": NOT_OFFERED}

    async def streamed(self, retry: int | None) -> None: ...

    async def paused(self) -> None: ...


@dataclass(slots=True)
class RunningRequest:
    """A request that runs in a task, which ends with it."""

    task: "asyncio.Task[Any] | None"
    cancelled: bool = False


@dataclass(slots=True)
class SessionState:
    """One session, as far as this process has to do with it."""

    log_level: str | None = None
    used_at: float = 0.0
    in_flight: dict[bytes, RunningRequest | DirectCall] = field(default_factory=dict)
    asked: dict[bytes, PendingServerRequest] = field(default_factory=dict)
    """Our id of a question, which is its progress token, too → what the backend waits for."""
    stream: MessageQueue | None = None
    acquainted: bool = False
    """Whether another instance, its owner, has told us what it knows."""
    shared_with: dict[str, None] = field(default_factory=dict)
    """Other instances that serve it, in the order in which they asked first."""
    subscriptions: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """Resource → what ends the subscription to it."""
    kept: bool = False
    """Whether it is counted among those that keep something without a request."""

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if it were dropped."""
        held = self.in_flight or self.asked or self.stream or self.subscriptions
        return not (held or self.log_level or self.shared_with or self.acquainted)

    def share_with(self, owner: str) -> None:
        """Another instance serves the session, and is sent what changes in it from now on."""
        if owner not in self.shared_with and len(self.shared_with) >= SHARED_WITH.value:
            SHARED_WITH.record()
            del self.shared_with[next(iter(self.shared_with))]
        self.shared_with[owner] = None

    def updated(self, message: Message) -> None:
        """A resource that the client subscribed to has changed."""
        if self.stream is not None:
            self.stream.announce(jsonrpc.encode(message))

    async def unsubscribe(self) -> None:
        """End all subscriptions."""
        while self.subscriptions:
            _, end = self.subscriptions.popitem()
            await end()

    def cancel(self, request_id: bytes | Raw, cause: Message | None = None) -> None:
        """The client no longer wants the answer to a request; `cause` is how it said so."""
        found = self.in_flight.get(jsonrpc.id_key(request_id))
        if found is None:
            return
        if isinstance(found, DirectCall):
            # A task takes it over with its next step, and can be cancelled then.
            found.leave()
            asyncio.get_running_loop().call_soon(self.cancel, request_id, cause)
            return
        if found.task is not None:
            found.cancelled = True
            found.task.cancel(cause)

    async def ask(self, own: bytes, request: Message, told: Told | None, put: Put) -> Message:
        """Ask the client under an id of our own; the response. `put` sends to its stream.

        Cancelled for a cause, it tells the client that the question is withdrawn.
        """
        request, token = restore_progress_token(request, own if told else None)
        asked = PendingServerRequest(asyncio.get_running_loop().create_future(), token, told)
        self.asked[own] = asked
        try:
            await put(jsonrpc.encode({**request, "id": Raw(own)}))
            return await asked.waiting
        except asyncio.CancelledError as error:
            if (cause := cancelled_request_id(error)) is not None:
                await put(jsonrpc.encode(cancelled_notification(own, cause)))
            raise
        finally:
            del self.asked[own]

    def answer(self, message: Message) -> None:
        """The client answered a question of a backend; one that nobody waits for is dropped."""
        asked = self.asked.get(jsonrpc.id_key(message["id"]))
        if asked is not None and not asked.waiting.done():
            asked.waiting.set_result(message)

    async def progressed(self, message: Message) -> None:
        """The client says how far it is with its answer: the backend hears it, with its token."""
        asked = self.asked.get(jsonrpc.id_key(progress_token(message)))
        if asked is not None and asked.token is not None and asked.told is not None:
            params = jsonrpc.replace_member(message["params"], progressToken=asked.token)
            await asked.told({**message, "params": params})


def progress_token(message: Message) -> Raw:
    """The token of a progress notification; null without."""
    params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
    return params.get("progressToken", jsonrpc.NULL)


def restore_progress_token(request: Message, own: bytes | None) -> tuple[Message, Raw | None]:
    """A request whose progress token, if it has one, is `own` in its place; and its token."""
    if own is None or "params" not in request:
        return request, None
    params = jsonrpc.decode_object(request["params"])
    found = parse_meta(params)
    token = found.get("progressToken")
    if token is None:
        return request, None
    params["_meta"] = jsonrpc.encode_raw({**found, "progressToken": Raw(own)})
    return {**request, "params": jsonrpc.encode_raw(params)}, token


class SessionRegistry:
    """The sessions that are alive in this process, and those that were ended."""

    def __init__(self, sealer: Sealer, owner: str, idle: float) -> None:
        """`owner` is this process's address; `idle` is in seconds."""
        self._sealer = sealer
        self._owner = owner
        self._idle = idle
        self.logs = EventStore()
        """Streams that clients may go on with."""
        self._live: dict[str, SessionState] = {}
        self._spare: list[SessionState] = []
        self._kept: FairShares[str] = FairShares(LIVE_SESSIONS.value)
        """Whose the sessions are that keep something without a request."""
        self._ended: dict[str, float] = {}
        self._enders: FairShares[str] = FairShares(ENDED_SESSIONS.value)
        """Who has ended them."""
        self._leaving: set[asyncio.Future[None]] = set()
        self._questions = itertools.count(1)

    def of(self, session: str, now: float) -> SessionState:
        """The live part of a session."""
        live = self._live.get(session)
        if live is None:
            live = self._live[session] = self._spare.pop() if self._spare else SessionState()
        live.used_at = now
        return live

    def find(self, session: str) -> SessionState | None:
        """The live part of a session, if it has one."""
        return self._live.get(session)

    def release(self, client: ClientIdentity) -> None:
        """Note that a request of a session has ended: drop a session that keeps nothing."""
        session = client.session
        live = self._live.get(session)
        if live is None or live.in_flight:
            return
        if not live.idle:
            self._keep(client, live)
            return
        del self._live[session]
        if live.kept:
            live.kept = False
            self._kept.discard(session)
        if len(self._spare) < MAX_SPARE:
            # It holds nothing: as good as a new one.
            self._spare.append(live)

    def _keep(self, client: ClientIdentity, live: SessionState) -> None:
        """Keep a session between its requests; beyond the limit another one ends."""
        if live.kept:
            self._kept.touch(client.session)
            return
        if self._kept.is_full:
            LIVE_SESSIONS.record()
            ending = self._kept.choose(self._may_end)
            if ending is not None:
                self._end_kept(ending, live.used_at)
        live.kept = True
        self._kept.add(client.session, client.holder)

    def _may_end(self, session: str) -> bool:
        live = self._live.get(session)
        return live is None or not (live.in_flight or live.stream)

    def _end_kept(self, session: str, now: float) -> None:
        """End a session for another one; its client learns that with its next request."""
        self._remember(session, self._kept.holder(session), now)
        self._kept.discard(session)
        live = self._live.pop(session, None)
        if live is not None:
            self._unsubscribe(live)

    def _unsubscribe(self, live: SessionState) -> None:
        """End subscriptions in the background: a backend may take its time for each."""
        if live.subscriptions:
            leaving = asyncio.ensure_future(live.unsubscribe())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def close(self) -> None:
        """Wait for no backend any longer."""
        for leaving in self._leaving:
            leaving.cancel()

    async def end(self, client: ClientIdentity, now: float) -> None:
        """The client ended its session."""
        session = client.session
        self.forget(client, now)
        self.logs.drop(session)
        self._kept.discard(session)
        live = self._live.pop(session, None)
        if live is not None:
            if live.stream is not None:
                live.stream.end()
            for request_id in list(live.in_flight):
                live.cancel(request_id)
            await live.unsubscribe()

    def has_ended(self, session: str) -> bool:
        """Whether the client ended this session."""
        return session in self._ended

    def open_log(self, client: ClientIdentity) -> StreamLog:
        """Keep the events of a stream; its name, sealed, tells who keeps them."""
        name = self._sealer.seal("stream", {"o": self._owner, "n": next(self._questions)})
        return self.logs.open(name, client.session, client.holder)

    def stream_owner(self, name: str) -> str | None:
        """Who keeps the stream of this name; None when it is none of ours."""
        return self._owner_in("stream", name)

    def questioner(self, question_id: Raw) -> str | None:
        """Who waits for the answer to this question; None when it is none of ours."""
        return self._owner_in("question", jsonrpc.decode_str(question_id) or "")

    def _owner_in(self, purpose: str, token: str) -> str | None:
        try:
            owner: str = self._sealer.open(purpose, token)["o"]
        except InvalidToken:
            return None
        return owner

    def forget(self, client: ClientIdentity, now: float) -> None:
        """Refuse a session from now on: what it consisted of is lost."""
        self._remember(client.session, client.holder, now)

    def _remember(self, session: str, holder: Holder, now: float) -> None:
        """Remember that a session has ended."""
        self._ended.pop(session, None)
        self._ended[session] = now
        if self._enders.is_full and session not in self._enders:
            ENDED_SESSIONS.record()
            oldest = self._enders.choose()
            if oldest is not None:
                self._forget_ended(oldest)
        self._enders.add(session, holder)

    def _forget_ended(self, session: str) -> None:
        del self._ended[session]
        self._enders.discard(session)

    def question_id(self) -> bytes:
        """An id for a request to a client: sealed, it names the process that waits."""
        content = {"o": self._owner, "n": next(self._questions)}
        return jsonrpc.encode(self._sealer.seal("question", content))

    def reap(self, now: float, lifetime: float) -> None:
        """Drop what nobody used for too long."""
        self.logs.forget(now)
        for session, live in list(self._live.items()):
            if live.idle:
                del self._live[session]
                self._kept.discard(session)
            elif now - live.used_at > self._idle and not (live.in_flight or live.stream):
                del self._live[session]
                self._kept.discard(session)
                self._unsubscribe(live)
        while self._ended and now - next(iter(self._ended.values())) > lifetime:
            self._forget_ended(next(iter(self._ended)))

    def __len__(self) -> int:
        return len(self._live)
