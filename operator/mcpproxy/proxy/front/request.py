"""One HTTP request to the endpoint: its headers, its message, and who sent it."""

import hashlib
from typing import Final

from mcpproxy.proxy.front.reply import Receive, Scope, Send
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_REQUEST, Message, RpcError

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of one request; more is answered with 413."""
SSE: Final = b"text/event-stream"
JSON: Final = b"application/json"


class HttpRefusal(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, error: RpcError | str) -> None:
        super().__init__(str(error))
        self.status = status
        if isinstance(error, str):
            error = RpcError(INVALID_REQUEST, error)
        self.body = jsonrpc.failure(None, error)


class Inbound:
    """A request as the server got it. Its body is read once, when it is asked for."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.lines: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(self.lines)
        self.receive = receive
        self.send = send
        self.handed_over = False
        """Whether another instance has passed it on: then it is served here."""
        self._body: bytes | None = None

    @property
    def principal(self) -> str:
        """A digest of the credentials that it came with; empty without any."""
        found = self.headers.get(b"authorization")
        return "" if found is None else hashlib.sha256(found).hexdigest()[:32]

    def accepts_stream(self) -> bool:
        """Whether the client takes event streams."""
        return h.accepts(self.headers.get(b"accept"), SSE)

    async def message(self) -> Message:
        """The message of a POST. Raises HttpRefusal."""
        content_type = self.headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if content_type != JSON:
            raise HttpRefusal(415, "the Content-Type must be application/json")
        if not (h.accepts(self.headers.get(b"accept"), JSON) and self.accepts_stream()):
            raise HttpRefusal(406, "the client must accept application/json and text/event-stream")
        try:
            return jsonrpc.parse(await self.body())
        except RpcError as error:
            raise HttpRefusal(400, error) from None

    async def body(self) -> bytes:
        """The bytes of the body. Raises HttpRefusal."""
        if self._body is None:
            self._body = await self._read()
        return self._body

    async def _read(self) -> bytes:
        too_large = HttpRefusal(413, f"a request is at most {MAX_BODY} bytes")
        length = self.headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY:
            raise too_large
        part = await self.receive()
        body: bytes = part.get("body", b"")
        if not part.get("more_body"):
            return body
        parts, size = [body], len(body)
        while part.get("more_body"):
            part = await self.receive()
            parts.append(part.get("body", b""))
            size += len(parts[-1])
            if size > MAX_BODY:
                raise too_large
        return b"".join(parts)
