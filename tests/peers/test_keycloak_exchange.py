"""Keycloak as the authorization server of a backend: client credentials and token exchange."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import jwt
import pytest
import pytest_asyncio

from scripts import keycloak
from scripts.keycloak_admin import Keycloak
from tests.proxy.runtime.granting import Demanding, Grants, demanding
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied
from tests.support.authority import Mounted

pytestmark = [
    *LIVE,
    pytest.mark.peers,
    pytest.mark.keycloak,
    pytest.mark.timeout(600),
]
RESOURCE = "https://mcp.example.com/tools"
CLIENT = ("mcpproxy", "secret-of-the-proxy")


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """A realm whose tokens are for the proxy."""
    keycloak.check()
    log = tmp_path_factory.mktemp("keycloak") / "keycloak.log"
    with keycloak.serving(RESOURCE, log) as served:
        yield served


@dataclass
class Stage:
    """A backend that accepts tokens of the realm."""

    backend: Demanding
    realm: Keycloak
    mounted: Mounted
    stack: AsyncExitStack

    async def proxy(self, kind: str, **more: Any) -> Proxy:
        """Start a proxy with this identity towards the backend."""
        source = {"secretKeyRef": {"name": "as", "key": "secret"}}
        client = {"clientId": CLIENT[0], "clientSecretFrom": source, **more}
        client |= {"issuer": self.realm.issuer, "insecureHttp": True}
        entry = {"name": "p", "url": self.backend.url, "prefix": "", "auth": {kind: client}}
        issuer = {"issuer": self.realm.issuer, "insecureHttp": True}
        spec = {"publicUrl": RESOURCE, "authentication": {"jwt": [issuer]}}
        options = {"values": self.mounted.directory}
        return await self.stack.enter_async_context(proxied(entry, options=options, **spec))


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def stage(realm: Keycloak, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A backend that accepts tokens which the realm issued to the proxy for it alone."""
    async with AsyncExitStack() as stack:
        keys = jwt.PyJWKClient(f"{realm.issuer}/protocol/openid-connect/certs")
        backend = await stack.enter_async_context(
            demanding(
                Peer("p").gate,
                Grants(url=realm.issuer),
                key_of=lambda token: keys.get_signing_key_from_jwt(token).key,
                accepts=lambda claims: claims["azp"] == CLIENT[0],
            )
        )
        realm.permit_exchange(CLIENT, backend.url)
        mounted = Mounted(tmp_path_factory.mktemp("values"))
        mounted.write("secret/as/secret", CLIENT[1])
        yield Stage(backend, realm, mounted, stack)


def _subject(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["sub"])


async def _call(proxy: Proxy, token: str) -> Any:
    async with httpx2.AsyncClient(timeout=30) as http:
        raw, bearer = Raw(proxy.url, http), f"Bearer {token}"
        await raw.initialize(authorization=bearer)
        call = rpc("tools/call", {"name": "echo", "arguments": {"who": "x"}})
        return last(await raw.post(call, authorization=bearer))


async def test_the_realm_exchanges_the_token_of_a_caller_for_one_that_the_backend_accepts(
    stage: Stage,
) -> None:
    proxy = await stage.proxy("tokenExchange")
    token = stage.realm.token()
    stage.backend.calls.clear()
    assert "result" in await _call(proxy, token)
    assert stage.backend.calls == [(_subject(token), "x")]
    assert f"Bearer {token}" not in stage.backend.tokens


async def test_the_realm_issues_a_token_to_the_proxy_itself(stage: Stage) -> None:
    proxy = await stage.proxy("clientCredentials")
    token = stage.realm.token()
    stage.backend.calls.clear()
    assert "result" in await _call(proxy, token)
    ((subject, _),) = stage.backend.calls
    assert subject != _subject(token)


async def test_a_scope_that_the_realm_lacks_is_a_refusal_with_its_code(stage: Stage) -> None:
    proxy = await stage.proxy("clientCredentials", scopes=["no-such-scope"])
    await proxy.until("p", "Unauthorized")
    (status,) = (await proxy.report()).backends
    assert status.reason == "TokenRefused"
    assert (status.message or "").endswith("invalid_scope")
