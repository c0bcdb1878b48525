"""A link: one upstream session with a backend, of one era and one transport."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.back.inbox import Inbox
from mcpproxy.proxy.back.passing import Onward, Sink, Source
from mcpproxy.proxy.back.response import Response
from mcpproxy.proxy.core.deadlines import Deadline
from mcpproxy.proxy.core.eras import meta, stamped
from mcpproxy.proxy.core.exchange import NOT_OFFERED, Caller, Client, Told
from mcpproxy.proxy.core.extensions import TASKS_EXTENSION, offers
from mcpproxy.proxy.core.kinds import BY_CHANGED
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError
from mcpproxy.proxy.wire.revisions import is_modern

OnMessage = Callable[[Message], Awaitable[None]]
OnAnnounced = Callable[[Message, Client | None], Awaitable[None]]
"""Takes an announcement, and the client in whose session it came, where it is one's."""
OTHER_ID: Final = "it answers with a response to another request"


class Outgoing:
    """A request as it leaves for a backend: names are the backend's own."""

    # Every call makes one of these: what is as it begins stands in the class.
    extra: Message | None = None
    """Members of the envelope that JSON-RPC does not know; they pass."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Mcp-Param-* headers."""
    trace: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that say to which trace it belongs."""
    sent: Response | None = None
    """Its answer, where it was sent before: then it is not sent again."""
    bridged: "Outgoing | None" = None
    """What was sent in its place, where the backend is of another era than the client."""
    sink: Sink | None = None
    """Where the client's side takes a large answer in parts."""
    onward: Onward | None = None
    """How it does, where the answer needs no more than that."""
    link: "Link | None" = None
    """What it was sent over."""
    held: "Hold | None" = None
    """The session that is kept open for it."""
    number: int = 0
    """Its place among the requests of that session."""
    label: Raw | None = None
    """Its id and progress token in a session that serves several clients; None: its own."""
    token: Raw | None = None
    """The client's progress token, where `label` stands for it."""
    caller: Caller | None = None
    """The client's side, while a task waits for the answer."""
    inbox: "Inbox | None" = None
    """What came for it on the streams of others."""
    deadline: Deadline | None = None
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

    def having(self, params: Message | None, request_id: Raw | None = None) -> "Outgoing":
        """The same request, not sent yet, with other params and perhaps another id."""
        kept = (self.extra, self.headers, self.trace)
        found = Outgoing(request_id or self.id, self.method, params, *kept)
        if self.converses:
            found.converses = True
        return found

    async def passed_on(
        self, rest: Callable[[], Source | None], begins: Callable[["Outgoing"], None] | None = None
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

    def relabel(self, label: bytes) -> None:
        """Give it another id, and another progress token if it has one, on its way out."""
        self.label = Raw(label)
        if self.params is not None and "_meta" in self.params:
            token = meta(self.params).get("progressToken")
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
                changed = jsonrpc.with_member(params["_meta"], progressToken=own)
                params = {**params, "_meta": changed}
        if params is not None and self.extra is None:
            return jsonrpc.encode(jsonrpc.Call("2.0", own, self.method, params))
        content: dict[str, Any] = {"jsonrpc": jsonrpc.VERSION, "id": own, "method": self.method}
        if params is not None:
            content["params"] = params
        if self.extra:
            content |= self.extra
        return jsonrpc.encode(content)


@dataclass(frozen=True, slots=True)
class Greeting:
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
        return jsonrpc.value(self.result.get(name))

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the backend offers."""
        found = self.member("capabilities")
        return found if isinstance(found, dict) else {}


class Hold(Protocol):
    """A session that is kept open for a request."""

    @property
    def link(self) -> "Link":
        """The session."""


class Link(Protocol):
    """One upstream session, or none where the era or the backend has none."""

    greeting: Greeting
    stateful: bool
    """Whether the backend keeps a session for it."""

    @property
    def alive(self) -> bool:
        """Whether requests can still be sent."""

    async def request(self, outgoing: Outgoing, caller: Caller) -> Message:
        """The response. Notifications and server requests on the way go to `caller`.

        Raises BackendError. When cancelled, tells the backend so.
        """

    def begin(
        self, outgoing: Outgoing, client: Client, done: Callable[[], None]
    ) -> Response | None:
        """Send a request at once, see `Connection.begin`; None where that can't be done.

        What the backend sends meanwhile for whoever asks makes it `leave`.
        """

    def completes(self, outgoing: Outgoing) -> bool:
        """Whether nothing came before the answer to what was begun; then the request is over."""

    async def notify(self, message: Message, client: Client | None = None) -> None:
        """Send a notification as it is; `client` is who tells it. Raises BackendError."""

    async def listen(
        self,
        standing: Caller,
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


def is_announcement(message: Message) -> bool:
    """Whether a message tells of a change that concerns every client."""
    return jsonrpc.string(message.get("method")) in ANNOUNCEMENTS


async def answered(caller: Caller, request: Message, told: Told) -> bytes:
    """The response to a server request, asked of the caller; its id is the request's."""
    if jsonrpc.string(request["method"]) == "ping":
        return jsonrpc.response(request["id"], b"{}")
    try:
        answer = await caller.ask(request, told)
    except RpcError as error:
        return jsonrpc.failure(request["id"], error)
    content = {**answer, "jsonrpc": jsonrpc.VERSION, "id": request["id"]}
    if "result" not in answer:
        content.setdefault("error", NOT_OFFERED)
    return jsonrpc.encode(content)


_listens: Final = itertools.count(1)


def listen_request(client: Client, revision: str, uris: Sequence[str]) -> Outgoing:
    """A `subscriptions/listen` for the changes of all lists and of these resources."""
    wanted: dict[str, Any] = {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": True,
    }
    if uris:
        wanted["resourceSubscriptions"] = list(uris)
    params = stamped({"notifications": jsonrpc.dump(wanted)}, client, revision, None)
    return Outgoing(Raw(b'"%b%d"' % (LISTEN_ID, next(_listens))), "subscriptions/listen", params)


class Background:
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
