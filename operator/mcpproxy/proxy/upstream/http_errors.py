"""Mapping of the errors of the HTTP client to those of backends."""

from types import TracebackType
from typing import Final

from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    TimedOut,
    TooManySessions,
    Unreachable,
)
from mcpproxy.proxy.http1.errors import (
    ConnectTimeout,
    HttpClientError,
    InvalidResponse,
    TooManyConnections,
)

_CLASSES: Final[dict[type[HttpClientError], type[BackendError]]] = {
    ConnectTimeout: TimedOut,
    TooManyConnections: TooManySessions,
    InvalidResponse: ProtocolError,
}
"""Classes of errors; all others are Unreachable."""


def to_backend_error(error: HttpClientError) -> BackendError:
    """Return the backend error with the text of an error of the HTTP client."""
    mapped = _CLASSES.get(type(error), Unreachable)(str(error), finding=error.detail)
    return mapped if error.is_sent else mapped.unsent()


class _BackendErrors:
    """Context manager that replaces errors of the HTTP client; it has no state."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, HttpClientError):
            raise to_backend_error(error) from None


BACKEND_ERRORS: Final = _BackendErrors()
"""Context in which errors of the HTTP client are raised as backend errors."""
