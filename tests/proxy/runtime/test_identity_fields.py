"""The fields of `backends[].auth`: what each of them changes."""

import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from tests.proxy.authentication.tokens import P256
from tests.proxy.runtime.granting import (
    CLIENT,
    EXCHANGE,
    METADATA_AT,
    SECRET,
    Demanding,
    Grants,
    pem,
)
from tests.proxy.runtime.identities import Stage
from tests.proxy.runtime.issuing import IssuerServer
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, serving
from tests.proxy.runtime.waiting import soon
from tests.support.authority import Authority

pytestmark = LIVE
KINDS = pytest.mark.parametrize("kind", ["clientCredentials", "tokenExchange"])
SOURCES = pytest.mark.parametrize("source", ["secret", "configmap"])
GRANTS = {"clientCredentials": "client_credentials", "tokenExchange": EXCHANGE}
SUBJECTS = {"clientCredentials": CLIENT, "tokenExchange": "ann"}


def _reference(source: str, name: str, key: str) -> dict[str, Any]:
    return {f"{'secret' if source == 'secret' else 'configMap'}KeyRef": {"name": name, "key": key}}


async def _backend(stage: Stage, kind: str) -> Demanding:
    """Start a backend that does not name its authorization server."""
    return await stage.backend(actor=CLIENT if kind == "tokenExchange" else "", publishes=False)


async def _call(proxy: Proxy, issuer: IssuerServer, http: httpx2.AsyncClient) -> Any:
    raw, token = Raw(proxy.url, http), issuer.token()
    await raw.initialize(authorization=token)
    call = rpc("tools/call", {"name": "echo", "arguments": {"who": "x"}})
    return last(await raw.post(call, authorization=token))


@KINDS
@SOURCES
async def test_a_token_request_has_the_client_its_secret_and_the_target_of_the_spec(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, kind: str, source: str
) -> None:
    backend = await _backend(stage, kind)
    stage.mounted.write("secret/as/secret", "another")
    stage.mounted.write(f"{source}/own/secret", SECRET)
    fields = {"scopes": ["a", "b"], "audience": "aud", "resource": f"{backend.url}"}
    client = stage.grants.spec(**fields, clientSecretFrom=_reference(source, "own", "secret"))
    stage.grants.claims = {"aud": [backend.url]}
    client["resource"] = f"{backend.url}?own"
    proxy = await stage.proxy(backend, {kind: client}, **issuer.spec())
    assert "result" in await _call(proxy, issuer, http)
    assert backend.calls == [(SUBJECTS[kind], "x")]
    form = stage.grants.of_type(GRANTS[kind])[0]
    sent = {name: form.get(name) for name in ("scope", "audience", "resource")}
    assert sent == {"scope": "a b", "audience": "aud", "resource": f"{backend.url}?own"}
    assert METADATA_AT in stage.grants.paths


@KINDS
@SOURCES
async def test_an_assertion_is_signed_with_the_key_of_the_spec_and_names_it(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, kind: str, source: str
) -> None:
    backend = await _backend(stage, kind)
    stage.mounted.write(f"{source}/own/key", pem(P256))
    client = stage.grants.spec(privateKeyFrom=_reference(source, "own", "key"), keyId="2026")
    del client["clientSecretFrom"]
    proxy = await stage.proxy(backend, {kind: client}, **issuer.spec())
    assert "result" in await _call(proxy, issuer, http)
    assertion = stage.grants.of_type(GRANTS[kind])[0]["client_assertion"]
    assert jwt.get_unverified_header(assertion)["kid"] == "2026"


@KINDS
async def test_the_token_url_needs_no_metadata(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, kind: str
) -> None:
    backend = await _backend(stage, kind)
    client = stage.grants.spec(tokenUrl=f"{stage.grants.url}/token")
    del client["issuer"]
    proxy = await stage.proxy(backend, {kind: client}, **issuer.spec())
    assert "result" in await _call(proxy, issuer, http)
    assert METADATA_AT not in stage.grants.paths


@KINDS
@SOURCES
async def test_authorities_of_an_authorization_server_may_lie_in_a_secret_or_a_config_map(
    stage: Stage,
    stack: AsyncExitStack,
    issuer: IssuerServer,
    http: httpx2.AsyncClient,
    tmp_path: Path,
    kind: str,
    source: str,
) -> None:
    authority = Authority("One")
    certificate, key = authority.issue("login.example.com")
    chain = tmp_path / "chain.pem"
    chain.write_text(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    stage.mounted.write(f"{source}/authorities/pem", authority.pem)
    grants = Grants("https://login.example.com")
    base = await stack.enter_async_context(serving(grants, tls=tls))
    backend = await _backend(stage, kind)
    backend.grants = grants
    client = grants.spec(caFrom=_reference(source, "authorities", "pem"))
    del client["insecureHttp"]
    options = {"resolve": {"login.example.com": base[8:]}}
    proxy = await stage.proxy(backend, {kind: client}, options=options, **issuer.spec())
    assert "result" in await _call(proxy, issuer, http)


async def test_the_actor_is_the_one_of_the_spec(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await _backend(stage, "tokenExchange")
    auth = {"tokenExchange": stage.grants.spec(actor={"client": True})}
    proxy = await stage.proxy(backend, auth, **issuer.spec())
    assert "result" in await _call(proxy, issuer, http)
    assert "actor_token" in stage.grants.of_type(EXCHANGE)[0]


async def test_a_token_is_renewed_the_stated_time_before_it_expires(stage: Stage) -> None:
    stage.grants.lifetime = 2
    backend = await stage.backend()
    auth = {"clientCredentials": stage.grants.spec(), "refreshBefore": "1ms"}
    proxy = await stage.proxy(backend, auth)
    await proxy.until("p", "Healthy")
    await soon(lambda: len(stage.grants.times) > 1, "another token")
    # By default, a token is renewed after half its life.
    assert stage.grants.times[1] - stage.grants.times[0] > 1.4


async def test_a_backend_gets_the_mounted_token_and_its_successor(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend()
    stage.grants.url = issuer.url

    def token(serial: int) -> str:
        account = "system:serviceaccount:tools:proxy"
        return issuer.issuer.token(account, aud=backend.url, jti=str(serial))

    proxy = await stage.proxy(backend, {"serviceAccount": {"audience": "a"}})
    await proxy.until("p", "Unhealthy")
    (status,) = (await proxy.report()).backends
    assert status.reason == "ValueMissing"
    assert "ServiceAccount at serviceaccount/p/token" in (status.message or "")
    stage.mounted.write("serviceaccount/p/token", f"{token(1)}\n")
    await proxy.until("p", "Healthy")
    assert "result" in await _call(proxy, issuer, http)
    backend.accepts = lambda claims: claims["jti"] != "1"
    stage.mounted.write("serviceaccount/p/token", token(2))
    # The file is read again when the backend refuses the token, if not before.
    assert "result" in await _call(proxy, issuer, http)
    assert len(backend.calls) == 2
    assert {subject for subject, _ in backend.calls} == {"system:serviceaccount:tools:proxy"}


async def test_a_mounted_file_without_a_token_is_named(stage: Stage) -> None:
    backend = await stage.backend(app=Peer("p").gate)
    stage.mounted.write("serviceaccount/p/token", "two\nlines")
    proxy = await stage.proxy(backend, {"serviceAccount": {"audience": "a"}})
    await proxy.until("p", "Unhealthy")
    (status,) = (await proxy.report()).backends
    assert "file of the ServiceAccount's token is unusable" in (status.message or "")
    assert not backend.tokens
