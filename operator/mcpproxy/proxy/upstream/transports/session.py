"""Interface of an upstream session, the requests that it sends, and its background tasks."""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, offers
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import (
    NOT_OFFERED,
    CallContext,
    ClientIdentity,
    NotificationHandler,
)
from mcpproxy.proxy.core.translation.era_translation import add_client_meta, parse_meta
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_CHANGED
from mcpproxy.proxy.protocol.revisions import is_modern
from mcpproxy.proxy.upstream.large_results import ByteSource, ResultRelay
from mcpproxy.proxy.upstream.transports.pending_request import MessageBuffer

_SESSION_ID: Final = re.compile(rb"[\x21-\x7e]{1,2048}")

NO_ID: Final = Raw(b"null")
"""Id of notifications, which have none, and of subscriptions in records."""
OnMessage = Callable[[Message], Awaitable[None]]
OnAnnounced = Callable[[Message, ClientIdentity | None], Awaitable[None]]
"""Receives a broadcast and the client whose session it came from; None if no client owns the
session."""


class UpstreamRequest(msgspec.Struct, frozen=True, eq=False):
    """A request to a backend, with the backend's own names."""

    id: Raw
    """The id of the client's request."""
    method: str
    params: Message | None = None
    extra: Message | None = None
    """Fields of the message that JSON-RPC does not define; forwarded unchanged."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """`Mcp-Param-*` headers."""
    trace: tuple[tuple[bytes, bytes], ...] = ()
    """Headers of the trace context."""
    resolves_input: bool = False
    """True if the proxy resolves `input_required` results, instead of the client."""
    target: str = ""
    """Name or URI of the component, as in the lists of clients; empty without one."""
    rule: str = ""
    """Rule of spec.authorization whose condition the request meets; empty for other requests."""
    repeatable: bool = False
    """True if the request may be sent twice when a connection breaks; for the proxy's own
    requests."""
    polls: bool = True
    """True if the proxy polls a task that the backend returns to a legacy client."""
    large_result: ResultRelay | None = None
    """Relay of a large result to the client; None if the whole result has to be translated."""

    def copy_with(self, params: Message | None, request_id: Raw | None = None) -> "UpstreamRequest":
        """Return a copy with other params and, if given, another id. Its result is buffered."""
        return msgspec.structs.replace(
            self, id=request_id or self.id, params=params, repeatable=False, large_result=None
        )

    def progress_token(self) -> Raw | None:
        """Return the progress token, or None without a valid one."""
        if self.params is None or "_meta" not in self.params:
            return None
        token = parse_meta(self.params).get("progressToken")
        return token if token is not None and jsonrpc.is_id(token) else None

    def body(self, request_id: Raw | None = None) -> bytes:
        """Return the encoded message.

        Another `request_id` replaces the id, and the progress token if present.
        """
        params, request_id = self.params, request_id or self.id
        replaces = request_id is not self.id and self.progress_token() is not None
        if params is not None and replaces:
            changed = jsonrpc.replace_member(params["_meta"], progressToken=request_id)
            params = {**params, "_meta": changed}
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


class HttpExchange(msgspec.Struct, eq=False):
    """One request over HTTP and its response, until the client has the response.

    Callbacks wait for the response while `caller` is None, then a task does.
    """

    session: "SendsImmediately"
    request: UpstreamRequest
    """The request as it was sent, translated if the eras differ."""
    id: Raw
    """The request id at the backend."""
    response: ClientResponse | None = None
    """Set if the request was sent already; it is not sent again."""
    number: int = 0
    """Sequence number in the session; 0 if the session does not track the request."""
    token: Raw | None = None
    """Progress token of the client that `id` replaces, in a session that several clients share."""
    detach: Callable[[], None] | None = None
    """Moves the call from the callbacks to a task."""
    caller: CallContext | None = None
    inbox: MessageBuffer | None = None
    """Messages for this request that arrived on other streams."""
    large_result: ResultRelay | None = None

    def assign_number(self, number: int, *, replaces_id: bool) -> None:
        """Let the session track the request; with `replaces_id`, under the number as its id."""
        self.number = number
        if replaces_id:
            self.id = Raw(b"%d" % number)
            self.token = self.request.progress_token()

    def begin_task(self, caller: CallContext, large_result: ResultRelay | None) -> None:
        """Record that a task waits for the response."""
        self.caller, self.large_result = caller, large_result

    def end_task(self) -> None:
        """Record that the task has ended, and drop the messages that it has not delivered."""
        self.caller = None
        if self.inbox is not None:
            self.inbox.close()
            self.inbox = None

    def begin_response(self, response: ClientResponse) -> None:
        """Set the response to the request of a task."""
        self.response = response

    def give_up(self) -> None:
        """Discard the response, and close its connection unless the response is complete."""
        if self.response is not None:
            self.response.close()

    def put(self, message: Message, caller: CallContext, background: "TaskSet") -> None:
        """Deliver a message that arrived on another stream, in a task of `background`."""
        if self.inbox is None:
            self.inbox = MessageBuffer(caller, background.spawn)
        self.inbox.put(message)

    async def relay_large(
        self,
        rest: Callable[[], ByteSource | None],
        begins: Callable[["HttpExchange"], None] | None = None,
    ) -> Message | None:
        """Relay a large response to the client in parts, and return a placeholder for it.

        `rest` returns the source if the response is large; `begins` is called before the first
        part. Returns None if the response is not relayed. Raises Unreachable, ProtocolError.
        """
        source = None if self.large_result is None else rest()
        if self.large_result is None or source is None:
            return None
        ids = self.id, self.request.id
        placeholder = await self.large_result.take(source, ids, lambda: begins and begins(self))
        if placeholder is None:
            self.large_result = None
        return placeholder

    async def drained(self) -> None:
        """Wait until the client has received the messages from other streams."""
        if self.inbox is not None:
            await self.inbox.drained()

    async def move_to_task(self) -> CallContext | None:
        """Return the context of the client. If no task runs the call, move it to one first."""
        if self.caller is None and self.detach is not None:
            self.detach()
        if self.caller is None:
            # The new task sets the context in its first step.
            await asyncio.sleep(0)
        return self.caller


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


Rest = Callable[[], Awaitable["UpstreamSession"]]
"""Opens a session in a task, from where callbacks could not continue. Raises BackendError."""
OnOpened = Callable[["UpstreamSession | None", Rest | None], None]
"""Receives a session that callbacks have opened. Without one, a task opens it by the `Rest`."""


class SessionLease(Protocol):
    """The right of a request to use an upstream session."""

    @property
    def link(self) -> "UpstreamSession":
        """The session."""


class UpstreamSession(Protocol):
    """An upstream session, or its equivalent in an era or with a backend that keeps none."""

    server: ServerDescription
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

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Send a notification of `client` unchanged. Raises BackendError."""

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """Forward messages that belong to no request, until the stream ends.

        Changes of lists and resources go to `announced`. Other messages go to the caller of the
        running request, or to `session_context` if none runs. `ready` is called once no message
        can be missed. `uris` are the resources to subscribe to (modern era). Returns immediately if
        the backend has no such stream. Raises BackendError if the stream breaks.
        """

    async def close(self) -> None:
        """Close the session. Never raises."""


class SendsImmediately(Protocol):
    """An upstream session that sends requests without a task: one over HTTP."""

    def send(
        self,
        request: UpstreamRequest,
        client: ClientIdentity,
        on_response: Callable[[], None],
        detach: Callable[[], None],
    ) -> HttpExchange | None:
        """Send a request from a callback, or return None if that requires waiting.

        `on_response` is called when the response is to be examined, as in
        `ClientConnection.begin`. `detach` is called if the client has to receive a message first.
        """

    def try_complete(self, exchange: HttpExchange) -> bool:
        """End a tracked exchange. Return False if messages came before its response."""

    async def resume(
        self, exchange: HttpExchange, caller: CallContext, large_result: ResultRelay | None
    ) -> Message:
        """Wait for the response to a request that `send` sent, as `UpstreamSession.request`."""


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


def session_id_of(response: ClientResponse) -> bytes | None:
    """Return the session id of a response, or None. Raises ProtocolError if it is malformed."""
    session_id = response.headers.get(h.SESSION_ID)
    if session_id is not None and _SESSION_ID.fullmatch(session_id) is None:
        raise ProtocolError("the session id contains characters other than visible ASCII")
    return session_id
