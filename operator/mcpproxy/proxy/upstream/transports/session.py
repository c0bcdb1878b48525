"""Interface of an upstream session, the requests that it sends, and its background tasks."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, offers
from mcpproxy.proxy.core.exchange import (
    NOT_OFFERED,
    CallContext,
    ClientIdentity,
    NotificationHandler,
)
from mcpproxy.proxy.core.translation.era_translation import add_client_meta, parse_meta
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_CHANGED
from mcpproxy.proxy.protocol.revisions import is_modern
from mcpproxy.proxy.timers import Timer
from mcpproxy.proxy.upstream.large_results import ByteSource, ResultRelay, ResultSink
from mcpproxy.proxy.upstream.transports.pending_request import MessageBuffer

OnMessage = Callable[[Message], Awaitable[None]]
OnAnnounced = Callable[[Message, ClientIdentity | None], Awaitable[None]]
"""Receives a broadcast and the client whose session it came from; None if no client owns the
session."""
OTHER_ID: Final = "the response belongs to another request"


class UpstreamRequest:
    """A request to a backend, with the backend's own names."""

    # Every call creates one of these, so the defaults are class attributes.
    extra: Message | None = None
    """Fields of the message that JSON-RPC does not define; forwarded unchanged."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """`Mcp-Param-*` headers."""
    trace: tuple[tuple[bytes, bytes], ...] = ()
    """Headers of the trace context."""
    sent: ClientResponse | None = None
    """Response to a request that was sent already; such a request is not sent again."""
    translated: "UpstreamRequest | None" = None
    """Translated request that was sent instead, if backend and client differ in era."""
    sink: ResultSink | None = None
    """Sink for the parts of a large response."""
    onward: ResultRelay | None = None
    """Relay to `sink`, if the response needs no further translation."""
    link: "UpstreamSession | None" = None
    """Session over which the request was sent."""
    lease: "SessionLease | None" = None
    """Lease of the session that serves the request."""
    number: int = 0
    """Sequence number in that session; 0 before the request has one."""
    label: Raw | None = None
    """Request id and progress token in a session that several clients share; None if the
    original id is used."""
    token: Raw | None = None
    """Progress token of the client that `label` replaces."""
    caller: CallContext | None = None
    """Context of the client while a task waits for the response."""
    inbox: "MessageBuffer | None" = None
    """Messages for this request that arrived on other streams."""
    deadline: Timer | None = None
    """Timer of the request, if it is running already."""
    resolves_input = False
    """True if the proxy resolves `input_required` results, instead of the client."""
    repeatable = False
    """True if the request may be sent twice when a connection breaks; for the proxy's own
    requests."""
    leave: Callable[[], None] | None = None
    """Moves the call from the callback path to a task."""
    principal: str = ""
    """Principal of the client, set while no task waits for the response."""
    polls: bool = True
    """True if the proxy polls a task that a backend returns to a legacy client."""
    cancel_task: "Callable[[], Coroutine[Any, Any, None]] | None" = None
    """Cancels the backend's task for this request when no client waits for it any longer."""

    def __init__(
        self,
        request_id: Raw,
        method: str,
        params: Message | None = None,
        extra: Message | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        trace: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.id = request_id
        self.method = method
        self.params = params
        if extra is not None:
            self.extra = extra
        if headers:
            self.headers = headers
        if trace:
            self.trace = trace

    def copy_with(self, params: Message | None, request_id: Raw | None = None) -> "UpstreamRequest":
        """Return an unsent copy with other params and, if given, another id."""
        envelope = (self.extra, self.headers, self.trace)
        copy = UpstreamRequest(request_id or self.id, self.method, params, *envelope)
        if self.resolves_input:
            copy.resolves_input = True
        return copy

    async def relay_large(
        self,
        rest: Callable[[], ByteSource | None],
        begins: Callable[["UpstreamRequest"], None] | None = None,
    ) -> Message | None:
        """Relay a large response to the client in parts, and return a placeholder for it.

        `rest` returns the source if the response is large; `begins` is called before the first
        part. Returns None if the response is not relayed. Raises Unreachable, ProtocolError.
        """
        source = None if self.onward is None else rest()
        if self.onward is None or source is None:
            return None
        ids = self.upstream_id, self.id
        placeholder = await self.onward.take(source, ids, lambda: begins and begins(self))
        if placeholder is None:
            self.onward = None
        return placeholder

    async def drained(self) -> None:
        """Wait until the client has received the messages from other streams."""
        if self.inbox is not None:
            await self.inbox.drained()

    async def move_to_task(self) -> CallContext | None:
        """Return the context of the client. If no task runs the call, move it to one first."""
        if self.caller is None and self.leave is not None:
            self.leave()
        if self.caller is None:
            # The new task sets the context in its first step.
            await asyncio.sleep(0)
        return self.caller

    def relabel(self, label: bytes) -> None:
        """Replace the id, and the progress token if present, in the message to the backend."""
        self.label = Raw(label)
        if self.params is not None and "_meta" in self.params:
            token = parse_meta(self.params).get("progressToken")
            if token is not None and jsonrpc.is_id(token):
                self.token = token

    @property
    def upstream_id(self) -> Raw:
        """The request id at the backend."""
        return self.id if self.label is None else self.label

    def body(self) -> bytes:
        """Return the encoded message."""
        params, request_id = self.params, self.id
        if self.label is not None:
            request_id = self.label
            if params is not None and self.token is not None:
                changed = jsonrpc.replace_member(params["_meta"], progressToken=request_id)
                params = {**params, "_meta": changed}
        if params is not None and self.extra is None:
            return jsonrpc.encode(jsonrpc.RequestEnvelope("2.0", request_id, self.method, params))
        content: dict[str, Any] = {
            "jsonrpc": jsonrpc.VERSION,
            "id": request_id,
            "method": self.method,
        }
        if params is not None:
            content["params"] = params
        if self.extra:
            content |= self.extra
        return jsonrpc.encode(content)


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """The backend's introduction: its result of `initialize` or `server/discover`."""

    revision: str
    result: Message
    """The complete result."""
    modern: bool = field(init=False, compare=False, repr=False)
    """True if the revision is one without sessions."""
    makes_tasks: bool = field(init=False, compare=False, repr=False)
    """True if the backend may return a task instead of a result (2026-07-28)."""

    def __post_init__(self) -> None:
        """Cached, because every call reads it."""
        modern = is_modern(self.revision)
        object.__setattr__(self, "modern", modern)
        makes = modern and offers(self.capabilities, TASKS_EXTENSION)
        object.__setattr__(self, "makes_tasks", makes)

    def member(self, name: str) -> Any:
        """Return a field of the result as a JSON value; None if absent."""
        return jsonrpc.decode(self.result.get(name))

    @property
    def capabilities(self) -> dict[str, Any]:
        """The server's capabilities."""
        capabilities = self.member("capabilities")
        return capabilities if isinstance(capabilities, dict) else {}


class SessionLease(Protocol):
    """The right of a request to use an upstream session."""

    @property
    def link(self) -> "UpstreamSession":
        """The session."""


class UpstreamSession(Protocol):
    """An upstream session, or its equivalent in an era or with a backend that keeps none."""

    greeting: ServerDescription
    stateful: bool
    """True if the backend keeps a session."""

    @property
    def alive(self) -> bool:
        """True if requests can still be sent."""

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """Send a request and return the response.

        Notifications and server requests that arrive before it go to `caller`. If cancelled,
        cancels the request at the backend. Raises BackendError.
        """

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> ClientResponse | None:
        """Send a request without a task, or return None if that is impossible.

        `done` is called when the response is to be examined, as in `Connection.begin`. If the
        backend sends messages for the client first, `outgoing.leave` is called.
        """

    def try_complete(self, outgoing: UpstreamRequest) -> bool:
        """End a request that `begin` sent. Return False if messages came before its response."""

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Send a notification of `client` unchanged. Raises BackendError."""

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """Forward messages that belong to no request, until the stream ends.

        Changes of lists and resources go to `announced`. Other messages go to the caller of the
        running request, or to `standing` if none runs. `ready` is called once no message can be
        missed. `uris` are the resources to subscribe to (modern era). Returns immediately if the
        backend has no such stream. Raises BackendError if the stream breaks.
        """

    async def close(self) -> None:
        """Close the session. Never raises."""


ANNOUNCEMENTS: Final = frozenset({*BY_CHANGED, "notifications/resources/updated"})
"""Notifications that concern all clients and belong to no request."""
LISTEN_ID: Final = b"mcpproxy-listen-"
"""Prefix of the ids of the proxy's `subscriptions/listen` requests."""
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
"""Confirmation of the proxy's own `subscriptions/listen`; never forwarded to clients."""


def is_broadcast(message: Message) -> bool:
    """True if a message announces a change that concerns every client."""
    return jsonrpc.decode_str(message.get("method")) in ANNOUNCEMENTS


async def answer_server_request(
    caller: CallContext, request: Message, notify_backend: NotificationHandler
) -> bytes:
    """Forward a server request to the caller, and return the encoded response with its id."""
    if jsonrpc.decode_str(request["method"]) == "ping":
        return jsonrpc.response(request["id"], b"{}")
    try:
        answer = await caller.ask(request, notify_backend)
    except RpcError as error:
        return jsonrpc.error_response(request["id"], error)
    content = {**answer, "jsonrpc": jsonrpc.VERSION, "id": request["id"]}
    if "result" not in answer:
        content.setdefault("error", NOT_OFFERED)
    return jsonrpc.encode(content)


_listens: Final = itertools.count(1)


def build_listen_request(
    client: ClientIdentity, revision: str, uris: Sequence[str]
) -> UpstreamRequest:
    """Build a `subscriptions/listen` for changes of all lists and of these resources."""
    wanted: dict[str, Any] = {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": True,
    }
    if uris:
        wanted["resourceSubscriptions"] = list(uris)
    params = add_client_meta({"notifications": jsonrpc.encode_raw(wanted)}, client, revision, None)
    return UpstreamRequest(
        Raw(b'"%b%d"' % (LISTEN_ID, next(_listens))), "subscriptions/listen", params
    )


class TaskSet:
    """Background tasks; cancelled on close."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that must handle its own errors."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, grace: float = 0.0) -> None:
        """Wait up to `grace` seconds for the tasks, then cancel the others."""
        if self._tasks and grace:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
