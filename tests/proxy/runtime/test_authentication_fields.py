"""Each field of `spec.authentication`, at a proxy that runs."""

import hashlib
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.downstream.legacy import requests
from tests.proxy.authentication.tokens import RSA, Issuer, jwk, key_set
from tests.proxy.runtime.issuing import KEYS_PATH, METADATA_PATH, PUBLIC_URL, IssuerServer, issuing
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.support.authority import Authority, Mounted

pytestmark = LIVE
CALL = rpc("tools/call", {"name": "echo", "arguments": {}})
OPENID = "/.well-known/openid-configuration"


@pytest.fixture
def running(peer: Any, stack: AsyncExitStack) -> Any:
    """Starts a proxy of this spec."""

    async def start(options: dict[str, Any] | None = None, **spec: Any) -> Proxy:
        _, url = await peer("p")
        backend = {"name": "p", "url": url, "prefix": ""}
        return await stack.enter_async_context(proxied(backend, options=options, **spec))

    return start


@pytest_asyncio.fixture(loop_scope="session")
async def issuer(stack: AsyncExitStack) -> IssuerServer:
    """An issuer of tokens."""
    return await stack.enter_async_context(issuing())


async def _initialized(proxy: Proxy, http: httpx2.AsyncClient, **headers: str) -> int:
    return (await Raw(proxy.url, http).initialize(**headers)).status_code


async def test_the_public_url_is_a_path_a_host_and_the_audience(
    running: Any, http: httpx2.AsyncClient, issuer: IssuerServer
) -> None:
    spec = issuer.spec(audiences=[PUBLIC_URL])
    proxy = await running(**spec)
    raw = Raw(f"{proxy.base}/tools", http)
    answer = await raw.initialize(authorization=issuer.token(), host="mcp.example.com")
    assert answer.status_code == 200
    del spec["authentication"]["jwt"][0]["audiences"]
    proxy = await running(**spec)
    assert await _initialized(proxy, http, authorization=issuer.token()) == 200
    assert await _initialized(proxy, http, authorization=issuer.token(aud="x")) == 401


async def test_without_authentication_the_public_url_is_served_as_well(
    running: Any, http: httpx2.AsyncClient
) -> None:
    proxy = await running(publicUrl="https://mcp.example.com")
    answer = await Raw(f"{proxy.base}/", http).initialize(host="mcp.example.com")
    assert answer.status_code == 200
    assert (await http.get(f"{proxy.base}{METADATA_PATH}")).status_code == 404


async def test_the_mode_decides_on_requests_without_credentials(
    running: Any, http: httpx2.AsyncClient, issuer: IssuerServer
) -> None:
    spec = issuer.spec()
    assert await _initialized(await running(**spec), http) == 401
    spec["authentication"]["mode"] = "Optional"
    assert await _initialized(await running(**spec), http) == 200


async def test_tokens_are_those_of_the_named_issuer_audience_and_key_set(
    running: Any, http: httpx2.AsyncClient, issuer: IssuerServer
) -> None:
    issuer.metadata_at = "/nowhere"
    named = issuer.spec(audiences=["tools"], jwksUrl=f"{issuer.url}{KEYS_PATH}")
    proxy = await running(**named)
    assert await _initialized(proxy, http, authorization=issuer.token(aud="tools")) == 200
    assert await _initialized(proxy, http, authorization=issuer.token()) == 401
    other = Issuer("https://other.example", "tools").token()
    assert await _initialized(proxy, http, authorization=f"Bearer {other}") == 401


