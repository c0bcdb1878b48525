"""Instances of one proxy with authentication: the identity of a caller reaches them all."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from mcpproxy.limits.http import REQUEST_HEAD
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.peers.identity_header import decode_identity, encode_identity
from mcpproxy.proxy.gateway.gateway import Gateway
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.issuing import IssuerServer, issuing
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY

pytestmark = LIVE
COUNT = rpc("tools/call", {"name": "increment", "arguments": {}})


@asynccontextmanager
async def two_instances() -> AsyncIterator[tuple[IssuerServer, list[Proxy]]]:
    """Two instances in front of a backend whose sessions belong to clients."""
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        base = await stack.enter_async_context(serving(Counter().gate))
        backend = {"name": "c", "url": f"{base}/mcp", "prefix": ""}
        backend["session"] = {"mode": "PerClient"}  # type: ignore[assignment]
        options = {"keys": (KEY,)}
        spec = issuer.spec(claims={"client": "azp"})
        # Claims are kept where a condition reads them.
        rule = {"name": "r", "who": {"groups": ["nobody"]}, "may": [{"tools": ["none"]}]}
        rules = [{**rule, "when": "claims.sub != ''"}]
        spec["authorization"] = {"default": "Allow", "rules": rules}
        instances = [
            await stack.enter_async_context(proxied(backend, options=options, **spec))
            for _ in range(2)
        ]
        yield issuer, instances


async def test_the_owner_of_a_session_gets_the_verified_identity_of_the_caller(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Gateway, Identity]] = []
    async with two_instances() as (issuer, (first, second)):
        token = issuer.token(groups=["dev", "ü"], scope="a b", azp="web", note='"\\ü\n')
        raw = Raw(first.url, http)
        await raw.initialize(authorization=token)
        raw.url = second.url
        _record(seen, monkeypatch)
        for jti in ("1", "2"):
            fresh = issuer.token(groups=["dev", "ü"], scope="a b", azp="web", jti=jti, note='"\\ü')
            forged = {"mcpproxy_identity": '{"method":"jwt","subject":"eve"}'}
            answer = await raw.post(COUNT, authorization=fresh, **forged, mcpproxy_principal="eve")
            assert "result" in last(answer), answer.text
        identities = [identity for gateway, identity in seen if gateway is first.runtime.gateway]
        assert [(i.subject, i.client, i.groups, i.scopes) for i in identities] == [
            ("ann", "web", frozenset({"dev", "ü"}), frozenset({"a", "b"}))
        ] * 2
        assert [identity.claims["jti"] for identity in identities] == ["1", "2"]
        assert identities[0].expires is not None
        assert (await raw.post(COUNT, authorization=issuer.token("eve"))).status_code == 404


def _record(seen: list[tuple[Gateway, Identity]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the gateway and the caller of each request that is handled."""
    handle = requests.handle_request

    async def recorded(gateway: Gateway, live: Any, message: Any, caller: Any, *more: Any) -> Any:
        seen.append((gateway, caller.client.identity))
        return await handle(gateway, live, message, caller, *more)

    monkeypatch.setattr(requests, "handle_request", recorded)


async def test_without_a_token_nothing_reaches_another_instance(http: httpx2.AsyncClient) -> None:
    async with two_instances() as (issuer, (first, second)):
        raw = Raw(first.url, http)
        await raw.initialize(authorization=issuer.token(azp="web"))
        raw.url = second.url
        stolen = {"mcpproxy_identity": '{"method":"jwt","subject":"ann"}'}
        assert (await raw.post(COUNT, **stolen)).status_code == 401


async def test_a_forwarded_stream_ends_with_the_credentials_of_its_caller(
    http: httpx2.AsyncClient,
) -> None:
    """The owner may know the new keys before the client opens its stream at another instance."""
    async with two_instances() as (issuer, (first, second)):
        raw = Raw(first.url, http)
        token = issuer.token(azp="web")
        await raw.initialize(authorization=token)
        headers = {"authorization": token, "accept": "text/event-stream"}
        headers |= {"mcp-session-id": raw.session or "", "mcp-protocol-version": "2025-11-25"}
        async with http.stream("GET", second.url, headers=headers) as stream:
            assert stream.status_code == 200
            ended = asyncio.create_task(stream.aread())
            front = second.runtime._front
            assert front is not None
            front.end_revoked(issuer.url, "eve")
            await asyncio.sleep(0)
            assert not ended.done()
            front.end_revoked(issuer.url, "ann")
            await asyncio.wait_for(ended, 5)


@pytest.mark.parametrize(
    "identity",
    [
        ANONYMOUS,
        Identity("apiKey", "mcpproxy:apiKeys", "n8n", api_key="n8n"),
        Identity("serviceAccount", "i", "s", service_account=("ns", "bot"), expires=1.5),
        Identity("jwt", "i", "ü\r\n", "c", frozenset("ab"), frozenset("x"), actor="a", claims={}),
    ],
)
async def test_an_identity_survives_its_header(identity: Identity) -> None:
    header = encode_identity(identity)
    assert header.isascii()
    assert not {b"\r", b"\n"} & {bytes([byte]) for byte in header}
    decoded = decode_identity(header)
    assert decoded == identity
    assert decoded.principal == identity.principal


@pytest.mark.parametrize("letter", ["a", "\u00fc", "\u4e16", "\U0001f600", "\x7f", '"'])
async def test_the_identity_of_the_largest_token_fits_into_a_head(letter: str) -> None:
    most = 12 * 1024 // (30 * len(letter.encode()) + 7)
    groups = [f"{number:03}{letter * 30}" for number in range(most)]
    payload = json.dumps({"sub": "s", "groups": groups}, ensure_ascii=False).encode()
    token = "h." + base64.urlsafe_b64encode(payload).decode() + "." + "s" * 342
    identity = Identity(
        "jwt", "i", "s", groups=frozenset(groups), claims=json.loads(payload), token=token
    )
    header = encode_identity(identity)
    assert len(header) < REQUEST_HEAD.value / 2
    assert header.isascii()
    assert b"\n" not in header
    assert decode_identity(header) == identity
    assert decode_identity(header).claims == identity.claims
    assert decode_identity(header).token == token


async def test_a_session_works_at_every_instance_with_a_large_token(
    http: httpx2.AsyncClient,
) -> None:
    async with two_instances() as (issuer, (first, second)):
        token = issuer.token(groups=[f"{number}" + "\u4e16" * 40 for number in range(42)])
        assert 11_000 < len(token) < 16_384 + 7
        raw = Raw(first.url, http)
        await raw.initialize(authorization=token)
        raw.url = second.url
        answer = await raw.post(COUNT, authorization=token)
        assert "result" in last(answer), answer.text


async def test_headers_that_no_instance_would_accept_are_refused_with_the_reason(
    http: httpx2.AsyncClient,
) -> None:
    async with two_instances() as (issuer, (first, second)):
        token = issuer.token()
        raw = Raw(first.url, http)
        await raw.initialize(authorization=token)
        raw.url = second.url
        answer = await raw.post(COUNT, authorization=token, mcp_param_x="x" * 62_000)
        assert answer.status_code == 431
        assert "handed over" in answer.text
