"""A grammar of HTTP requests with JSON-RPC messages: valid, and nearly so."""

import json
import random
from typing import Any

from tests.differential.backend import LEGACY, MODERN

PREFIX = "io.modelcontextprotocol/"
IDS: tuple[Any, ...] = (
    1,
    1,
    0,
    -7,
    2**53,
    1.5,
    "a",
    "",
    "é\u2028",
    2,
    3,
    "b",
    "c",
    4,
    5,
    None,
    True,
    [],
    {},
)
METHODS = (
    "ping", "tools/list", "tools/call", "initialize", "server/discover", "resources/read",
    "prompts/get", "notifications/cancelled", "notifications/progress", "vendor/x", "", 7, None,
)  # fmt: skip
PARAMS: tuple[Any, ...] = (
    {}, None, [], "x", 3, {"name": "nothing", "arguments": {}}, {"uri": "note://none"},
    {"requestId": 1}, {"progressToken": "t", "progress": 1}, {"cursor": "x"},
)  # fmt: skip
HEADERS = (
    "Mcp-Session-Id: garbled", "mcp-session-id:", "MCP-Protocol-Version: 1999-01-01",
    f"mcp-protocol-version:{LEGACY}", f"mcp-protocol-version: {MODERN}", "Mcp-Method: ping",
    "Mcp-Method: tools/list", "Mcp-Name: other", "X-Odd:\t a  b \t", "ACCEPT: */*",
    "Accept: text/html", "Content-Type: text/plain", "Connection: keep-alive", "Connection: close",
    "Expect: 100-continue", "Expect: 200-ok", "Cookie: a=b", "Host: evil.example", "Bad Name: x",
    " folded", "Transfer-Encoding: gzip", "Content-Length: -1", "Content-Length: 3", "NoColon",
)  # fmt: skip
TARGETS = ("/mcp", "/mcp?x=1", "/", "*", "http://localhost/mcp", "/%00", "//mcp", "mcp")
# A GET of a session opens a stream that rightly never ends.
VERBS = ("HEAD", "DELETE", "PUT", "OPTIONS", "CONNECT", "TRACE", "post", "PATCH")


def message(rnd: random.Random) -> Any:
    """A JSON-RPC message of either era, or a value that is nearly one."""
    result: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": rnd.choice(IDS),
        "method": rnd.choice(METHODS),
    }
    if rnd.random() < 0.8:
        result["params"] = rnd.choice(PARAMS)
    if isinstance(result.get("params"), dict) and rnd.random() < 0.5:
        meta: dict[str, Any] = {"progressToken": rnd.choice(IDS)}
        if rnd.random() < 0.7:
            meta |= {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}}
        result["params"] = {**result["params"], "_meta": meta}
    kind = rnd.random()
    if kind < 0.1:
        result.pop(rnd.choice(tuple(result)))
    elif kind < 0.15:
        result = {"jsonrpc": "2.0", "id": result["id"], "result": {}}
    elif kind < 0.2:
        return rnd.choice(([], [result], [result, result], None, 1, "x"))
    return result


def _chunks(rnd: random.Random, body: bytes) -> bytes:
    result, at = b"", 0
    while at < len(body):
        part = body[at : at + rnd.randint(1, 60)]
        result += b"%x%b\r\n%b\r\n" % (len(part), rnd.choice((b"", b";a=b", b";q")), part)
        at += len(part)
    return result + b"0\r\n" + rnd.choice((b"", b"", b"X-Trailer: 1\r\n")) + b"\r\n"


def request(rnd: random.Random, faults: float, session: str) -> tuple[bytes, Any]:
    """The bytes of a request, and the message in it; so often it is not quite right.

    `session` is an id that the endpoint gave out.
    """
    sent = message(rnd)
    body = json.dumps(sent).encode()
    verb, target, version = "POST", "/mcp", "1.1"
    lines = ["Host: localhost", "Content-Type: application/json"]
    lines.append("Accept: application/json, text/event-stream")
    if isinstance(sent, dict) and "_meta" in str(sent):
        lines += [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {sent.get('method')}"]
        named = sent.get("params")
        if isinstance(named, dict) and ("name" in named or "uri" in named):
            lines.append(f"Mcp-Name: {named.get('name', named.get('uri'))}")
    elif rnd.random() < 0.9:
        lines.append(f"Mcp-Session-Id: {session}")
    if rnd.random() < faults:
        kind = rnd.randrange(4)
        if kind == 0:
            verb = rnd.choice(VERBS)
        elif kind == 1:
            target = rnd.choice(TARGETS)
        elif kind == 2:
            version = rnd.choice(("1.0", "1.1", "2.0", "0.9"))
        else:
            lines.insert(rnd.randrange(len(lines) + 1), rnd.choice(HEADERS))
    if rnd.random() < 0.3:
        lines.append("Transfer-Encoding: chunked")
        body = _chunks(rnd, body)
    else:
        lines.append(f"Content-Length: {len(body)}")
    lead = b"\r\n" if rnd.random() < 0.05 else b""
    head = "\r\n".join([f"{verb} {target} HTTP/{version}", *lines]).encode("latin-1")
    return lead + head + b"\r\n\r\n" + body, sent
