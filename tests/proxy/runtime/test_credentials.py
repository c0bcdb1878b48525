"""Credentials of all kinds at a proxy, and what backends, the status and metrics get of them."""

import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2

from tests.proxy.authentication.tokens import RSA, Issuer, jwk, key_set
from tests.proxy.runtime.issuing import (
    METADATA_PATH,
    PUBLIC_URL,
    IssuerServer,
)
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
CALL = rpc("tools/call", {"name": "echo", "arguments": {}})
SCOPED = {"resourceMetadata": {"scopesSupported": ["mcp:tools", "mcp:read"]}}
PAGE = "https://app.example.com"


def _challenge(answer: httpx2.Response) -> str:
    challenge: str = answer.headers["www-authenticate"]
    return challenge


async def test_optional_authentication_serves_callers_without_credentials(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    _, running = await guarded(authentication={"mode": "Optional"})
    raw = Raw(running.url, http)
    await raw.initialize()
    assert "result" in last(await raw.post(CALL))
    assert (await raw.post(CALL, authorization="Bearer x")).status_code == 401
    # The session of nobody is not that of somebody.
    assert (await raw.post(CALL, authorization=issuer.token())).status_code == 404


async def test_a_client_with_an_api_key_is_served(
    peer: Any, stack: AsyncExitStack, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    _, url = await peer("p")
    secret = tmp_path / "secret" / "keys"
    secret.mkdir(parents=True)
    (secret / "n8n").write_text(hashlib.sha256(b"k" * 40).hexdigest())
    source = {"secretKeyRef": {"name": "keys", "key": "n8n"}}
    running = await stack.enter_async_context(
        proxied(
            {"name": "p", "url": url, "prefix": ""},
            options={"values": tmp_path},
            publicUrl=PUBLIC_URL,
            authentication={"apiKeys": [{"name": "n8n", "hashFrom": source}]},
        )
    )
    raw = Raw(running.url, http)
    refused = await raw.initialize(authorization="Bearer " + "x" * 40)
    assert (refused.status_code, "resource_metadata" in _challenge(refused)) == (401, False)
    await raw.initialize(authorization="Bearer " + "k" * 40)
    assert "result" in last(await raw.post(CALL, authorization="Bearer " + "k" * 40))
    assert (await http.get(f"{running.base}{METADATA_PATH}")).status_code == 404


def _account(issuer: str, **claims: Any) -> str:
    """A token of a ServiceAccount, as the API server signs it."""
    subject = claims.pop("subject", "system:serviceaccount:agents:bot")
    token = Issuer(issuer, ["tools.mcpproxy.dev"]).token(subject, header={"typ": None}, **claims)
    return f"Bearer {token}"


async def test_an_agent_with_the_token_of_its_service_account_is_served(
    peer: Any, stack: AsyncExitStack, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    _, url = await peer("p")
    issuer = "https://kubernetes.default.svc.cluster.local"
    running = await stack.enter_async_context(
        proxied(
            {"name": "p", "url": url, "prefix": ""},
            options={"values": tmp_path},
            authentication={"serviceAccounts": {"audience": "tools.mcpproxy.dev"}},
        )
    )
    raw = Raw(running.url, http)
    early = await raw.initialize(authorization=_account(issuer))
    assert early.status_code == 401
    authentication = running.runtime._authentication
    assert authentication is not None
    assert authentication._cluster is not None
    mounted = tmp_path / "configmap" / f"{_proxy_name(running)}-service-account-keys"
    mounted.mkdir(parents=True)
    (mounted / "issuer").write_text(issuer)
    (mounted / "jwks").write_bytes(key_set(jwk(RSA)))
    authentication._cluster._group._read_at = float("-inf")
    authentication._cluster.refresh()
    assert (await raw.initialize(authorization=_account(issuer))).status_code == 200
    assert "result" in last(await raw.post(CALL, authorization=_account(issuer, jti="2")))
    for wrong in (
        _account(issuer, aud="https://kubernetes.default.svc"),
        _account("https://other.example"),
        _account(issuer, subject="system:node:one"),
        _account(issuer, subject="agents:bot"),
        _account(issuer, subject="system:serviceaccount:agents"),
        _account(issuer, subject="system:serviceaccount:agents:bot:x"),
    ):
        assert (await raw.post(CALL, authorization=wrong)).status_code == 401


def _proxy_name(running: Proxy) -> str:
    configuration = running.runtime._configuration
    assert configuration is not None
    return configuration.proxy.metadata.name


# Backends and the status


async def test_s12_a_token_reaches_only_the_backend_that_states_passthrough(
    peer: Any, proxy: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    passing, url = await peer("passing")
    other, elsewhere = await peer("other")
    running = await proxy(
        {
            "name": "passing",
            "url": url,
            "forwardHeaders": ["Authorization"],
            "auth": {"passthrough": True},
        },
        {"name": "other", "url": elsewhere},
        **issuer.spec(),
    )
    raw, token = Raw(running.url, http), issuer.token()
    await raw.initialize(authorization=token)
    for name in ("passing_echo", "other_echo"):
        call = rpc("tools/call", {"name": name, "arguments": {}})
        assert "result" in last(await raw.post(call, authorization=token))
    passed = {r.headers.get("authorization") for r in passing.gate.seen if r.rpc == "tools/call"}
    assert passed == {token}
    assert {r.headers.get("authorization") for r in other.gate.seen} == {None}


async def test_the_report_and_the_metrics_have_issuers_and_authentications(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    _, running = await guarded()
    raw = Raw(running.url, http)
    await raw.initialize(authorization=issuer.token())
    await raw.initialize(authorization=issuer.token(aud="x"))
    (status,) = (await running.report()).authentication or []
    assert (status.issuer, status.keys, status.message) == (issuer.url, 1, None)
    metrics = (await http.get(f"{running.admin}/metrics")).text
    assert 'mcpproxy_authentications_total{method="jwt",result="accepted"} 1.0' in metrics
    assert 'mcpproxy_authentications_total{method="",result="wrong_audience"} 1.0' in metrics
    issuer.status = 500
    assert running.runtime._authentication is not None
    await running.runtime._authentication._remote[0].refresh()
    (status,) = (await running.report()).authentication or []
    assert status.keys == 1
    assert (status.message or "").endswith("/keys: HTTP 500")


async def test_a_proxy_with_authentication_becomes_ready(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    server, running = await guarded(
        backend={"forwardHeaders": ["Authorization"], "auth": {"passthrough": True}},
    )

    async def ready() -> bool:
        return (await http.get(f"{running.admin}/readyz")).status_code == 200

    await eventually(ready, "the proxy to be ready")
    forged = await Raw(running.url, http).post(rpc("ping"), mcpproxy_readiness="x")
    assert forged.status_code == 401
    assert not any("mcpproxy-readiness" in r.headers for r in server.gate.seen)
