"""Responses of a hostile backend, from a grammar: HTTP/1.1, event streams and JSON-RPC."""

import json
import random
from dataclasses import dataclass
from typing import Any, Final

_STATUS: Final = (
    *[b"HTTP/1.1 200 OK"] * 120,
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 202 Accepted",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /mcp",
    b"HTTP/1.1 308 Permanent Redirect\r\nlocation: http://evil.example/",
    b"HTTP/1.1 308 Permanent Redirect\r\nlocation: http://[",
    b"HTTP/1.1 400 Bad Request",
    b"HTTP/1.1 401 Unauthorized",
    b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 429 Too Many Requests",
    b"HTTP/1.1 503 Service Unavailable",
    b"HTTP/1.1 999 \xff",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/2 200 OK",
    b"http/1.1 200 ok",
    b"ICY 200 OK",
    b"POST /mcp HTTP/1.1",
)
_BEFORE: Final = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\nx: %b\r\n\r\n" % (b"y" * 3000),
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
)
_HEADERS: Final = (
    b"connection: close",
    b"connection: keep-alive",
    b"connection: upgrade\r\nupgrade: websocket",
    b"mcp-session-id: a b",
    b"mcp-session-id: abc",
    b"x: \x00",
    b"x : y",
    b": y",
    b"no colon",
    b"x: y\r\n folded",
    b"x: y\n",
    b"x: \xff\xfe",
    b"content-encoding: gzip",
    b"retry-after: -1",
    b"content-length: 3",
    b"transfer-encoding: chunked",
)
_LENGTHS: Final = (
    b"content-length: 0",
    b"content-length: -1",
    b"content-length: +5",
    b"content-length: 0x10",
    b"content-length: 99999999999999999999999",
    b"content-length: 5\r\ncontent-length: 6",
    b"content-length: 5, 5",
    b"content-length:",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: chunked, gzip",
    b"transfer-encoding: gzip",
    b"transfer-encoding: identity",
    b"transfer-encoding: chunked\r\ncontent-length: 7",
)
_TYPES: Final = (
    b"content-type: text/html",
    b"content-type: ",
    b"x: y",
    b"content-type: application/json\r\ncontent-type: text/event-stream",
    b"content-type: Application/JSON; charset=utf-16",
    b"content-type: \xff",
)
_ENDS: Final = (b"\n", b"\r\n", b"\r")
_FIELDS: Final = (
    b": comment",
    b"id: 7",
    b"id",
    b"id: \x00",
    b"id: a\xffb",
    b"id: " + b"9" * 9000,
    *[b"retry: 0"] * 6,
    b"retry: 99999999999",
    b"retry: -1",
    b"event: message",
    b"event: endpoint",
    b"event",
    b"unknown: field",
    b"data",
    b"data: ",
    b"\xef\xbb\xbf",
)
_RESULTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"content": []},
    {"resultType": "input_required"},
    {"_meta": {"a": [1]}},
)
_ODD: Final = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 2000,
    b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"jsonrpc":"1.0","id":1,"result":{}}',
    b'{"jsonrpc":"2.0","id":1e400,"result":{}}',
    b'{"jsonrpc":"2.0","id":1e9999999,"result":{}}',
    b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"result":{}}',
    b'{"jsonrpc":"2.0","id":-,"result":{}}',
    b'{"jsonrpc":"2.0","id":[1],"result":{}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":1e9,"message":"a"}}',
    b'{"jsonrpc":"2.0","method":7}',
    b'{"jsonrpc":"2.0","method":"\\ud800","params":{}}',
    b'{"jsonrpc":"2.0","method":"a","params":[]}',
    b'{"jsonrpc":"2.0","method":"a","params":null}',
    b'{"jsonrpc":"2.0","id":null,"method":"a"}',
    b'{"jsonrpc":"2.0","id":1,"result":{"a":"\xff"}}',
    b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"result":{}}',
    b"{%b}" % b",".join(b'"%d":0' % number for number in range(1100)),
)


@dataclass(frozen=True)
class Answer:
    """Responses on one connection."""

    parts: tuple[bytes, ...]
    intact: bool
    """True if no byte was changed: then each result names the id of its request."""


