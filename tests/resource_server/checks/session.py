"""Sessions of the legacy era belong to the subject that opened them, not to a token."""

import time

from tests.resource_server import messages
from tests.resource_server.check import Failed, Severity, check
from tests.resource_server.http_client import HeaderLine, Response
from tests.resource_server.messages import LEGACY
from tests.resource_server.target import Target, bearer, describe, expect_unauthorized

LIST = "tools/list"


def _list(target: Target, session: str, token: str | None) -> Response:
    return target.send(messages.build(LEGACY, LIST, session=session), token)


def _expect_served(response: Response, what: str) -> None:
    content = response.json()
    if response.status != 200 or not isinstance(content, dict) or "result" not in content:
        raise Failed(f"{what}: {describe(response)}")


@check("session-refreshed-token", "MCP security best practices, Session Hijacking")
def refreshed_token(target: Target) -> None:
    """A session goes on with a newer token of the same subject, also of another key."""
    main = target.main
    with target.session(main.token()) as session:
        for key in main.keys:
            token = main.token(key, exp=int(time.time()) + 1200)
            _expect_served(_list(target, session, token), f"a newer token by {key.kid}")


@check("session-other-subject", "MCP security best practices, Session Hijacking")
def other_subject(target: Target) -> None:
    """A session is not served to another subject, who gets 404, and goes on for its owner."""
    owner, stranger = target.main.token(), target.main.token(sub="bob")
    with target.session(owner) as session:
        _expect_served(_list(target, session, owner), "the owner of a session")
        for method in (LIST, "ping", "resources/list", "tools/call"):
            message = messages.build(LEGACY, method, session=session)
            response = target.send(message, stranger)
            if response.status != 404:
                raise Failed(f"{method} of another subject: {describe(response)}, expected 404")
        notification = messages.build(LEGACY, "notifications/cancelled", None, None, session)
        response = target.send(notification, stranger)
        if response.status != 404:
            raise Failed(f"a notification of another subject: {describe(response)}, expected 404")
        _expect_served(_list(target, session, owner), "the owner after the stranger")


@check("session-similar-subject", "MCP security best practices, Session Hijacking")
def similar_subject(target: Target) -> None:
    """Subjects that differ in case, in spaces or in normalization are different."""
    pairs = (("alice", "Alice"), ("alice", "alice "), ("é", "e\u0301"), ("a", "a\0"))
    for owner, other in pairs:
        with target.session(target.main.token(sub=owner)) as session:
            response = _list(target, session, target.main.token(sub=other))
            if response.status == 200:
                raise Failed(f"the session of {owner!r} is served to {other!r}")


@check("session-other-issuer", "RFC 9068 section 2.2; RFC 7519 section 4.1.2")
def same_subject_of_other_issuer(target: Target) -> None:
    """The same subject of another issuer is another principal."""
    other = target.issuer("other").token()
    target.expect_accepted(other, "a token of the issuer other")
    with target.session(target.main.token()) as session:
        response = _list(target, session, other)
        if response.status != 404:
            raise Failed(f"alice of another issuer: {describe(response)}, expected 404")


@check("session-no-token", "MCP authorization, Token Requirements")
def session_without_token(target: Target) -> None:
    """The id of a session does not replace a token."""
    with target.session(target.main.token()) as session:
        for name, message in messages.every(LEGACY, session).items():
            expect_unauthorized(target.send(message), f"{name} with the id of a session")
        for method in ("GET", "DELETE"):
            lines: list[HeaderLine] = [("Mcp-Session-Id", session), ("Accept", messages.ACCEPT)]
            response = target.address.request(method, target.address.path, lines)
            expect_unauthorized(response, f"{method} with the id of a session")
        _expect_served(_list(target, session, target.main.token()), "the owner afterwards")


@check("session-bad-token", "MCP authorization, Token Handling")
def session_with_bad_token(target: Target) -> None:
    """The id of a session does not repair a bad token, nor does a bad token end the session."""
    main = target.main
    with target.session(main.token()) as session:
        bad = {
            "an expired token": main.token(exp=int(time.time()) - 3600),
            "a token for another audience": main.token(aud="https://other.example/mcp"),
            "a token with a bad signature": main.token() + "AAAA",
        }
        for what, token in bad.items():
            expect_unauthorized(_list(target, session, token), what)
        _expect_served(_list(target, session, main.token()), "the owner afterwards")


@check("session-delete", "MCP security best practices, Session Hijacking")
def delete_by_stranger(target: Target) -> None:
    """Another subject cannot end a session."""
    owner, stranger = target.main.token(), target.main.token(sub="bob")
    with target.session(owner) as session:
        lines: list[HeaderLine] = [("Mcp-Session-Id", session), *bearer(stranger)]
        lines.append(("MCP-Protocol-Version", LEGACY))
        response = target.address.request("DELETE", target.address.path, lines)
        if not 400 <= response.status < 500:
            raise Failed(f"DELETE by another subject: {describe(response)}")
        _expect_served(_list(target, session, owner), "the owner after DELETE by a stranger")


@check("session-stream", "MCP security best practices, Session Hijacking")
def stream_of_stranger(target: Target) -> None:
    """Another subject gets no stream of a session, with or without Last-Event-ID."""
    owner, stranger = target.main.token(), target.main.token(sub="bob")
    with target.session(owner) as session:
        for event in ("", "1", "0"):
            lines: list[HeaderLine] = [("Mcp-Session-Id", session), *bearer(stranger)]
            lines += [("Accept", "text/event-stream"), ("MCP-Protocol-Version", LEGACY)]
            lines += [("Last-Event-ID", event)] if event else []
            with target.address.stream("GET", target.address.path, lines) as stream:
                status = stream.response.status
            if not 400 <= status < 500:
                raise Failed(f"GET by another subject, Last-Event-ID {event!r}: status {status}")


@check("session-initialize", "MCP security best practices, Session Hijacking", Severity.SHOULD)
def initialize_in_session(target: Target) -> None:
    """A second `initialize` with the id of a stranger's session does not take the session over."""
    owner, stranger = target.main.token(), target.main.token(sub="bob")
    with target.session(owner) as session:
        target.send(messages.build(LEGACY, "initialize", session=session), stranger)
        response = _list(target, session, stranger)
        if response.status == 200:
            raise Failed("after initialize, the session is served to another subject")
        _expect_served(_list(target, session, owner), "the owner afterwards")
