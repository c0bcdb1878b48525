"""The exchange: a client's request on its way to one backend.

It yields notifications, server requests that want an answer, and one response. It knows no era:
a front turns HTTP into exchanges and their events into what its client understands, a back does
the reverse. This module is what both sides agree on.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.revisions import is_modern

NOT_OFFERED: Final = Raw(b'{"code":-32601,"message":"the client does not offer this"}')
CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
INITIALIZED: Final = "notifications/initialized"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"

Told = Callable[[Message], Awaitable[None]]
"""Takes a notification."""


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """Who asks, as far as backends may know it."""

    revision: str
    """The revision it speaks."""
    capabilities: bytes = b"{}"
    """What it declared, as JSON."""
    info: bytes | None = None
    """Its name and version, as JSON."""
    principal: str = ""
    """Digest of the credentials it came with; empty without."""
    session: str = ""
    """Its session with us; empty in the modern era."""
    network: str = field(default="", compare=False)
    """The network that its session was opened from: who shares what is bounded. See Shares."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Of its request: those that some backend is to get, their names in lower case."""
    modern: bool = field(init=False, compare=False, repr=False)
    """Whether it speaks a revision without sessions and without server requests."""
    kind: tuple[str | bytes | None, ...] = field(init=False, compare=False, repr=False)
    """What it has in common with all who are the same to a backend, but for its headers."""
    person: tuple[str | bytes | None, ...] = field(init=False, compare=False, repr=False)
    """The same where each request says the rest itself."""

    def __post_init__(self) -> None:
        """Every call asks for these: they are found once."""
        object.__setattr__(self, "modern", is_modern(self.revision))
        kind = (self.principal, self.revision, None, self.capabilities, self.info)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "person", kind[:3])

    @property
    def holder(self) -> tuple[str, str]:
        """Whose share its entries in bounded collections are. See Shares."""
        return self.network, self.principal

    def having(self, names: frozenset[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """Its headers of these names."""
        return tuple(line for line in self.headers if line[0] in names)

    def mark(self, names: frozenset[bytes]) -> bytes | None:
        """What tells it from clients with other values of these headers; None if it has none."""
        if not (names and self.headers):
            return None
        own = self.having(names)
        return hashlib.sha256(repr(sorted(own)).encode()).digest() if own else None


class CallContext(Protocol):
    """The client's side of one exchange."""

    client: ClientIdentity
    log_level: str | None
    """The level it set for log messages; None when it set none."""

    def notify(self, message: Message) -> Awaitable[None]:
        """Pass a notification on; returns once the client's stream has room for more."""

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """Pass a server request on; returns the response (`result` or `error`).

        `told` takes what the client says of it meanwhile (progress, with the backend's token).
        When it is cancelled for a cause, the client hears that the question is withdrawn.
        """

    async def streamed(self, retry: int | None) -> None:
        """The backend answers with a stream that can be gone on with after a break.

        `retry` is the pause in milliseconds that it wants before a client does so.
        """

    async def paused(self) -> None:
        """The backend closed that stream before its response: clients are to come back for it."""


def cancelled_request_id(error: BaseException) -> Message | None:
    """The `notifications/cancelled` for which a task was cancelled; None when it was not for one.

    Tasks are cancelled with the notification as their message, so that it reaches the other side
    as it came.
    """
    found = error.args[0] if error.args else None
    return found if isinstance(found, dict) else None


def cancelled_notification(request_id: bytes | Raw, cause: Message | None) -> Message:
    """The `notifications/cancelled` for the other side, which knows a request by this id."""
    if cause is None:
        return jsonrpc.notification_message(CANCELLED, {"requestId": Raw(bytes(request_id))})
    params = jsonrpc.replace_member(cause.get("params"), requestId=Raw(bytes(request_id)))
    return {**cause, "params": params}


class NullContext:
    """A caller that nobody stands behind: requests of our own, and sessions that wait."""

    def __init__(self, client: ClientIdentity) -> None:
        self.client = client
        self.log_level: str | None = None

    async def notify(self, message: Message) -> None:
        """Nobody listens."""

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """Nobody answers, whatever the client in whose name it is asked declared."""
        return {"error": NOT_OFFERED}

    async def streamed(self, retry: int | None) -> None:
        """Nobody has to know."""

    async def paused(self) -> None:
        """Nobody has to come back."""
