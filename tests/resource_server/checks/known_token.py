"""Tokens that the server has accepted before, and may remember."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from tests.resource_server import messages
from tests.resource_server.check import Failed, Skipped, check
from tests.resource_server.http_client import HeaderLine, NoResponse, Response, exchange
from tests.resource_server.messages import LEGACY, MODERN, Message
from tests.resource_server.target import Target, bearer, describe, expect_unauthorized

SOON_SECONDS = 3.0
"""Time after which a token is refused that is accepted at first."""
METHODS = ("tools/list", "tools/call", "resources/list")


def _expiring(target: Target) -> tuple[str, int]:
    """Return a token that is about to be refused, and its expiration. Raise Failed."""
    for left in (SOON_SECONDS - target.options.leeway, SOON_SECONDS):
        end = int(time.time() + left) + 1
        token = target.main.token(exp=end, iat=end - 600)
        if target.send(token=token).status == 200:
            return token, end
    raise Failed("a token that is about to expire is not accepted")


def _params(target: Target, method: str) -> dict[str, Any] | None:
    """Return the parameters of a call of the tool that may be called, None for other methods."""
    if method == "tools/call" and target.options.tool:
        return {"name": target.options.tool, "arguments": {}}
    return None


def _requests(target: Target, token: str, stack: ExitStack) -> Iterator[tuple[str, Message]]:
    """Yield requests of each era: servers answer some of them on a shorter way than others."""
    yield "the first request", target.probe
    if MODERN in target.eras:
        for method in METHODS:
            yield f"{method} of {MODERN}", messages.build(MODERN, method, _params(target, method))
    if LEGACY in target.eras:
        try:
            session = stack.enter_context(target.session(token))
        except Skipped:
            return
        for method in ("ping", *METHODS):
            params = _params(target, method)
            yield f"{method} of {LEGACY}", messages.build(LEGACY, method, params, 1, session)


def _bytes(target: Target, message: Message, token: str) -> bytes:
    length: HeaderLine = ("Content-Length", str(len(message.body)))
    lines = [*message.headers.items(), length, *bearer(token)]
    return target.address.head("POST", target.address.path, lines) + message.body


@check("exp-known-token", "RFC 7519 section 4.1.4; MCP authorization, Token Handling")
def known_token_expires(target: Target) -> None:
    """A token that was accepted is refused once it has expired, also on a known connection."""
    token, end = _expiring(target)
    with ExitStack() as stack:
        known = []
        for name, message in _requests(target, token, stack):
            connection = stack.enter_context(target.address.connect())
            request = _bytes(target, message, token)
            for _ in range(2):
                if exchange(connection, request).status == 401:
                    raise Failed(f"{name} with a token that is about to expire is refused")
            known.append((name, connection, request))
        _await_refusal(target, token, end + target.options.leeway + 1.0)
        for name, connection, request in known:
            try:
                response: Response = exchange(connection, request)
            except NoResponse:
                # The server has closed the connection, as it may.
                continue
            expect_unauthorized(response, f"{name} with a token that has expired meanwhile")


def _await_refusal(target: Target, token: str, deadline: float) -> None:
    """Return when the token is refused; a server may have less tolerance than it is said to."""
    while (response := target.send(token=token)).status != 401:
        if time.time() > deadline:
            raise Failed(f"a token is still accepted after it has expired: {describe(response)}")
        time.sleep(0.25)
