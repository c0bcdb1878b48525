"""Every request of both protocol eras needs a token, in whatever form it comes."""

import json
from typing import Any

from tests.resource_server import messages
from tests.resource_server.check import Failed, Severity, Skipped, check
from tests.resource_server.http_client import HeaderLine, NoResponse, Response, exchange
from tests.resource_server.messages import LEGACY, MODERN, Message
from tests.resource_server.target import Target, bearer, describe, expect_unauthorized

ENTITLED = (400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 421, 426, 431, 501, 505)
"""Refusals by which a request without a token may end if HTTP itself objects to it."""


def _expect_not_served(response: Response, what: str) -> None:
    if response.status not in ENTITLED:
        raise Failed(f"{what}: {describe(response)}")
    content = response.json()
    if isinstance(content, dict) and "result" in content:
        raise Failed(f"{what}: a result with status {response.status}")


def _expect_all_unauthorized(target: Target, era: str, token: str | None) -> None:
    target.expect_accepted(target.main.token(), "the good token")
    problems = []
    for name, message in messages.every(era).items():
        response = target.send(message, token)
        try:
            expect_unauthorized(response, name)
        except Failed as problem:
            problems.append(str(problem))
    if problems:
        raise Failed("; ".join(problems))


@check("request-legacy-no-token", "MCP authorization, Token Requirements")
def legacy_without_token(target: Target) -> None:
    """Every message of 2025-11-25 without a token gets 401."""
    _expect_all_unauthorized(target, LEGACY, None)


@check("request-modern-no-token", "MCP authorization, Token Requirements")
def modern_without_token(target: Target) -> None:
    """Every message of 2026-07-28 without a token gets 401."""
    _expect_all_unauthorized(target, MODERN, None)


@check("request-legacy-bad-token", "MCP authorization, Token Handling")
def legacy_with_bad_token(target: Target) -> None:
    """Every message of 2025-11-25 with a token for another server gets 401."""
    _expect_all_unauthorized(target, LEGACY, target.main.token(aud="https://other.example/mcp"))


@check("request-modern-bad-token", "MCP authorization, Token Handling")
def modern_with_bad_token(target: Target) -> None:
    """Every message of 2026-07-28 with a token for another server gets 401."""
    _expect_all_unauthorized(target, MODERN, target.main.token(aud="https://other.example/mcp"))


@check("request-methods", "RFC 9110 section 9; MCP authorization, Token Requirements")
def methods(target: Target) -> None:
    """GET, DELETE, HEAD and other methods without a token are refused, GET and DELETE with 401."""
    target.expect_accepted(target.main.token(), "the good token")
    lines: list[HeaderLine] = [("Accept", messages.ACCEPT)]
    for method in ("GET", "DELETE"):
        response = target.address.request(method, target.address.path, lines)
        expect_unauthorized(response, f"{method} without a token", (401, 405))
    for method in ("HEAD", "PUT", "PATCH", "TRACE", "PROPFIND", "CONNECT", "KIT", "get", "Post"):
        try:
            response = target.send(method=method)
        except NoResponse:
            continue
        _expect_not_served(response, method)


@check("request-preflight", "Fetch standard, CORS-preflight fetch", Severity.SHOULD)
def preflight(target: Target) -> None:
    """A preflight request, which browsers send without a token, is answered."""
    if not target.options.browser_origin:
        raise Skipped("no origin of pages was named; --browser-origin")
    for method in ("POST", "GET", "DELETE"):
        lines: list[HeaderLine] = [
            ("Origin", target.options.browser_origin),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "authorization,content-type"),
        ]
        response = target.address.request("OPTIONS", target.address.path, lines)
        if not 200 <= response.status < 300:
            raise Failed(f"the preflight of {method}: {describe(response)}")


@check("request-options-body", "RFC 9110 section 9.3.7")
def options_with_body(target: Target) -> None:
    """A message in the body of OPTIONS, or behind a method override, is not served."""
    target.expect_accepted(target.main.token(), "the good token")
    for message in _probes(target):
        response = target.send(message, method="OPTIONS")
        content = response.json()
        if isinstance(content, dict) and "result" in content:
            raise Failed(f"OPTIONS with a message: {describe(response)}")
        for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
            response = target.send(message, headers=[(name, "OPTIONS")])
            expect_unauthorized(response, f"POST with {name}: OPTIONS")


