"""A link: one upstream session with a backend, of one era and one transport."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, offers
from mcpproxy.proxy.core.exchange import NOT_OFFERED, CallContext, ClientIdentity, Told
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
"""Takes an announcement, and the client in whose session it came, where it is one's."""
OTHER_ID: Final = "it answers with a response to another request"


class UpstreamRequest:
    """A request as it leaves for a backend: names are the backend's own."""

    # Every call makes one of these: what is as it begins stands in the class.
    extra: Message | None = None
    """Members of the envelope that JSON-RPC does not know; they pass."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Mcp-Param-* headers."""
    trace: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that say to which trace it belongs."""
    sent: ClientResponse | None = None
    """Its answer, where it was sent before: then it is not sent again."""
    bridged: "UpstreamRequest | None" = None
    """What was sent in its place, where the backend is of another era than the client."""
    sink: ResultSink | None = None
    """Where the client's side takes a large answer in parts."""
    onward: ResultRelay | None = None
    """How it does, where the answer needs no more than that."""
    link: "UpstreamSession | None" = None
    """What it was sent over."""
    held: "SessionLease | None" = None
    """The session that is kept open for it."""
    number: int = 0
    """Its place among the requests of that session."""
    label: Raw | None = None
    """Its id and progress token in a session that serves several clients; None: its own."""
    token: Raw | None = None
    """The client's progress token, where `label` stands for it."""
    caller: CallContext | None = None
    """The client's side, while a task waits for the answer."""
    inbox: "MessageBuffer | None" = None
    """What came for it on the streams of others."""
    deadline: Timer | None = None
    """The time that it has, where that runs already."""
    converses = False
    """Whether questions in its answer are asked here, and not by a request of the client."""
    repeatable = False
    """Whether it may be sent twice, should a connection be lost: requests of our own."""
    leave: Callable[[], None] | None = None
    """Has a task go on with it, where none waits for its answer."""
    principal: str = ""
    """Of the client, where no task waits for the answer."""
    polls: bool = True
    """Whether a task that a legacy client gets in place of the result is waited for."""
    abandons: "Callable[[], Coroutine[Any, Any, None]] | None" = None
    """Tells the backend that nobody waits any more for the task that it made of the request."""

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

    def having(self, params: Message | None, request_id: Raw | None = None) -> "UpstreamRequest":
        """The same request, not sent yet, with other params and perhaps another id."""
        kept = (self.extra, self.headers, self.trace)
        found = UpstreamRequest(request_id or self.id, self.method, params, *kept)
        if self.converses:
            found.converses = True
        return found

    async def passed_on(
        self,
        rest: Callable[[], ByteSource | None],
        begins: Callable[["UpstreamRequest"], None] | None = None,
    ) -> Message | None:
        """What stands for the answer, once it went on to the client in parts; None where it does
        not. `rest` gives what is large enough; `begins` is called before the first part."""
        source = None if self.onward is None else rest()
        if self.onward is None or source is None:
            return None
        ids = self.known_as, self.id
        found = await self.onward.take(source, ids, lambda: begins and begins(self))
        if found is None:
            self.onward = None
        return found

    async def drained(self) -> None:
        """Wait until the client has what came for it on other streams than its own."""
        if self.inbox is not None:
            await self.inbox.drained()

    async def taken_over(self) -> CallContext | None:
        """Return the client's side of the request; if no task has it, a task takes it over."""
        if self.caller is None and self.leave is not None:
            self.leave()
        if self.caller is None:
            # The task that takes over is there after its first step.
            await asyncio.sleep(0)
        return self.caller

    def relabel(self, label: bytes) -> None:
        """Give it another id, and another progress token if it has one, on its way out."""
        self.label = Raw(label)
        if self.params is not None and "_meta" in self.params:
            token = parse_meta(self.params).get("progressToken")
            if token is not None and jsonrpc.is_id(token):
                self.token = token

    @property
    def known_as(self) -> Raw:
        """The id by which the backend knows it."""
        return self.id if self.label is None else self.label

    def body(self) -> bytes:
        """The message's bytes."""
        params, own = self.params, self.id
        if self.label is not None:
            own = self.label
            if params is not None and self.token is not None:
                changed = jsonrpc.replace_member(params["_meta"], progressToken=own)
                params = {**params, "_meta": changed}
        if params is not None and self.extra is None:
            return jsonrpc.encode(jsonrpc.RequestEnvelope("2.0", own, self.method, params))
        content: dict[str, Any] = {"jsonrpc": jsonrpc.VERSION, "id": own, "method": self.method}
        if params is not None:
            content["params"] = params
        if self.extra:
            content |= self.extra
        return jsonrpc.encode(content)


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """How a backend introduced itself (initialize or server/discover)."""

    revision: str
    result: Message
    """The whole result."""
    modern: bool = field(init=False, compare=False, repr=False)
    """Whether its revision is one without sessions."""
    makes_tasks: bool = field(init=False, compare=False, repr=False)
    """Whether a task may come in place of the result of a call (2026-07-28)."""

    def __post_init__(self) -> None:
        """Every call asks for it: it is found once."""
        modern = is_modern(self.revision)
        object.__setattr__(self, "modern", modern)
        makes = modern and offers(self.capabilities, TASKS_EXTENSION)
        object.__setattr__(self, "makes_tasks", makes)

    def member(self, name: str) -> Any:
        """A member of the result as a JSON value; None when it is absent."""
        return jsonrpc.decode(self.result.get(name))

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the backend offers."""
        found = self.member("capabilities")
        return found if isinstance(found, dict) else {}


class SessionLease(Protocol):
    """A session that is kept open for a request."""

    @property
    def link(self) -> "UpstreamSession":
        """The session."""


class UpstreamSession(Protocol):
    """One upstream session, or none where the era or the backend has none."""

    greeting: ServerDescription
    stateful: bool
    """Whether the backend keeps a session for it."""

    @property
    def alive(self) -> bool:
        """Whether requests can still be sent."""

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """The response. Notifications and server requests on the way go to `caller`.

        Raises BackendError. When cancelled, tells the backend so.
        """

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> ClientResponse | None:
        """Send a request at once, see `Connection.begin`; None where that can't be done.

        What the backend sends meanwhile for whoever asks makes it `leave`.
        """

    def completes(self, outgoing: UpstreamRequest) -> bool:
        """Whether nothing came before the answer to what was begun; then the request is over."""

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Send a notification as it is; `client` is who tells it. Raises BackendError."""

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """Pass on what the backend sends outside of requests, until that ends.

        Changes of lists and resources go to `announced`; the rest to the caller of the request
        that runs, or to `standing` when none does. `ready` is called once nothing is missed any
        more; `uris` are the resources whose changes are wanted (modern era). Returns at once where
        the backend has no such stream. Raises BackendError when it breaks.
        """

    async def close(self) -> None:
        """End the session; never raises."""


ANNOUNCEMENTS: Final = frozenset({*BY_CHANGED, "notifications/resources/updated"})
"""What a backend announces to all: it belongs to no request."""
LISTEN_ID: Final = b"mcpproxy-listen-"
"""The beginning of the id of a listen request of ours."""
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
"""The answer to a listen request of ours: no client's."""


def is_broadcast(message: Message) -> bool:
    """Whether a message tells of a change that concerns every client."""
    return jsonrpc.decode_str(message.get("method")) in ANNOUNCEMENTS


async def answer_server_request(caller: CallContext, request: Message, told: Told) -> bytes:
    """The response to a server request, asked of the caller; its id is the request's."""
    if jsonrpc.decode_str(request["method"]) == "ping":
        return jsonrpc.response(request["id"], b"{}")
    try:
        answer = await caller.ask(request, told)
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
    """A `subscriptions/listen` for the changes of all lists and of these resources."""
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
    """Tasks that nobody waits for; they are kept, and cancelled on close."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that must handle its own errors."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, grace: float = 0.0) -> None:
        """Wait `grace` seconds for the tasks, then cancel the rest."""
        if self._tasks and grace:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
