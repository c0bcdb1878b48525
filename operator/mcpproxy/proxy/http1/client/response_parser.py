"""Parser of the responses on one connection, within limits, on httptools."""

from typing import Final, Protocol

import httptools

from mcpproxy.limits.backends import RESPONSE_HEAD, RESPONSE_LINES
from mcpproxy.proxy.http1.errors import InvalidResponse

_MAX_HEAD: Final = RESPONSE_HEAD.value
_MAX_LINES: Final = RESPONSE_LINES.value


class ParsedResponse(Protocol):
    """Response that a parser fills."""

    status: int

    def begin(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Set the head."""

    def feed(self, chunk: bytes) -> None:
        """Add a part of the body."""


class ResponseParser:
    """Parser of one response after the other; `reusable` is set once a response is complete."""

    def __init__(self) -> None:
        self.between = True
        """True if the next byte begins a response."""
        self.reusable: bool | None = None
        """True if another response may follow; None until the response is complete."""
        self._parser = httptools.HttpResponseParser(self)
        self._response: ParsedResponse | None = None
        """The response that is being parsed, while `feed` runs."""
        self._fields: list[tuple[bytes, bytes]] = []
        """Header lines of an incomplete head, or trailers."""
        self._unfinished = 0
        """Bytes since the last complete head or part of a body."""
        self._refusal: InvalidResponse | None = None

    def feed(self, data: bytes, response: ParsedResponse) -> None:
        """Add received bytes to `response`. Raises InvalidResponse."""
        self._response = response
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self.reusable is None:
                raise self._refusal or InvalidResponse("the response is not HTTP/1.1") from None
            # Bytes after the response must not be taken for the next response.
            self.reusable = False
        finally:
            self._response = None
        if self.reusable is None and self._unfinished > _MAX_HEAD:
            raise _head_too_large()

    def begin_next(self) -> None:
        """Expect the response to the next request."""
        self.reusable = None
        self._unfinished = 0

    # httptools

    def on_message_begin(self) -> None:
        if self.reusable is not None:
            raise ValueError("received a response without a request")
        self.between = False
        # Trailers of the previous response are not headers of this one.
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if len(self._fields) > _MAX_LINES:
            RESPONSE_LINES.record()
            self._refuse(InvalidResponse(f"the response has more than {_MAX_LINES} headers"))

    def _refuse(self, refusal: InvalidResponse) -> None:
        """Stop the parser, because the following bytes might complete the response."""
        self._refusal = refusal
        raise refusal

    def on_headers_complete(self) -> None:
        fields = self._fields
        assert self._response is not None
        self._fields = []
        status = self._parser.get_status_code()
        if status < 200:
            # The bytes of an interim response count for the head of the final one.
            return
        if self._unfinished > _MAX_HEAD and sum(len(n) + len(v) for n, v in fields) > _MAX_HEAD:
            self._refuse(_head_too_large())
        self._unfinished = 0
        headers = {name.lower(): value for name, value in fields}
        self._response.begin(status, headers if len(headers) == len(fields) else _joined(fields))

    def on_body(self, body: bytes) -> None:
        assert self._response is not None
        self._unfinished = 0
        self._response.feed(body)

    def on_message_complete(self) -> None:
        self.between = self._parser.should_keep_alive()
        if self._response is not None and self._response.status:
            self.reusable = self.between


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Join the values of repeated headers (RFC 9110, section 5.3)."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        headers[key] = headers[key] + b", " + value if key in headers else value
    return headers


def _head_too_large() -> InvalidResponse:
    RESPONSE_HEAD.record()
    return InvalidResponse(f"the response header section has more than {_MAX_HEAD} bytes")
