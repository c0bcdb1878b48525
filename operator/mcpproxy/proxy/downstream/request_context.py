"""Data that the endpoint derives from the head of an HTTP request, and messages of requests.

The HTTP server caches heads with their contexts, so a client that repeats a head pays for it once.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Raw

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.core.tokens.session_token import LIFETIME, SessionToken
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request, RequestHead
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, Message, RpcError

if TYPE_CHECKING:
    # The package is imported only if a spec has `authentication`.
    from mcpproxy.proxy.authentication.admissions import Admission

METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""Methods of the requests that may be relayed without a task."""
RequestHandler = Callable[[Request, ResponseWriter], bool]
"""Begins to answer a request without a task; returns False if the request needs one."""


class RequestMeta(NamedTuple):
    """The validated metadata of a modern request."""

    about: tuple[str, Raw | None, Raw | None]
    """The method, `_meta`, and the name of the component, which the headers repeat."""
    client: ClientIdentity
    level: str | None
    """The requested log level."""


class RequestContext:
    """The context of a request head, kept in `RequestHead.context`."""

    __slots__ = (
        "admission",
        "carries_message",
        "handed_over",
        "identity",
        "meta",
        "principal",
        "session_token",
        "session_token_ends",
    )

    def __init__(
        self,
        head: RequestHead,
        principal: str = "",
        *,
        handed_over: bool = False,
        identity: Identity = ANONYMOUS,
        admission: "Admission | None" = None,
    ) -> None:
        self.principal = principal
        """A digest of the sender's identity; empty without one."""
        self.identity = identity
        """The verified identity of the sender; anonymous without `spec.authentication`."""
        self.admission = admission
        """Validity of the identity; None while it is unknown, and without authentication."""
        self.handed_over = handed_over
        """True if another instance forwarded the request; then it is served here."""
        json = _is_json(head.headers.get(b"content-type", b""))
        self.carries_message = json and _accepts_both(head.headers.get(b"accept"))
        """True if Content-Type and Accept are those of a POST with a message."""
        self.session_token: SessionToken | None = None
        """The session that the head names, once it is known."""
        self.session_token_ends = 0.0
        """Time at which the session token expires, in seconds since the epoch."""
        self.meta: RequestMeta | None = None
        """The metadata of the latest request with this head."""

    def identified(self, client: ClientIdentity) -> ClientIdentity:
        """Return the client with the verified identity of the sender."""
        return client if self.identity is ANONYMOUS else replace(client, identity=self.identity)

    def remember_session_token(self, token: SessionToken) -> None:
        """Set the session that the head names."""
        self.session_token, self.session_token_ends = token, token.created + LIFETIME

    def remember_meta(self, meta: RequestMeta) -> None:
        """Set the metadata of the latest request."""
        self.meta = meta


def parse_message(request: Request) -> Message:
    """Parse the message of a POST. Raises HttpError."""
    context: RequestContext = request.head.context
    if not context.carries_message:
        if not _is_json(request.headers.get(b"content-type", b"")):
            raise HttpError(415, "the Content-Type must be application/json")
        raise HttpError(
            406, "the header Accept must include application/json and text/event-stream"
        )
    try:
        return jsonrpc.parse(request.body)
    except RpcError as error:
        raise rpc_refusal(400, error) from None


def rpc_refusal(status: int, error: RpcError) -> HttpError:
    """Return the HTTP error whose body is this JSON-RPC error."""
    return HttpError(status, str(error), body=jsonrpc.error_response(None, error))


def error_body(error: HttpError) -> bytes:
    """Return the JSON-RPC error with the message of an HTTP error."""
    return jsonrpc.error_response(None, RpcError(INVALID_REQUEST, str(error)))


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    return content_type.split(b";")[0].strip().lower() == h.JSON


@lru_cache(maxsize=64)
def _accepts_both(header: bytes | None) -> bool:
    return h.accepts(header, h.JSON) and h.accepts(header, h.EVENT_STREAM)
