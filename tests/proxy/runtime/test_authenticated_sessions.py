"""Sessions, streams and parked calls of callers with tokens, which are refreshed or expire."""

import asyncio
import time
from typing import Any

import httpx2
import pytest

from tests.proxy.authentication.tokens import OTHER_RSA, RSA, Issuer, jwk, key_set
from tests.proxy.runtime.issuing import (
    PUBLIC_URL,
    IssuerServer,
)
from tests.proxy.runtime.raw import META, MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
CALL = rpc("tools/call", {"name": "echo", "arguments": {}})
SCOPED = {"resourceMetadata": {"scopesSupported": ["mcp:tools", "mcp:read"]}}
PAGE = "https://app.example.com"


async def test_a_call_with_a_token_is_served_in_both_eras(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    server, running = await guarded()
    raw = Raw(running.url, http)
    await raw.initialize(authorization=issuer.token())
    assert "result" in last(await raw.post(CALL, authorization=issuer.token()))
    about = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "echo"}
    call = modern("tools/call", name="echo", arguments={})
    assert "result" in last(await raw.post(call, authorization=issuer.token("bo"), **about))
    sent = [request.headers for request in server.gate.seen]
    assert not any("authorization" in headers for headers in sent)
    assert not any(name.startswith("mcpproxy-") for headers in sent for name in headers)


async def test_s8_a_session_is_for_its_subject_with_any_of_its_tokens(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    server, running = await guarded(backend={"session": {"mode": "PerClient"}})
    raw = Raw(running.url, http)
    await raw.initialize(authorization=issuer.token(jti="1"))
    for number in range(3):
        answer = await raw.post(CALL, authorization=issuer.token(jti=f"next {number}"))
        assert "result" in last(answer)
    used = {r.headers.get("mcp-session-id") for r in server.gate.seen if r.rpc == "tools/call"}
    assert len(used) == 1
    stolen = issuer.token("eve")
    for message in (CALL, rpc("ping"), [CALL], rpc("tools/list")):
        assert (await raw.post(message, authorization=stolen)).status_code == 404
    headers = {"mcp-session-id": raw.session or "", "authorization": stolen}
    streamed = await http.get(running.url, headers={**headers, "accept": "text/event-stream"})
    assert streamed.status_code == 404
    assert (await http.delete(running.url, headers=headers)).status_code == 404
    assert (await raw.post(CALL)).status_code == 401
    assert "result" in last(await raw.post(CALL, authorization=issuer.token(jti="last")))


async def test_s10_a_parked_call_is_for_its_subject_with_any_of_its_tokens(
    peer: Any, proxy: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url, "prefix": ""}, **issuer.spec())
    raw = Raw(running.url, http)
    about = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "elicit"}
    able: Any = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}

    async def call(token: str, **more: Any) -> Any:
        request = modern("tools/call", name="elicit", arguments={}, **more, _meta=able)
        return last(await raw.post(request, authorization=token, **about))

    parked = (await call(issuer.token(jti="1")))["result"]
    (key,) = parked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "Ann"}}}
    retry = {"requestState": parked["requestState"], "inputResponses": answers}
    assert "error" in await call(issuer.token("eve"), **retry)
    assert "result" in await call(issuer.token(jti="2"), **retry)


async def test_a_cached_head_is_refused_once_its_token_has_expired_or_its_key_is_revoked(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    issuer.keys = key_set(jwk(RSA), jwk(OTHER_RSA, "two"))
    _, running = await guarded()
    raw = Raw(running.url, http)
    token = issuer.token()
    await raw.initialize(authorization=token)
    for _ in range(3):
        assert (await raw.post(CALL, authorization=token)).status_code == 200
    # The difference of clocks that is allowed ends in a moment.
    expiring = issuer.token(exp=time.time() - 59.3)
    assert (await raw.post(CALL, authorization=expiring)).status_code == 200

    async def expired() -> bool:
        return (await raw.post(CALL, authorization=expiring)).status_code == 401

    await eventually(expired, "the token to be refused")
    authentication = running.runtime._authentication
    assert authentication is not None
    assert (await raw.post(CALL, authorization=token)).status_code == 200
    issuer.keys = key_set(jwk(OTHER_RSA, "two"))
    await authentication._remote[0].refresh()
    answer = await raw.post(CALL, authorization=token)
    assert (answer.status_code, "unknown" in answer.text) == (401, True)
    refreshed = Issuer(issuer.url, PUBLIC_URL, key=OTHER_RSA, key_id="two").token()
    assert (await raw.post(CALL, authorization=f"Bearer {refreshed}")).status_code == 200


async def test_a_repeated_head_is_hashed_and_verified_once(
    guarded: Any,
    issuer: IssuerServer,
    http: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, running = await guarded()
    raw, token = Raw(running.url, http), issuer.token()
    await raw.initialize(authorization=token)
    assert running.runtime._authentication is not None
    authenticator = running.runtime._authentication.authenticator
    await raw.post(CALL, authorization=token)
    hashed: list[Any] = []
    monkeypatch.setattr(authenticator, "_admit", lambda *of, **more: hashed.append(of))
    for _ in range(5):
        assert (await raw.post(CALL, authorization=token)).status_code == 200
    assert hashed == []


# Streams


async def _stream(url: str, http: httpx2.AsyncClient, **headers: str) -> str:
    """All of a GET stream."""
    async with http.stream("GET", url, headers={"accept": "text/event-stream", **headers}) as got:
        assert got.status_code == 200
        return (await got.aread()).decode()


async def _open(running: Proxy) -> None:
    """Wait until a GET stream is open."""

    async def is_open() -> bool:
        return bool(running.runtime.gateway.metrics.streams._value.get() == 1)

    await eventually(is_open, "the stream to be open")


async def test_a_stream_ends_when_its_token_expires_and_another_token_opens_it_again(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    _, running = await guarded()
    raw = Raw(running.url, http)
    await raw.initialize(authorization=issuer.token())
    session = {"mcp-session-id": raw.session or ""}
    short = issuer.token(exp=time.time() + 0.7)
    async with asyncio.timeout(10):
        await _stream(running.url, http, **session, authorization=short)
    opened = asyncio.create_task(
        _stream(running.url, http, **session, authorization=issuer.token())
    )
    await _open(running)
    opened.cancel()
    await asyncio.gather(opened, return_exceptions=True)


async def test_a_listen_ends_with_a_result_when_its_token_expires(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    _, running = await guarded()
    token = issuer.token(exp=time.time() + 0.7)
    about = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    listen = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    async with asyncio.timeout(10):
        answer = await Raw(running.url, http).post(listen, authorization=token, **about)
    assert answer.status_code == 200
    assert "result" in last(answer)


async def test_a_stream_ends_when_the_key_of_its_caller_is_revoked(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    issuer.keys = key_set(jwk(RSA), jwk(OTHER_RSA, "two"))
    _, running = await guarded()
    raw = Raw(running.url, http)
    await raw.initialize(authorization=issuer.token())
    session = {"mcp-session-id": raw.session or "", "authorization": issuer.token()}
    opened = asyncio.create_task(_stream(running.url, http, **session))
    await _open(running)
    issuer.keys = key_set(jwk(OTHER_RSA, "two"))
    assert running.runtime._authentication is not None
    await running.runtime._authentication._remote[0].refresh()
    async with asyncio.timeout(10):
        await opened
