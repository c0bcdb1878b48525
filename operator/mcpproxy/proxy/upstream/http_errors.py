"""Mapping of the errors of the HTTP client, and of statuses, to the errors of backends."""

import asyncio
import re
from types import TracebackType
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import REFUSAL_TIME
from mcpproxy.proxy.core.errors import (
    BackendError,
    HttpFailed,
    ProtocolError,
    RateLimited,
    TimedOut,
    TooManySessions,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.errors import (
    ConnectTimeout,
    HttpClientError,
    InvalidResponse,
    TooManyConnections,
)
from mcpproxy.proxy.protocol import headers as h

_KNOWN_ERROR: Final = re.compile(rb'error="?(invalid_token|insufficient_scope)\b')
_PLAIN: Final = (b"", h.JSON, b"text/plain")
_WORDS: Final = 80
"""Characters of an error page that the status quotes."""
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


def check_status(response: ClientResponse) -> None:
    """Raise BackendError for a status with which no response to a request comes."""
    status = response.status
    if status in (401, 403):
        response.close()
        known = _KNOWN_ERROR.search(response.headers.get(b"www-authenticate", b""))
        why = f" ({known[1].decode()})" if known else ""
        raise Unauthorized(f"HTTP {status}: the backend rejected the credentials{why}")
    if status == 429:
        response.close()
        raise RateLimited("HTTP 429: too many requests")
    if (status >= 500 and response.media_type != h.JSON) or 300 <= status < 400:
        response.close()
        raise HttpFailed(f"the backend responded with HTTP {status}")


async def first_words(response: ClientResponse) -> str:
    """Return the beginning of a text or JSON body, on one line; empty for other types.

    Closes the response if its body breaks off or the caller is cancelled. Raises HttpClientError.
    """
    if response.media_type not in _PLAIN:
        return ""
    try:
        async with asyncio.timeout(REFUSAL_TIME.value):
            chunk = await response.next_chunk()
    except TimeoutError:
        REFUSAL_TIME.record()
        return ""
    except BaseException:
        response.close()
        raise
    response.unread([chunk] if chunk else [])
    return clean_text(" ".join(chunk[:_WORDS].decode(errors="replace").split()), _WORDS)
