"""Errors of requests to a backend.

    BackendError              the backend sent no response to the request
    ├─ Unreachable            no connection, or the connection broke
    ├─ TimedOut               no response in time
    ├─ Unauthorized           HTTP 401 or 403: the backend rejected the credentials
    ├─ TokenRefused           the authorization server refused a token for the backend
    ├─ TokenUnavailable       the authorization server sent no token
    ├─ NoCallerToken          the caller has no token that could be exchanged
    ├─ SlowClient             the client read the response too slowly
    ├─ RateLimited            HTTP 429
    ├─ SessionNotFound        the upstream session no longer exists
    ├─ HostRefused            the server does not serve the requested host
    └─ ProtocolError          a response that is not MCP

Messages name the backend and the failure. They may quote the first bytes of a malformed message,
but never the text of an error page.

Addresses appear only in the status; see `BackendError.finding`.
"""

from typing import ClassVar, Final, Self

from mcpproxy.proxy.core.health import Failure
from mcpproxy.proxy.protocol.jsonrpc import TIMED_OUT, UNAVAILABLE, RpcError

REUSE_REFUSED: Final = (
    "the backend requires sessions, so they cannot be reused; set session.mode to Isolated or"
    " PerClient, or declare session.stateless: true"
)


class BackendError(Exception):
    """The backend sent no response to the request."""

    state: ClassVar[Failure] = "Unhealthy"
    reason: ClassVar[str] = "BackendError"
    code: ClassVar[int] = UNAVAILABLE
    reached = True
    """False if the request could not be sent because there was no connection."""

    def __init__(self, text: str = "", *, finding: str = "") -> None:
        """Create an error with `text` for clients.

        `finding` has more detail, such as an address, and replaces `text` in the status and in
        logs.
        """
        super().__init__(text)
        self.finding = finding or text

    def rpc(self, backend: str) -> RpcError:
        """Return the JSON-RPC error that clients get."""
        return RpcError(
            self.code,
            f"backend {backend}: {self}",
            {"backend": backend, "reason": self.reason},
        )

    def unsent(self) -> Self:
        """Mark the error as raised before the request was sent, and return it."""
        self.reached = False
        return self


class Unreachable(BackendError):
    """No connection, or the connection broke."""

    reason = "Unreachable"


class TimedOut(BackendError):
    """No response in time."""

    reason = "TimedOut"
    code = TIMED_OUT


class Unauthorized(BackendError):
    """The backend rejected the credentials."""

    state = "Unauthorized"
    reason = "Unauthorized"


class TokenRefused(BackendError):
    """The authorization server refused to issue a token for the backend."""

    state = "Unauthorized"
    reason = "TokenRefused"
    concerns_client = False
    """True if the server does not accept the proxy as a client."""

    def about_client(self) -> Self:
        """Mark the error as one that concerns every request of the proxy, and return it."""
        self.concerns_client = True
        return self


class TokenUnavailable(BackendError):
    """No token for the backend came from the authorization server."""

    state = "Unauthorized"
    reason = "TokenUnavailable"


class NoCallerToken(BackendError):
    """The backend is called on behalf of callers, and this one has no token to exchange."""

    state = "Unauthorized"
    reason = "NoCallerToken"


class SlowClient(BackendError):
    """The client read the response too slowly, and other requests had to continue."""

    reason = "StalledClient"


class RateLimited(BackendError):
    """The backend limits the request rate."""

    state = "RateLimited"
    reason = "RateLimited"


class SessionNotFound(BackendError):
    """The upstream session no longer exists. The backend did not execute the request."""

    reason = "SessionGone"


class HostRefused(BackendError):
    """The server does not serve the host that the request names."""

    reason = "HostRefused"


class ProtocolError(BackendError):
    """The response is not MCP."""

    reason = "NotMCP"


class MissingReference(BackendError):
    """A Secret, ConfigMap or key that a header or variable refers to does not exist."""

    reason = "ValueMissing"


class TlsInvalid(BackendError):
    """A certificate or key for TLS exists but cannot be used."""

    reason = "TLSInvalid"


class ProcessFailed(BackendError):
    """A stdio server could not be started, or it exited."""

    reason = "ProcessFailed"


class ReuseNotAllowed(BackendError):
    """Sessions are configured to be reused, but the backend keeps state in them."""

    reason = "StatefulBackend"


class TooManySessions(BackendError):
    """A limit on sessions or processes is reached."""

    reason = "Overloaded"
