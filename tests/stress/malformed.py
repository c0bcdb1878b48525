"""Requests that are almost right: seeded mutations of bytes, JSON, headers, methods and tokens."""

import base64
import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.differential.backend import LEGACY, MODERN

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1.5, "", "x", "\u2028", "\U0001f600", [], {}, [[]], {"a": {}},
    "tools/call", "note://p/1", "p_echo", "io.modelcontextprotocol/protocolVersion",
)  # fmt: skip
BYTES = (b"", b"\x00", b"\xff\xfe", b"{", b"]", b'"', b"\\ud800", b"1e999", b"[" * 3000, b"NaN")
METHODS = ("POST", "GET", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "post", "TRACE")
HEADERS = (
    "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-x", "accept",
    "content-type", "authorization", "origin", "host", "last-event-id", "mcpproxy-principal",
    "content-length", "transfer-encoding", "expect", "connection", "cookie",
)  # fmt: skip
VALUES = (
    "", "0", "-1", "99999999999", "x" * 9000, "*/*", "application/json", "text/event-stream;q=0",
    MODERN, LEGACY, "2024-11-05", "1999-01-01", "=?base64?!!?=", "chunked", "100-continue",
    "http://evil.example", "é", "\x7f", "localhost", "tools/call", "AAAA-0", "a-1", "close",
)  # fmt: skip
LEGACY_METHODS = (
    "ping", "tools/call", "tools/list", "prompts/get", "resources/read", "resources/subscribe",
    "completion/complete", "logging/setLevel", "initialize", "notifications/cancelled", "vendor/x",
)  # fmt: skip
PREFIX = "io.modelcontextprotocol/"


@dataclass
class Request:
    """An HTTP request in parts."""

    method: str = "POST"
    path: str = "/mcp"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def raw(self) -> bytes:
        """Its bytes."""
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in self.headers)]
        if not any(name == "content-length" for name, _ in self.headers):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + self.body


def _params(rnd: random.Random, method: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": "p_echo",
        "uri": "note://p/1",
        "arguments": {"x": 1},
        "ref": {"type": "ref/prompt", "name": "p_echo"},
        "argument": {"name": "a", "value": "b"},
        "level": "info",
        "requestId": 1,
    }
    if method == "initialize":
        result |= {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "f"}}
    if rnd.random() < 0.1:
        result |= {"requestState": rnd.choice(("", "x", "A" * 60)), "inputResponses": {}}
    return result


def _mutated(rnd: random.Random, value: Any) -> Any:
    """The value with one node replaced, removed or nested."""
    if isinstance(value, dict) and value and rnd.random() < 0.75:
        key = rnd.choice(list(value))
        if rnd.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _mutated(rnd, value[key])}
    if isinstance(value, list) and value and rnd.random() < 0.5:
        return [_mutated(rnd, value[0]), *value[1:]]
    return rnd.choice(JUNK)


def _damaged(rnd: random.Random, body: bytes) -> bytes:
    at = rnd.randrange(len(body) + 1)
    kind = rnd.randrange(4)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + rnd.choice(BYTES) + body[at:]
    if kind == 2:
        return rnd.randbytes(rnd.randrange(64))
    return body[:at] + bytes([rnd.randrange(256)]) + body[at + 1 :]


def _token(rnd: random.Random, session: str) -> str:
    kind = rnd.randrange(4)
    if kind == 0:
        return session[: rnd.randrange(len(session))]
    if kind == 1:
        at = rnd.randrange(len(session))
        return session[:at] + rnd.choice("ABC-_=. ") + session[at + 1 :]
    if kind == 2:
        return base64.urlsafe_b64encode(rnd.randbytes(rnd.randrange(90))).decode()
    return rnd.choice(VALUES)


def malformed(rnd: random.Random, session: str) -> Request:
    """One request; `session` is an id that the endpoint gave out."""
    modern = rnd.random() < 0.5
    method = rnd.choice((*LEGACY_METHODS, "server/discover"))
    params = _params(rnd, method)
    request = Request(headers=[("host", "127.0.0.1"), ("content-type", "application/json")])
    request.headers.append(("accept", "application/json, text/event-stream"))
    if modern:
        params["_meta"] = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}}
        named = "note://p/1" if method == "resources/read" else "p_echo"
        request.headers += [("mcp-protocol-version", MODERN), ("mcp-method", method)]
        request.headers.append(("mcp-name", named))
    else:
        request.headers.append(("mcp-session-id", session))
    message: Any = {"jsonrpc": "2.0", "id": rnd.randrange(9), "method": method, "params": params}
    kind = rnd.randrange(7)
    if kind <= 1:
        message = _mutated(rnd, message)
    request.body = json.dumps(message).encode()
    if kind == 2:
        request.body = _damaged(rnd, request.body)
    elif kind == 3:
        request.headers.append((rnd.choice(HEADERS), rnd.choice(VALUES)))
    elif kind == 4:
        name = rnd.choice(HEADERS)
        request.headers = [pair for pair in request.headers if pair[0] != name]
        request.headers.append((name, rnd.choice(VALUES)))
    elif kind == 5:
        request.method = rnd.choice(METHODS)
        request.path = rnd.choice(("/mcp", "/mcp", "/", "/mcp?x=1", "/mcp/", "/%00", "*"))
    elif kind == 6:
        at = [i for i, (name, _) in enumerate(request.headers) if name == "mcp-session-id"]
        token = ("mcp-session-id", _token(rnd, session))
        request.headers = [pair for i, pair in enumerate(request.headers) if i not in at]
        request.headers.append(token)
    return request
