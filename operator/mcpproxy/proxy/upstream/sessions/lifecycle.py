"""Opening, listening and closing of upstream sessions, independent of requests."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcpproxy.limits.backends import OWN_REQUEST_TIME, UPSTREAM_SESSIONS
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import (
    OnAnnounced,
    ServerDescription,
    TaskSet,
    UpstreamSession,
)

CLOSE_GRACE: Final = 0.2
STREAM_WAIT: Final = 2.0
"""Seconds that opening a session waits for its standalone stream."""
FIRST_WAIT: Final = 0.25
"""Seconds to wait with a backend that has not opened such a stream yet."""

SAMPLE_EVERY: Final = 1.0
"""Seconds after which a session gets a stream in any case. Sessions at a low rate all have one."""
REOPENED_AFTER: Final = 10.0
"""Seconds after which the stream of a session that clients share is requested again if it ends."""
QUIET_AFTER: Final = 600.0
"""Seconds for which all sessions get a stream after a message on one of them."""
_WITHOUT_MESSAGES: Final = frozenset({"tools", "prompts", "resources", "completions"})
"""Capabilities of backends that cause no messages on standalone streams, except announcements."""
_NOTHING: Final = (b"{}", b"")


class StreamSampling:
    """Choice of the exclusive sessions of one backend that get a standalone stream, which costs an
    HTTP GET each.

    A session that serves one request gets none if the backend has no reason to use it: the client
    declares no capabilities, so it receives no requests of the backend; the backend declares no
    logging and no extension; and no such stream has carried a message for a while. What remains
    are changes of lists, which the monitor of the backend receives too, and which its checks
    detect in any case.

    A stream can't be opened once a request comes: servers of the official SDKs send requests about
    a call on this stream unless the tool names its call, and drop those for which no stream is
    open. The call would then wait for its timeout.
    """

    def __init__(self) -> None:
        self._chosen_at = float("-inf")
        """Time at which a session was last chosen that needed no stream."""
        self._server: ServerDescription | None = None
        self._silent = False

    def chooses(self, link: UpstreamSession, client: ClientIdentity, now: float) -> bool:
        """True if this new session of a client gets a stream before it serves a request."""
        if not isinstance(link, HttpLegacySession):
            # Other transports need no request for it.
            return True
        activity = link.standalone
        if activity.offered and (
            client.capabilities not in _NOTHING
            or now - activity.last_message_at < QUIET_AFTER
            or not self._is_silent(link.server)
        ):
            return True
        if now - self._chosen_at < SAMPLE_EVERY:
            return False
        self._chosen_at = now
        return True

    def _is_silent(self, server: ServerDescription) -> bool:
        """True if the capabilities of a server, usually the same for all sessions, cause no
        messages."""
        if server is not self._server:
            self._server = server
            self._silent = server.capabilities.keys() <= _WITHOUT_MESSAGES
        return self._silent


@dataclass(slots=True)
class _Listener:
    """The latest listener of one session."""

    task: "asyncio.Task[None]"
    context: CallContext
    """Context that receives the messages."""
    began: float
    """Time at which it began to listen."""
    ready: asyncio.Event


class SessionLifecycle:
    """Opens sessions, listens to them, closes them, and counts the open ones."""

    def __init__(
        self,
        open_session: Callable[[ClientIdentity], Awaitable[UpstreamSession]],
        background: TaskSet,
        on_broadcast: OnAnnounced,
    ) -> None:
        """`on_broadcast` receives broadcasts, with the client that owns the session."""
        self.shares: FairShares[int] = FairShares(UPSTREAM_SESSIONS.value)
        """Owners of the sessions that are open or being opened, by number."""
        self.openings, self.opening_seconds = 0, 0.0
        """Number of sessions that were opened or failed, and the time that it took."""
        self.sampling = StreamSampling()
        self._numbers = itertools.count(1)
        self._numbered: dict[int, int] = {}
        self._ending = 0
        self._held = 0
        self._on_broadcast = on_broadcast
        self._open_link = open_session
        self._background = background
        self._listening: dict[int, _Listener] = {}
        self.without_listener: set[int] = set()
        """Sessions whose listener has ended, so that another one may replace it."""
        self._close_grace = TimeLimit(CLOSE_GRACE)
        self._end_limit = TimeLimit(OWN_REQUEST_TIME.value)
        self._all_ended: asyncio.Event | None = None
        self.is_over = False
        """True if sessions are no longer waited for."""
        self._wait_for_stream(FIRST_WAIT)

    @property
    def count(self) -> int:
        """Number of sessions that are open, being opened or being closed."""
        return len(self.shares) + self._ending

    def admits(self, client: ClientIdentity) -> bool:
        """True if a session may be opened for a client without closing another one first."""
        return self._ending < self.shares.limit and self.shares.admits(client.holder)

    @property
    def is_closing_too_many(self) -> bool:
        """True if too many sessions are being closed to open others in their place.

        Bounds the sessions with a backend that never answers the end of a session.
        """
        return self._ending >= self.shares.limit

    def number_of(self, link: UpstreamSession) -> int | None:
        """Return the number of an open session in `shares`; None if it has none."""
        return self._numbered.get(id(link))

    async def open(self, client: ClientIdentity, *, in_advance: bool = False) -> UpstreamSession:
        """Open a session, or its equivalent if the backend keeps none. Raises BackendError.

        A session that is opened `in_advance` has no caller that may give up.
        """
        number, began = self.begin_opening(client)
        link = None
        try:
            opened = self._open_link if in_advance else self._open_shielded
            link = await opened(client)
        finally:
            self.end_opening(number, began, link)
        return link

    def begin_opening(self, client: ClientIdentity) -> tuple[int, float]:
        """Record that a session is being opened, and return its number and the time."""
        number = next(self._numbers)
        self.shares.add(number, client.holder)
        return number, asyncio.get_running_loop().time()

    def end_opening(self, number: int, began: float, link: UpstreamSession | None) -> None:
        """Record that a session is open, or could not be opened."""
        self.openings += 1
        self.opening_seconds += asyncio.get_running_loop().time() - began
        if link is not None and link.stateful:
            self._numbered[id(link)] = number
        else:
            self.shares.discard(number)

    def hold(self) -> None:
        """Let `finish` wait for work that no task does, until `release`."""
        self._held += 1

    def release(self) -> None:
        """End such work."""
        self._held -= 1
        self._check_all_ended()

    async def _open_shielded(self, client: ClientIdentity) -> UpstreamSession:
        """Open a session. If the caller is cancelled, the session is closed once it is open."""
        opening = asyncio.ensure_future(self._open_link(client))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._background.spawn(_end_unused(opening))
            raise

    def _wait_for_stream(self, seconds: float) -> None:
        self._stream_wait_seconds = seconds
        self._stream_wait = TimeLimit(seconds)

    def gets_stream(self, client: ClientIdentity, link: UpstreamSession) -> bool:
        """True if a new session gets a standalone stream before it serves a request."""
        return self.sampling.chooses(link, client, asyncio.get_running_loop().time())

    async def open_standalone_stream(
        self, link: UpstreamSession, session_context: CallContext
    ) -> None:
        """Open the standalone stream of a session before the first request.

        A backend that sends the stream's headers with its first message delays one session only.
        """
        ready = self.listen(link, session_context)
        deadline = self._stream_wait.start(ready.set)
        try:
            await ready.wait()
        except BaseException:
            self.end(link)
            raise
        finally:
            deadline.cancel()
        if deadline.missed:
            # Requests work without the stream.
            self._wait_for_stream(0.0)

    def listen(self, link: UpstreamSession, session_context: CallContext) -> asyncio.Event:
        """Start to listen; the event is set once no message can be missed."""
        ready = asyncio.Event()
        # The first listener ran until the owner of the session was known.
        self.stop_listening(link)
        task = self._background.spawn(self._listen(link, session_context, ready))
        now = asyncio.get_running_loop().time()
        self._listening[id(link)] = _Listener(task, session_context, now, ready)
        return ready

    def listen_again(self, link: UpstreamSession) -> None:
        """Start to listen again to a session whose listener has ended, but not more often than
        every REOPENED_AFTER seconds."""
        before = self._listening.get(id(link))
        if before is None or id(link) not in self.without_listener:
            return
        if asyncio.get_running_loop().time() - before.began >= REOPENED_AFTER:
            self.listen(link, before.context)

    def stop_listening(self, link: UpstreamSession, ready: asyncio.Event | None = None) -> None:
        """Receive no more messages that belong to no request of the session; with the event of a
        listener, only if no other one has replaced it."""
        if ready is not None:
            latest = self._listening.get(id(link))
            if latest is None or latest.ready is not ready:
                return
        listening = self._forget_listener(link)
        if listening is not None:
            listening.cancel()

    def _forget_listener(self, link: UpstreamSession) -> "asyncio.Task[None] | None":
        """Return the task of the latest listener of a session, which is not started again."""
        self.without_listener.discard(id(link))
        listener = self._listening.pop(id(link), None)
        return None if listener is None else listener.task

    def has_listener(self, link: UpstreamSession) -> bool:
        """True if a listener runs for the session, or has found that the backend offers no
        stream."""
        return id(link) in self._listening and id(link) not in self.without_listener

    async def _listen(
        self, link: UpstreamSession, session_context: CallContext, ready: asyncio.Event
    ) -> None:
        async def announced(message: Message) -> None:
            await self._on_broadcast(message, session_context.client)

        opened = finds_none = False

        def on_ready() -> None:
            nonlocal opened
            opened = isinstance(link, HttpLegacySession) and link.has_stream
            if self._stream_wait_seconds != STREAM_WAIT:
                self._wait_for_stream(STREAM_WAIT)
            ready.set()

        try:
            await link.listen(session_context, announced, on_ready)
            finds_none = not opened
        except (BackendError, RpcError):
            # The next request shows whether the session is lost.
            return
        finally:
            ready.set()
            listener = self._listening.get(id(link))
            # Another listener may have replaced this one.
            if not finds_none and listener and listener.task is asyncio.current_task():
                self.without_listener.add(id(link))

    def end(self, link: UpstreamSession) -> None:
        """Close a session in the background."""
        number = self._numbered.pop(id(link), None)
        if number is not None:
            self.shares.discard(number)
            self._ending += 1
            listening = self._forget_listener(link)
            if not self._end_at_once(link, listening):
                self._end_in_task(link, listening)

    def _end_at_once(self, link: UpstreamSession, listening: "asyncio.Task[None] | None") -> bool:
        """Close a session without a task; return False if that requires waiting."""

        def done() -> None:
            deadline.cancel()
            if deadline.missed:
                OWN_REQUEST_TIME.record()
            elif response is None or not response.status or response.status in (307, 308):
                # The server may have just closed the connection.
                self._end_in_task(link, listening)
                return
            elif not response.complete:
                response.leave()
            self._on_ended(listening)

        response = link.begin_close(done) if isinstance(link, HttpLegacySession) else None
        if response is None:
            return False
        deadline = self._end_limit.start(response.close)
        return True

    def finish(self) -> None:
        """Let the background tasks include the sessions that are being opened or closed without
        one."""
        self._all_ended = asyncio.Event()
        self._check_all_ended()
        waiting = self._background.spawn(self._wait_for_ends(self._all_ended))
        waiting.add_done_callback(self._on_over)

    def _on_over(self, _: "asyncio.Task[None]") -> None:
        self.is_over = True

    def _check_all_ended(self) -> None:
        if self._all_ended is not None and not (self._ending or self._held):
            self._all_ended.set()

    @staticmethod
    async def _wait_for_ends(all_ended: asyncio.Event) -> None:
        await all_ended.wait()

    def _end_in_task(self, link: UpstreamSession, listening: "asyncio.Task[None] | None") -> None:
        self._background.spawn(self._end(link, listening))

    async def _end(self, link: UpstreamSession, listening: "asyncio.Task[None] | None") -> None:
        try:
            await link.close()
        finally:
            self._on_ended(listening)

    def _on_ended(self, listening: "asyncio.Task[None] | None") -> None:
        self._ending -= 1
        self._check_all_ended()
        if listening is not None and not listening.done():
            # Messages that were sent before the end may still arrive.
            deadline = self._close_grace.start(listening.cancel)
            listening.add_done_callback(lambda _: deadline.cancel())


async def _end_unused(opening: "asyncio.Future[UpstreamSession]") -> None:
    try:
        link = await opening
    except BackendError:
        return
    if link.stateful:
        await link.close()