@pytest.mark.parametrize("kind", ["secret", "configmap"])
async def test_authorities_of_an_issuer_may_lie_in_a_secret_or_a_config_map(
    running: Any, http: httpx2.AsyncClient, tmp_path: Path, kind: str
) -> None:
    authority, mounted = Authority("One"), Mounted(tmp_path)
    certificate, key = authority.issue("login.example.com")
    chain = tmp_path / "chain.pem"
    chain.write_text(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    mounted.write(f"{kind}/authorities/pem", authority.pem)
    served = IssuerServer("https://login.example.com", OPENID)
    source = {"name": "authorities", "key": "pem"}
    reference = "secretKeyRef" if kind == "secret" else "configMapKeyRef"
    async with serving(served, tls=tls) as base:
        options = {"values": tmp_path, "resolve": {"login.example.com": base[8:]}}
        entry = {"issuer": served.url, "caFrom": {reference: source}}
        proxy = await running(options, publicUrl=PUBLIC_URL, authentication={"jwt": [entry]})
        assert await _initialized(proxy, http, authorization=served.token()) == 200


async def test_an_identity_is_made_of_the_named_claims(
    running: Any,
    http: httpx2.AsyncClient,
    issuer: IssuerServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Identity] = []
    handle = requests.handle_request

    async def recorded(gateway: Any, live: Any, message: Any, caller: Any, *more: Any) -> Any:
        seen.append(caller.client.identity)
        return await handle(gateway, live, message, caller, *more)

    monkeypatch.setattr(requests, "handle_request", recorded)
    names = {"subject": "email", "groups": "roles", "client": "azp", "scopes": "perms"}
    proxy = await running(**issuer.spec(claims=names))
    claims: dict[str, Any] = {"email": "a@b", "roles": ["dev"], "azp": "web", "perms": "read"}
    raw, token = Raw(proxy.url, http), issuer.token("ann", **claims)
    await raw.initialize(authorization=token)
    assert (await raw.post(rpc("ping"), authorization=token)).status_code == 200
    identity = seen[-1]
    assert (identity.subject, identity.client) == ("a@b", "web")
    assert (identity.groups, identity.scopes) == (frozenset({"dev"}), frozenset({"read"}))


async def test_tokens_of_service_accounts_have_the_audience_of_the_spec(
    running: Any, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    mounted, url = Mounted(tmp_path), "https://kubernetes.default.svc"
    mounted.write("configmap/tools-service-account-keys/issuer", url)
    mounted.write("configmap/tools-service-account-keys/jwks", key_set(jwk(RSA)).decode())
    accounts = {"serviceAccounts": {"audience": "tools.mcpproxy.dev"}}
    proxy = await running({"values": tmp_path}, authentication=accounts)
    token = Issuer(url, ["tools.mcpproxy.dev"]).token("system:serviceaccount:agents:bot")
    assert await _initialized(proxy, http, authorization=f"Bearer {token}") == 200
    other = Issuer(url, ["other"]).token("system:serviceaccount:agents:bot")
    assert await _initialized(proxy, http, authorization=f"Bearer {other}") == 401


async def test_an_api_key_has_its_hash_in_the_named_secret_and_its_name_in_the_spec(
    running: Any, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    mounted, key = Mounted(tmp_path), "k" * 40
    mounted.write("secret/agent-keys/n8n", hashlib.sha256(key.encode()).hexdigest())
    source = {"secretKeyRef": {"name": "agent-keys", "key": "n8n"}}
    keys = {"apiKeys": [{"name": "n8n", "hashFrom": source}]}
    proxy = await running({"values": tmp_path}, authentication=keys)
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=f"Bearer {key}")
    assert "result" in last(await raw.post(CALL, authorization=f"Bearer {key}"))
    assert proxy.runtime._authentication is not None
    authenticator = proxy.runtime._authentication.authenticator
    (admission,) = authenticator._cache._admissions.values()
    assert admission.identity.api_key == "n8n"


async def test_the_metadata_has_the_scopes_and_the_page_of_the_spec(
    running: Any, http: httpx2.AsyncClient, issuer: IssuerServer
) -> None:
    spec = issuer.spec()
    page = "https://wiki.example.com/mcp"
    more = {"scopesSupported": ["mcp:tools"], "documentation": page}
    spec["authentication"]["resourceMetadata"] = more
    proxy = await running(**spec)
    document = (await http.get(f"{proxy.base}{METADATA_PATH}")).json()
    assert document["scopes_supported"] == ["mcp:tools"]
    assert document["resource_documentation"] == page
    refused = await Raw(proxy.url, http).initialize()
    assert 'scope="mcp:tools"' in refused.headers["www-authenticate"]