class Grammar:
    """Answers to requests, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def good(self, own: Any) -> Answer:
        """The well-formed response, in one of its ways."""
        body = _dump({"jsonrpc": "2.0", "id": own, "result": {"for": own}})
        kind = b"application/json"
        if self._chance(0.5):
            kind, body = b"text/event-stream", b"event: message\r\ndata: %b\r\n\r\n" % body
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n" % kind
        return Answer((head + b"content-length: %d\r\n\r\n" % len(body) + body,), intact=True)

    def answer(self, own: Any) -> Answer:
        """Anything, for a request that the backend knows by this id."""
        result = b"".join(self._one(own) for _ in range(2 if self._chance(0.05) else 1))
        intact = not self._chance(0.1)
        return Answer(self._cut(result if intact else self._changed(result)), intact)

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _one(self, own: Any) -> bytes:
        pick = self.random.choice
        before = b"".join(pick(_BEFORE) for _ in range(self.random.randint(1, 3)))
        lines = [(before if self._chance(0.1) else b"") + pick(_STATUS)]
        streamed = self._chance(0.5)
        kind = b"content-type: " + (b"text/event-stream" if streamed else b"application/json")
        lines.append(pick(_TYPES) if self._chance(0.08) else kind)
        if self._chance(0.1):
            lines += [pick(_HEADERS) for _ in range(self.random.randint(1, 4))]
        if self._chance(0.01):
            lines += [b"a: b"] * 300
        body = self._stream(own) if streamed else self._body(own)
        shape = self.random.random()
        if shape < 0.4:
            lines.append(b"transfer-encoding: chunked")
            body = self._chunked(body)
        elif shape < 0.8:
            lines.append(b"content-length: %d" % len(body))
        elif shape < 0.9:
            lines.append(pick(_LENGTHS))
        elif shape < 0.95:
            lines.append(b"content-length: %d" % max(0, len(body) + self.random.randint(-9, 9)))
        end = b"\n" if self._chance(0.03) else b"\r\n"
        return end.join(lines) + end * 2 + body

    def _chunked(self, body: bytes) -> bytes:
        results = []
        while body:
            size = self.random.randint(1, len(body))
            part, body = body[:size], body[size:]
            said = size + self.random.randint(-2, 2) if self._chance(0.02) else size
            extension = b";a=b" if self._chance(0.1) else b""
            results.append(b"%x%b\r\n%b\r\n" % (max(said, 0), extension, part))
        last = (b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"000\r\n\r\n", b"0\r\n", b"", b"zz\r\n")
        return b"".join(results) + self.random.choices(last, (20, 2, 1, 1, 1, 1))[0]

    def _stream(self, own: Any) -> bytes:
        results = []
        for _ in range(self.random.randint(0, 4)):
            end = self.random.choice(_ENDS)
            lines = [self.random.choice(_FIELDS) for _ in range(self.random.randint(0, 2))]
            if self._chance(0.9):
                text = self._message(own)
                if self._chance(0.1):
                    text = text.replace(b",", b",\n")
                lines += [b"data: " + line for line in text.split(b"\n")]
            results.append(end.join(lines) + end * (1 if self._chance(0.03) else 2))
        if self._chance(0.7):
            results.append(b"data: %b\n\n" % self._response(own))
        return b"".join(results)

    def _body(self, own: Any) -> bytes:
        return self._response(own) if self._chance(0.8) else self._message(own)

    def _message(self, own: Any) -> bytes:
        kind = self.random.random()
        if kind < 0.4:
            return self._response(own)
        if kind < 0.6:
            return _dump({"jsonrpc": "2.0", **self._notification(own)})
        if kind < 0.8:
            return _dump({"jsonrpc": "2.0", "id": self._id(own), **self._request()})
        if kind < 0.85:
            return self.random.choice(_ODD)
        if kind < 0.97:
            return self._response(own)
        return b"[%b,%b]" % (self._response(own), self._response(own))

    def _id(self, own: Any) -> Any:
        near = own + self.random.choice((-1, 1)) if isinstance(own, int) else f"{own}x"
        return self.random.choice(
            (own, own, own, own, own, own, own, near, str(own), None, 0, -1, 1.5, "server-error")
        )

    def _response(self, own: Any) -> bytes:
        value = self._id(own)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": value}
        if self._chance(0.8):
            message["result"] = {**self.random.choice(_RESULTS), "for": value}
            if self._chance(0.02):
                message["result"] = [value]
        if "result" not in message or self._chance(0.05):
            message["error"] = self.random.choice(({"code": -32000, "message": "a"}, {}, 7, None))
        return _dump(message)

    def _notification(self, own: Any) -> dict[str, Any]:
        token = self._id(own)
        return self.random.choice(
            (
                {
                    "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": 1},
                },
                {"method": "notifications/progress", "params": {}},
                {"method": "notifications/progress"},
                {"method": "notifications/message", "params": {"level": "info", "data": token}},
                {"method": "notifications/cancelled", "params": {"requestId": token}},
                {"method": "notifications/cancelled", "params": {}},
                {"method": "notifications/tools/list_changed"},
                {"method": "notifications/resources/updated", "params": {"uri": 7}},
                {
                    "method": "notifications/elicitation/complete",
                    "params": {"elicitationId": token},
                },
                {"method": "notifications/elicitation/complete"},
                {"method": ""},
            )
        )

    def _request(self) -> dict[str, Any]:
        return self.random.choice(
            (
                {"method": "ping"},
                {"method": "sampling/createMessage", "params": {"messages": []}},
                {"method": "elicitation/create", "params": {"elicitationId": [1]}},
                {"method": "elicitation/create"},
                {"method": "roots/list", "params": {"_meta": 7}},
                {"method": "tools/call", "params": {"name": "a"}},
            )
        )

    def _changed(self, text: bytes) -> bytes:
        result = bytearray(text)
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randint(0, len(result))
            if self._chance(0.5):
                result[at : at + self.random.randint(0, 3)] = self.random.randbytes(1)
            else:
                del result[at : at + self.random.randint(1, 20)]
        return bytes(result)

    def _cut(self, text: bytes) -> tuple[bytes, ...]:
        if len(text) < 400 and self._chance(0.02):
            return tuple(text[at : at + 1] for at in range(len(text)))
        edges = sorted(
            self.random.randint(0, len(text)) for _ in range(self.random.choice((0, 1, 3)))
        )
        return tuple(text[a:b] for a, b in zip([0, *edges], [*edges, len(text)], strict=True))


def _dump(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
