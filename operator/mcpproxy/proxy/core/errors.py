"""Errors of requests to a backend.

    BackendError              the backend sent no response to the request
    ├─ Unreachable            no connection, or the connection broke
    │  └─ HttpFailed          HTTP 5xx
    ├─ TimedOut               no response in time
    ├─ Unauthorized           HTTP 401 or 403: the backend rejected the credentials
    ├─ TokenRefused           the authorization server refused a token for the backend
    ├─ TokenUnavailable       the authorization server sent no token
    ├─ SignInNeeded           the user of this proxy has not signed in to the backend
    ├─ NoCallerToken          the caller has no token that could be exchanged
    ├─ SlowClient             the client read the response too slowly
    ├─ RateLimited            HTTP 429
    ├─ SessionNotFound        the upstream session no longer exists
    │  └─ ContinuationFailed  and another instance had opened it
    ├─ HostRefused            the server does not serve the requested host
    ├─ ProcessFailed          a program could not be started
    │  └─ ProcessExited       a program exited
    └─ ProtocolError          a response that is not MCP

Each says whether the backend may have run the request: see `BackendError.may_have_run`.

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
    refused: ClassVar[bool] = False
    """True if the error proves that the backend did not run the request."""
    answered: ClassVar[bool] = False
    """True if the backend, or a gateway in front of it, sent an HTTP response."""
    reached = True
    """False if the request was not sent."""

    def __init__(self, text: str = "", *, finding: str = "") -> None:
        """Create an error with `text` for clients.

        `finding` has more detail, such as an address, and replaces `text` in the status and in
        logs.
        """
        super().__init__(text)
        self.finding = finding or text

    @property
    def may_have_run(self) -> bool:
        """True unless it is certain that the backend did not run the request."""
        return self.reached and not self.refused

    def rpc(self, backend: str) -> RpcError:
        """Return the JSON-RPC error that clients get."""
        outcome = "may have run" if self.may_have_run else "did not run"
        return RpcError(
            self.code,
            f"backend {backend}: {self}; the request {outcome}",
            {"backend": backend, "reason": self.reason, "mayHaveRun": self.may_have_run},
        )

    def unsent(self) -> Self:
        """Mark the error as raised before the request was sent, and return it."""
        self.reached = False
        return self


class Unreachable(BackendError):
    """No connection, or the connection broke."""

    reason = "Unreachable"


class HttpFailed(Unreachable):
    """HTTP 5xx without a JSON-RPC response, or a redirect that is not followed."""

    answered = True


class TimedOut(BackendError):
    """No response in time."""

    reason = "TimedOut"
    code = TIMED_OUT


class Unauthorized(BackendError):
    """The backend rejected the credentials."""

    state = "Unauthorized"
    reason = "Unauthorized"
    refused = True


class TokenRefused(BackendError):
    """The authorization server refused to issue a token for the backend."""

    state = "Unauthorized"
    reason = "TokenRefused"
    refused = True
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
    refused = True


class SignInNeeded(BackendError):
    """The backend needs a user who signs in, and the user of this proxy has not done so."""

    state = "Unauthorized"
    reason = "SignInNeeded"
    refused = True


class NoCallerToken(BackendError):
    """The backend is called on behalf of callers, and this one has no token to exchange."""

    state = "Unauthorized"
    reason = "NoCallerToken"
    refused = True


class SlowClient(BackendError):
    """The client read the response too slowly, and other requests had to continue."""

    reason = "StalledClient"


class RateLimited(BackendError):
    """The backend limits the request rate."""

    state = "RateLimited"
    reason = "RateLimited"
    refused = True


class SessionNotFound(BackendError):
    """The upstream session no longer exists. The backend did not execute the request."""

    reason = "SessionGone"
    refused = True


class ContinuationFailed(SessionNotFound):
    """The upstream session that another instance opened no longer exists."""

    def rpc(self, backend: str) -> RpcError:
        return SessionEnded(
            UNAVAILABLE,
            f"backend {backend}: {self}; the request did not run; initialize again",
            {"backend": backend, "reason": self.reason, "mayHaveRun": False},
        )


class SessionEnded(RpcError):
    """The session of the client ends, because its state at a backend is lost; over HTTP, 404."""


class HostRefused(BackendError):
    """The server does not serve the host that the request names."""

    reason = "HostRefused"
    refused = True


class ProtocolError(BackendError):
    """The response is not MCP."""

    reason = "NotMCP"


class MissingReference(BackendError):
    """A Secret, ConfigMap or key that a header or variable refers to does not exist."""

    reason = "ValueMissing"
    refused = True


class TlsInvalid(BackendError):
    """A certificate or key for TLS exists but cannot be used."""

    reason = "TLSInvalid"
    refused = True


class ProcessFailed(BackendError):
    """A stdio server could not be started, or it exited."""

    reason = "ProcessFailed"


class ProcessExited(ProcessFailed):
    """A stdio server exited, perhaps because of a message that it did not expect."""


class ReuseNotAllowed(BackendError):
    """Sessions are configured to be reused, but the backend keeps state in them."""

    reason = "StatefulBackend"
    refused = True


class TooManySessions(BackendError):
    """A limit on sessions or processes is reached."""

    reason = "Overloaded"
    refused = True
