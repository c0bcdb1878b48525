"""Exchange: a client's request on its way to one backend.

An exchange yields notifications, server requests that need a response, and one response. It is
independent of eras: downstream code converts HTTP to exchanges and their events to messages that
its client understands; upstream code does the reverse. Both sides share this module.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.api.constants import RIGHTS
from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.core.session_records import SessionRecord, SessionRecords
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.revisions import is_modern

NOT_OFFERED: Final = Raw(b'{"code":-32601,"message":"the client does not offer this"}')
CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
INITIALIZED: Final = "notifications/initialized"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"

NotificationHandler = Callable[[Message], Awaitable[None]]
"""Coroutine function that processes a notification."""


class Permit(Protocol):
    """Permission for one call by `spec.limits`."""

    def release(self, *, is_cancelled: bool = False) -> None:
        """Return the permission, once, when the call has ended, or was cancelled."""

    def guarded(self) -> "Permit":
        """Return a permit in place of this one, for a task that may never run: it is released at
        the latest when nobody has it, and only once."""


class CallState(Enum):
    """Progress of a call: nothing is sent, callbacks wait for the response, a task does, over."""

    NEW = auto()
    SENT = auto()
    DETACHED = auto()
    DONE = auto()


# To look up a member in its enumeration takes longer than most functions of a call.
NEW, SENT, DETACHED, DONE = CallState.NEW, CallState.SENT, CallState.DETACHED, CallState.DONE


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """Client of a request, as far as backends may know it."""

    revision: str
    """Revision of MCP that the client uses."""
    capabilities: bytes = b"{}"
    """Declared capabilities, as JSON."""
    info: bytes | None = None
    """Client information (name and version), as JSON."""
    principal: str = ""
    """Digest of the client's credentials; empty without credentials."""
    session: str = ""
    """Downstream session; empty in the modern era."""
    network: str = field(default="", compare=False)
    """Network from which the session was opened, for fair shares of bounded collections."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Request headers that some backend gets, with lower-case names."""
    identity: Identity = field(default=ANONYMOUS, compare=False, repr=False)
    """The verified identity of the caller; anonymous without `spec.authentication`."""
    access: Access | None = field(default=None, compare=False, repr=False)
    """Permission to list and use components; None without `spec.authorization`."""
    upstream: SessionRecords = field(default=(), compare=False, repr=False)
    """Upstream sessions of the client that this instance continues, because the one that opened
    them has ended."""
    user: str = field(init=False, compare=False, repr=False)
    """The principal, regardless of the OAuth client that acts for it."""
    modern: bool = field(init=False, compare=False, repr=False)
    """True if the revision has neither sessions nor server requests."""
    kind: tuple[str | bytes | None, ...] = field(init=False, compare=False, repr=False)
    """Pool key: a backend cannot distinguish clients with equal keys, apart from headers."""
    person: tuple[str | bytes | None, ...] = field(init=False, compare=False, repr=False)
    """Pool key for sessions in which each request has its own client information."""

    def __post_init__(self) -> None:
        # Computed once, because every call reads them.
        user = self.identity.user if self.identity.client else self.principal
        object.__setattr__(self, "user", user)
        object.__setattr__(self, "modern", is_modern(self.revision))
        rights = self.identity.rights or None
        kind = (self.principal, self.revision, rights, self.capabilities, self.info)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "person", kind[:3])

    @property
    def rules(self) -> str:
        """Digest of the rules of access that apply to the client; empty if there are none."""
        return "" if self.access is None else self.access.digest

    @property
    def holder(self) -> tuple[str, str]:
        """Holder of the client's entries in bounded collections; see `FairShares`."""
        return self.network, self.user

    def record_of(self, backend: str) -> SessionRecord | None:
        """Return the upstream session that this instance continues; None without one."""
        if not self.session:
            # A session for anyone must not be that of one client.
            return None
        return next((record for name, record in self.upstream if name == backend), None)

    def having(self, names: frozenset[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """Return the client's headers with these names."""
        return tuple(line for line in self.headers if line[0] in names)

    def mark(self, names: frozenset[bytes]) -> bytes | None:
        """Return a digest of the client's values of these headers, or None without any.

        With RIGHTS among the names, it differs for tokens of one principal with other claims.
        """
        if not names:
            return None
        rights = self.identity.rights if RIGHTS in names else b""
        own = self.having(names) if self.headers else ()
        if not (own or rights):
            return None
        return hashlib.sha256(repr((sorted(own), rights)).encode()).digest()


class CallContext(Protocol):
    """Client's side of one exchange."""

    client: ClientIdentity
    log_level: str | None
    """Minimum level of log messages that the client set, or None."""
    resumption: "ResumableStream | None"
    """The stream of the response, if the client can resume one."""

    def notify(self, message: Message) -> Awaitable[None]:
        """Forward a notification; return when the client's stream has room for more."""

    async def ask(
        self, request: Message, on_notification: NotificationHandler | None = None
    ) -> Message:
        """Forward a server request and return the response (`result` or `error`).

        `on_notification` receives the client's notifications about the request, such as progress
        with the backend's token. If the task is cancelled with a cause, the client gets
        `notifications/cancelled`.
        """


class BackendCredentials(Protocol):
    """Source of the header Authorization of requests to one backend."""

    by_caller: bool
    """True if callers have different credentials."""

    @property
    def latest(self) -> "CallerCredentials | None":
        """The credentials that `of` returned last, if they are a caller's; it returns them again
        for the same identity."""

    def of(self, client: ClientIdentity) -> "BackendCredentials":
        """Return the credentials for requests of this client."""

    def header(self) -> tuple[bytes, bytes] | None:
        """Return the header field; None if it must be obtained first."""

    async def obtain(self) -> tuple[bytes, bytes] | None:
        """Return the header field, or None to send none. Raise BackendError."""

    def refused(self, line: tuple[bytes, bytes]) -> bool:
        """Discard credentials that the backend refused (401). Return True if others may help."""

    async def close(self) -> None:
        """End all work in the background."""


class CallerCredentials(BackendCredentials, Protocol):
    """Credentials on behalf of one caller."""

    subject: Identity
    """The caller."""


class ResumableStream(Protocol):
    """Stream of a response that the client can resume after the connection was closed."""

    async def keep_events(self, retry: int | None) -> None:
        """Keep the events from now on, because the backend responds with a stream of this kind.

        `retry` is the backend's reconnection time in milliseconds.
        """

    async def pause(self) -> None:
        """Close the stream, because the backend closed its own before the response; the client
        reconnects."""


def cancel_notification_of(error: BaseException) -> Message | None:
    """Return the `notifications/cancelled` for which a task was cancelled, or None.

    Tasks are cancelled with the notification as their message, so that it reaches the other side
    unchanged.
    """
    cause = error.args[0] if error.args else None
    return cause if isinstance(cause, dict) else None


def cancelled_notification(request_id: bytes | Raw, cause: Message | None) -> Message:
    """Return the `notifications/cancelled` for the other side, with the request id used there."""
    if cause is None:
        return jsonrpc.notification_message(CANCELLED, {"requestId": Raw(bytes(request_id))})
    params = jsonrpc.replace_member(cause.get("params"), requestId=Raw(bytes(request_id)))
    return {**cause, "params": params}


class NullContext:
    """Context without a client, for the proxy's own requests and for idle sessions."""

    resumption: ResumableStream | None = None

    def __init__(self, client: ClientIdentity) -> None:
        self.client = client
        self.log_level: str | None = None

    async def notify(self, message: Message) -> None:
        pass

    async def ask(
        self, request: Message, on_notification: NotificationHandler | None = None
    ) -> Message:
        return {"error": NOT_OFFERED}
