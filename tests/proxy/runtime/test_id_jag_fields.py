"""The fields of `auth.idJag`, for both of its servers: what each of them changes."""

import ssl
from typing import Any

import httpx2
import jwt
import pytest

from tests.proxy.authentication.tokens import P256
from tests.proxy.runtime.asserting import ID_TOKEN, SECRET_AT_PROVIDER, Enterprise
from tests.proxy.runtime.granting import METADATA_AT, SECRET, Form, pem
from tests.proxy.runtime.issuing import IssuerServer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, serving
from tests.support.authority import Authority

pytestmark = LIVE
SIDES = pytest.mark.parametrize("side", ["idJag", "idJag.identityProvider"])
SOURCES = pytest.mark.parametrize("source", ["secret", "configmap"])
HOST = "login.example.com"


def _reference(source: str, name: str, key: str) -> dict[str, Any]:
    return {f"{'secret' if source == 'secret' else 'configMap'}KeyRef": {"name": name, "key": key}}


async def _proxy(enterprise: Enterprise, side: str, fields: dict[str, Any], **more: Any) -> Proxy:
    """Start a proxy whose client has these fields at one of the servers."""
    backend = await enterprise.backend(publishes=False)
    enterprise.stage.grants.claims = {"aud": [backend.url]}
    chosen = "provider" if side.endswith("Provider") else "client"
    return await enterprise.proxy(backend, **{chosen: fields}, **more)


async def _call(proxy: Proxy, issuer: IssuerServer, http: httpx2.AsyncClient, **claims: Any) -> Any:
    raw, token = Raw(proxy.url, http), issuer.token(**claims)
    await raw.initialize(authorization=token)
    call = rpc("tools/call", {"name": "echo", "arguments": {"who": "x"}})
    return last(await raw.post(call, authorization=token))


def _requests(enterprise: Enterprise, side: str) -> list[Form]:
    """Return the requests for callers at one of the servers."""
    if side.endswith("Provider"):
        return enterprise.provider.forms
    return [form for form in enterprise.stage.grants.forms if "assertion" in form]


@SIDES
@SOURCES
async def test_a_client_is_known_at_the_named_server_by_its_secret(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient, side: str, source: str
) -> None:
    at_provider = side.endswith("Provider")
    enterprise.stage.mounted.write("secret/as/secret", SECRET if at_provider else "another")
    enterprise.stage.mounted.write(
        "secret/idp/secret", "another" if at_provider else SECRET_AT_PROVIDER
    )
    enterprise.stage.mounted.write(
        f"{source}/own/secret", SECRET_AT_PROVIDER if at_provider else SECRET
    )
    fields = {"clientSecretFrom": _reference(source, "own", "secret")}
    proxy = await _proxy(enterprise, side, fields)
    assert "result" in await _call(proxy, issuer, http)
    assert METADATA_AT in enterprise.stage.grants.paths


async def test_both_requests_have_the_target_of_the_spec(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    enterprise.stage.grants.audience = "urn:as"
    fields = {"scopes": ["a", "b"], "audience": "urn:as", "resource": "urn:own"}
    proxy = await _proxy(enterprise, "idJag", fields)
    assert "result" in await _call(proxy, issuer, http)
    (exchange,), (use,) = (_requests(enterprise, side) for side in ("idJag.identityProvider", ""))
    assert (exchange["audience"], use.get("audience")) == ("urn:as", None)
    for form in (exchange, use):
        assert (form["scope"], form["resource"]) == ("a b", "urn:own")


async def test_the_type_of_the_tokens_of_callers_is_the_one_of_the_spec(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    fields = {"subjectTokenType": "IdToken"}
    proxy = await _proxy(enterprise, "idJag.identityProvider", fields)
    assert "result" in await _call(proxy, issuer, http)
    assert enterprise.provider.forms[0]["subject_token_type"] == ID_TOKEN


@SIDES
@SOURCES
async def test_an_assertion_at_each_server_is_signed_with_its_key_and_names_it(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient, side: str, source: str
) -> None:
    enterprise.stage.mounted.write(f"{source}/own/key", pem(P256))
    key = {"privateKeyFrom": _reference(source, "own", "key"), "keyId": "2026"}
    proxy = await _proxy(enterprise, side, {**key, "clientSecretFrom": None})
    assert "result" in await _call(proxy, issuer, http)
    assertion = _requests(enterprise, side)[0]["client_assertion"]
    assert jwt.get_unverified_header(assertion)["kid"] == "2026"


@SIDES
async def test_the_token_url_of_each_server_needs_no_metadata(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient, side: str
) -> None:
    grants = enterprise.stage.grants
    del issuer.metadata["token_endpoint"]
    fields = {"issuer": None, "tokenUrl": f"{enterprise.provider.url}/token"}
    if side == "idJag":
        issuer.metadata["token_endpoint"] = f"{issuer.url}/token"
        fields |= {"tokenUrl": f"{grants.url}/token", "audience": grants.url}
    proxy = await _proxy(enterprise, side, fields)
    assert "result" in await _call(proxy, issuer, http)
    assert (METADATA_AT in grants.paths) == (side != "idJag")


@SIDES
@SOURCES
async def test_authorities_of_each_server_may_lie_in_a_secret_or_a_config_map(
    enterprise: Enterprise,
    issuer: IssuerServer,
    http: httpx2.AsyncClient,
    tmp_path: Any,
    side: str,
    source: str,
) -> None:
    authority = Authority("One")
    certificate, key = authority.issue(HOST)
    chain = tmp_path / "chain.pem"
    chain.write_text(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    enterprise.stage.mounted.write(f"{source}/authorities/pem", authority.pem)
    grants = enterprise.stage.grants
    server = enterprise.provider if side.endswith("Provider") else grants
    base = await enterprise.stack.enter_async_context(serving(server, tls=tls))
    fields = {
        "issuer": None,
        "insecureHttp": None,
        "tokenUrl": f"https://{HOST}/token",
        "caFrom": _reference(source, "authorities", "pem"),
    }
    if side == "idJag":
        fields["audience"] = grants.url
    proxy = await _proxy(enterprise, side, fields, options={"resolve": {HOST: base[8:]}})
    assert "result" in await _call(proxy, issuer, http)
