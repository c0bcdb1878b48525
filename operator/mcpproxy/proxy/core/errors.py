"""What can go wrong between us and a backend.

    BackendError              the request did not get an answer from the backend
    ├─ Unreachable            no connection, or it broke
    ├─ TimedOut               no answer in time
    ├─ Unauthorized           HTTP 401 or 403: the credentials that it got are not accepted
    ├─ Stalled                its client took what it sent too slowly
    ├─ RateLimited            HTTP 429
    ├─ SessionGone            the upstream session does not exist any more
    ├─ HostRefused            the server does not serve the host that the request names
    └─ ProtocolError                 an answer that is no MCP

Texts name the backend and what happened. They quote the first bytes of what a backend sent as a
message, never what it wrote into an error page.
Addresses are for the status alone: see `BackendError.finding`.
"""

from typing import ClassVar, Final, Self

from mcpproxy.proxy.core.health import Failure
from mcpproxy.proxy.protocol.jsonrpc import TIMED_OUT, UNAVAILABLE, RpcError

REUSE_REFUSED: Final = (
    "it keeps sessions, so they are not reused; set session.mode to Isolated or PerClient,"
    " or declare session.stateless: true"
)


class BackendError(Exception):
    """The request did not get an answer from the backend."""

    state: ClassVar[Failure] = "Unhealthy"
    reason: ClassVar[str] = "BackendError"
    code: ClassVar[int] = UNAVAILABLE
    reached = True
    """False where there was no connection over which the request could have been sent."""

    def __init__(self, text: str = "", *, finding: str = "") -> None:
        """`text` is for clients; `finding` says more, such as an address, and replaces it in the
        status and in logs."""
        super().__init__(text)
        self.finding = finding or text

    def rpc(self, backend: str) -> RpcError:
        """The JSON-RPC error that a client gets."""
        return RpcError(
            self.code,
            f"backend {backend}: {self}",
            {"backend": backend, "reason": self.reason},
        )

    def unsent(self) -> Self:
        """The same error, where the request never left."""
        self.reached = False
        return self


class Unreachable(BackendError):
    """No connection, or it broke."""

    reason = "Unreachable"


class TimedOut(BackendError):
    """No answer in time."""

    reason = "TimedOut"
    code = TIMED_OUT


class Unauthorized(BackendError):
    """The credentials that it got are not accepted."""

    state = "Unauthorized"
    reason = "Unauthorized"


class SlowClient(BackendError):
    """The client took what the backend sent too slowly, and others had to go on."""

    reason = "StalledClient"


class RateLimited(BackendError):
    """The backend wants fewer requests."""

    state = "RateLimited"
    reason = "RateLimited"


class SessionNotFound(BackendError):
    """The upstream session does not exist any more; the request was not executed."""

    reason = "SessionGone"


class HostRefused(BackendError):
    """The server does not serve the host that the request names."""

    reason = "HostRefused"


class ProtocolError(BackendError):
    """An answer that is no MCP."""

    reason = "NotMCP"


class MissingReference(BackendError):
    """A Secret, ConfigMap or key that a header or variable refers to is not there."""

    reason = "ValueMissing"


class TlsInvalid(BackendError):
    """A certificate or key for TLS is there, but of no use."""

    reason = "TLSInvalid"


class ProcessFailed(BackendError):
    """A stdio server could not be started, or ended."""

    reason = "ProcessFailed"


class ReuseNotAllowed(BackendError):
    """Reused sessions were asked for, but the backend keeps state in them."""

    reason = "StatefulBackend"


class TooManySessions(BackendError):
    """A limit on sessions or processes is reached."""

    reason = "Overloaded"