def _probes(target: Target) -> list[Message]:
    return [messages.build(era, messages.PROBES[era]) for era in target.eras]


@check("request-batch", "MCP transports; JSON-RPC 2.0 section 6")
def batch(target: Target) -> None:
    """A batch without a token, or with a token for another server, is not served."""
    target.expect_accepted(target.main.token(), "the good token")
    bad = target.main.token(aud="https://other.example/mcp")
    for message in _probes(target):
        document = json.loads(message.body)
        bodies: tuple[list[Any], ...]
        bodies = (
            [document],
            [document, document],
            [],
            [[document]],
            [document, {"jsonrpc": "2.0", "method": "ping"}],
        )
        for body in bodies:
            sent = Message(message.era, json.dumps(body).encode(), message.headers)
            for token in (None, bad):
                what = f"a batch of {len(body)}"
                expect_unauthorized(target.send(sent, token), what, (400, 401))


@check("request-media-types", "RFC 9110 section 8.3; MCP authorization, Token Requirements")
def media_types(target: Target) -> None:
    """No Content-Type, Accept or encoding serves a message without a token."""
    target.expect_accepted(target.main.token(), "the good token")
    kinds = ["text/plain", "", "application/xml", "multipart/form-data; boundary=x"]
    kinds += ["application/json; charset=utf-16", "application/x-www-form-urlencoded", "*/*"]
    for message in _probes(target):
        for kind in kinds:
            headers = {**message.headers, "Content-Type": kind}
            sent = Message(message.era, message.body, headers)
            _expect_not_served(target.send(sent), f"Content-Type {kind!r}")
        for accept in ("text/html", "text/event-stream", "application/json", ""):
            headers = {**message.headers, "Accept": accept}
            sent = Message(message.era, message.body, headers)
            _expect_not_served(target.send(sent), f"Accept {accept!r}")
        for name, value in (("Content-Encoding", "gzip"), ("Content-Encoding", "identity")):
            _expect_not_served(target.send(message, headers=[(name, value)]), f"{name} {value}")


@check("request-odd-bodies", "MCP authorization, Token Requirements")
def odd_bodies(target: Target) -> None:
    """A body that is no message gets no other answer than a message, without a token."""
    target.expect_accepted(target.main.token(), "the good token")
    message = _probes(target)[-1]
    bodies = {"nothing": b"", "no JSON": b"{", "null": b"null", "a number": b"1", "NUL": b"\0"}
    bodies |= {"high bytes": b"\xff\xfe", "a list": b"[]", "an object": b"{}"}
    for what, body in bodies.items():
        sent = Message(message.era, body, message.headers)
        expect_unauthorized(target.send(sent), f"a body of {what}", (400, 401))


def _chunks(body: bytes, size: int, extension: bytes = b"") -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(p), extension, p) for p in parts) + b"0\r\n\r\n"


@check("request-chunked", "RFC 9112 section 7.1")
def chunked(target: Target) -> None:
    """Chunked bodies do not skip the check of the token, and are served with one."""
    good = target.main.token()
    for message in _probes(target):
        for size, extension in ((7, b""), (1, b""), (100_000, b";a=b")):
            body = _chunks(message.body, size, extension)
            lines: list[HeaderLine] = [("Transfer-Encoding", "chunked")]
            sent = Message(message.era, body, message.headers)
            what = f"chunks of {size} bytes"
            expect_unauthorized(target.send(sent, headers=lines), what)
            served = target.address.request(
                "POST",
                target.address.path,
                [*message.headers.items(), *bearer(good), *lines],
                body,
            )
            if served.status != 200:
                raise Failed(f"{what} with a token: {describe(served)}")
            if session := served.first("mcp-session-id"):
                target.end_session(session, good)


