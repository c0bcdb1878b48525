"""Instances of one proxy with authentication: the identity of a caller reaches them all."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

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
