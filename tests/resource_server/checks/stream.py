"""Streams for notifications: they need a token, and end when it expires."""

import time

from tests.resource_server import messages
from tests.resource_server.check import Failed, Skipped, check
from tests.resource_server.http_client import HeaderLine
from tests.resource_server.messages import LEGACY, MODERN
from tests.resource_server.target import Target, bearer, describe, expect_unauthorized

LEFT_SECONDS = 6
"""Time that a token has left when a stream is opened with it."""
QUIET_SECONDS = 2.0
GRACE_SECONDS = 6.0
"""Time in which a server notices that a token has expired."""
NO_STREAM = (404, 405, 501)


def _expiring(target: Target, left: float) -> str:
    return target.main.token(exp=int(time.time() + left), iat=int(time.time()) - 600)


def _expect_end(target: Target, era: str, session: str) -> None:
    """A stream of a token that is about to be refused ends at that time.

    A server that tolerates clock skew may keep the stream for so long, so the token is almost
    beyond it; one without tolerance refuses this token, and gets a token that is about to expire.
    """
    for left in (LEFT_SECONDS - target.options.leeway, float(LEFT_SECONDS)):
        with target.open_stream(era, _expiring(target, left), session) as stream:
            response = stream.response
            if response.status in NO_STREAM:
                raise Skipped(f"the server has no such stream: status {response.status}")
            if response.status == 401:
                continue
            if response.status != 200:
                raise Failed(f"the stream: {describe(response)}")
            if not stream.ends_by(time.monotonic() + LEFT_SECONDS + GRACE_SECONDS):
                raise Failed(f"the stream is open {GRACE_SECONDS:.0f} s after its token expired")
            return
    raise Failed("a stream with a token that is about to expire is refused")


def _expect_open(target: Target, era: str, session: str) -> None:
    with target.open_stream(era, target.main.token(), session) as stream:
        if stream.response.status in NO_STREAM:
            raise Skipped(f"the server has no such stream: status {stream.response.status}")
        if stream.response.status != 200:
            raise Failed(f"a stream with a good token: status {stream.response.status}")
        if stream.ends_by(time.monotonic() + QUIET_SECONDS):
            raise Failed(f"a stream with a good token ended: {stream.data[:200]!r}")


@check("stream-get-open", "MCP transports, Listening for Messages from the Server")
def get_stream_stays(target: Target) -> None:
    """A GET stream with a valid token stays open."""
    with target.session(target.main.token()) as session:
        _expect_open(target, LEGACY, session)


@check("stream-get-expiry", "MCP authorization, Token Requirements; RFC 7519 section 4.1.4")
def get_stream_ends(target: Target) -> None:
    """A GET stream ends when its token expires, and the session goes on with a new token."""
    with target.session(target.main.token()) as session:
        _expect_end(target, LEGACY, session)
        message = messages.build(LEGACY, "tools/list", session=session)
        response = target.send(message, target.main.token())
        if response.status != 200:
            raise Failed(f"the session with a new token: {describe(response)}")
        _expect_open(target, LEGACY, session)


@check("stream-get-no-token", "MCP authorization, Token Requirements")
def get_without_token(target: Target) -> None:
    """A GET stream needs a token, with and without Last-Event-ID."""
    target.expect_accepted(target.main.token(), "the good token")
    for event in ("", "1"):
        lines: list[HeaderLine] = [("Accept", "text/event-stream")]
        lines += [("Last-Event-ID", event)] if event else []
        with target.address.stream("GET", target.address.path, lines) as stream:
            expect_unauthorized(stream.response, f"GET, Last-Event-ID {event!r}")


@check("stream-listen-open", "MCP subscriptions/listen")
def listen_stays(target: Target) -> None:
    """The stream of subscriptions/listen with a valid token stays open."""
    target.require(MODERN)
    _expect_open(target, MODERN, "")


@check("stream-listen-expiry", "MCP authorization, Token Requirements; RFC 7519 section 4.1.4")
def listen_ends(target: Target) -> None:
    """The stream of subscriptions/listen ends when its token expires."""
    target.require(MODERN)
    _expect_end(target, MODERN, "")


@check("stream-listen-no-token", "MCP authorization, Token Requirements")
def listen_without_token(target: Target) -> None:
    """The stream of subscriptions/listen needs a token that is valid for the server."""
    target.require(MODERN)
    message = messages.build(MODERN, "subscriptions/listen")
    expect_unauthorized(target.send(message), "subscriptions/listen without a token")
    bad = target.main.token(aud="https://other.example/mcp")
    lines = [*message.headers.items(), *bearer(bad)]
    with target.address.stream("POST", target.address.path, lines, message.body) as stream:
        expect_unauthorized(stream.response, "subscriptions/listen with a token for another server")