@check("request-keep-alive", "RFC 9110 section 3.3; MCP authorization, Token Requirements")
def keep_alive(target: Target) -> None:
    """A token counts for its own request, not for the next one on the same connection."""
    message, path = target.probe, target.address.path
    length: list[HeaderLine] = [("Content-Length", str(len(message.body)))]
    lines = [*message.headers.items(), *length]
    good = target.main.token()
    first = target.address.head("POST", path, [*lines, *bearer(good)]) + message.body
    second = target.address.head("POST", path, lines) + message.body
    with target.address.connect() as connection:
        response = exchange(connection, first)
        if response.status != 200:
            raise Failed(f"the first request: {describe(response)}")
        if session := response.first("mcp-session-id"):
            target.end_session(session, good)
        try:
            again = exchange(connection, second)
        except NoResponse:
            return
        expect_unauthorized(again, "the second request on a connection, without a token")


@check("request-paths", "RFC 3986 section 6.2.2; MCP authorization, Token Requirements")
def paths(target: Target) -> None:
    """Other spellings of the path do not lead to the server without a token."""
    target.expect_accepted(target.main.token(), "the good token")
    path = target.address.path.rstrip("/")
    spellings = [f"{path}/", f"/{path}", f"{path}//", f"/.{path}", f"/x/..{path}", f"{path}/."]
    spellings += [
        f"{path};a=b",
        f"{path}%2f",
        f"{path}?a=b",
        f"{path}%00",
        f"{path}#a",
        path.upper(),
    ]
    spellings += [f"/%{ord(path[1:2] or 'm'):x}{path[2:]}", f"{path}/.well-known/x", f"{path}?"]
    spellings += [
        f"/.well-known/oauth-protected-resource/..{path}",
    ]
    spellings += [
        f"/.well-known/oauth-protected-resource/../..{path}",
    ]
    spellings += [f"http://{target.address.authority}{path}", "*", path.lstrip("/")]
    for message in _probes(target):
        for spelling in spellings:
            try:
                response = target.send(message, path=spelling)
            except NoResponse:
                continue
            _expect_not_served(response, f"POST {spelling}")


@check("request-upgrade", "RFC 9110 section 7.8")
def upgrade(target: Target) -> None:
    """An upgrade of the connection is not granted without a token."""
    target.expect_accepted(target.main.token(), "the good token")
    for protocol in ("websocket", "h2c"):
        lines: list[HeaderLine] = [("Upgrade", protocol), ("Sec-WebSocket-Version", "13")]
        lines += [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("HTTP2-Settings", "AAMAAABk")]
        for method in ("GET", "POST"):
            response = target.send(headers=[*lines, ("Connection", "Upgrade")], method=method)
            _expect_not_served(response, f"{method} with Upgrade: {protocol}")


@check("request-version-headers", "MCP transports, Protocol Version Header")
def version_headers(target: Target) -> None:
    """No protocol version, known or not, leads past the check of the token."""
    target.expect_accepted(target.main.token(), "the good token")
    versions = ("", "2024-11-05", "2025-03-26", "2025-06-18", "2099-01-01", "x" * 200)
    for message in _probes(target):
        for version in versions:
            headers = {**message.headers, "MCP-Protocol-Version": version}
            sent = Message(message.era, message.body, headers)
            expect_unauthorized(target.send(sent), f"MCP-Protocol-Version {version!r}", (400, 401))


@check("request-first-of-all", "MCP authorization, Error Handling", Severity.SHOULD)
def first_of_all(target: Target) -> None:
    """Without a token, what is wrong with a message is not told."""
    target.expect_accepted(target.main.token(), "the good token")
    for message in _probes(target):
        for what, body in {"no JSON": b"{", "no method": b'{"jsonrpc":"2.0","id":1}'}.items():
            sent = Message(message.era, body, message.headers)
            expect_unauthorized(target.send(sent), f"a body with {what}")
        odd = Message(message.era, message.body, {**message.headers, "Accept": "text/html"})
        expect_unauthorized(target.send(odd), "Accept text/html")
    session = messages.build(LEGACY, "ping", session="no-such-session")
    expect_unauthorized(target.send(session), "an unknown session")
