"""Backends that are called with tokens of the proxy from an authorization server."""

import asyncio
import itertools
import json
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from mcpproxy.proxy.upstream.credentials import token_endpoint, token_slot
from tests.proxy.authentication.tokens import ED25519, P256, RSA
from tests.proxy.runtime.granting import CLIENT, METADATA_AT, RESOURCE_AT, SECRET, pem, reply
from tests.proxy.runtime.identities import Stage
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
CALL = rpc("tools/call", {"name": "echo", "arguments": {"who": "x"}})
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


async def _call(proxy: Proxy, http: httpx2.AsyncClient) -> Any:
    """Call once in a session of its own."""
    raw = Raw(proxy.url, http)
    await raw.initialize()
    return last(await raw.post(CALL))


@ERAS
async def test_a_backend_gets_a_token_of_the_proxy(
    stage: Stage, http: httpx2.AsyncClient, era: str
) -> None:
    backend = await stage.backend(era)
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec(scopes=["a", "b"])})
    await proxy.until("p", "Healthy")
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization="Bearer of-a-client")
    for _ in range(3):
        call = rpc("tools/call", {"name": "echo", "arguments": {"who": "x"}})
        assert "result" in last(await raw.post(call, authorization="Bearer of-a-client"))
    assert backend.calls == [(CLIENT, "x")] * 3
    (form,) = stage.grants.forms
    assert form == {"grant_type": "client_credentials", "resource": backend.url, "scope": "a b"}
    assert len(backend.tokens) == 1
    report = await proxy.report()
    assert report.backends[0].components is not None
    assert report.backends[0].components.tools


@pytest.mark.parametrize("key", [P256, RSA, ED25519], ids=["ES256", "RS256", "EdDSA"])
async def test_the_proxy_signs_assertions_with_its_private_key(
    stage: Stage, http: httpx2.AsyncClient, key: Any
) -> None:
    stage.grants.public_key = key.public_key()
    stage.mounted.write("secret/as/key", pem(key))
    backend = await stage.backend()
    client = stage.grants.spec(privateKeyFrom={"secretKeyRef": {"name": "as", "key": "key"}})
    del client["clientSecretFrom"]
    proxy = await stage.proxy(backend, {"clientCredentials": client})
    assert "result" in await _call(proxy, http)
    (form,) = stage.grants.forms
    assert "client_secret" not in form


async def test_a_secret_is_sent_in_the_form_if_the_server_accepts_no_other_way(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.grants.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    backend = await stage.backend()
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec()})
    assert "result" in await _call(proxy, http)
    assert stage.grants.forms[0]["client_secret"] == SECRET


async def test_resource_and_audience_are_those_of_the_spec(stage: Stage) -> None:
    backend = await stage.backend()
    fields = {"tokenUrl": f"{stage.grants.url}/token", "audience": backend.url, "resource": ""}
    client = {k: v for k, v in stage.grants.spec(**fields).items() if k != "issuer"}
    proxy = await stage.proxy(backend, {"clientCredentials": client})
    await proxy.until("p", "Healthy")
    (form,) = stage.grants.forms
    assert form == {"grant_type": "client_credentials", "audience": backend.url}
    assert METADATA_AT not in stage.grants.paths


# Discovery


def _unnamed(stage: Stage) -> dict[str, Any]:
    client = stage.grants.spec()
    del client["issuer"]
    return {"clientCredentials": client}


async def test_the_metadata_of_the_backend_names_the_authorization_server(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend()
    proxy = await stage.proxy(backend, _unnamed(stage))
    assert "result" in await _call(proxy, http)
    assert backend.refused == [""]
    assert f"{RESOURCE_AT}/mcp" in backend.paths


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("https://evil.example.com/mcp", "another resource"),
        ("{url}/deeper", "another resource"),
        ("{url}x", "another resource"),
    ],
)
async def test_metadata_of_another_resource_leads_nowhere(
    stage: Stage, resource: str, words: str
) -> None:
    backend = await stage.backend()
    backend.resource = resource.format(url=backend.url)
    proxy = await stage.proxy(backend, _unnamed(stage))
    await proxy.until("p", "Unauthorized")
    (status,) = (await proxy.report()).backends
    assert status.reason == "TokenUnavailable"
    assert words in (status.message or "")
    assert not stage.grants.paths


async def test_metadata_of_another_issuer_is_not_used(stage: Stage) -> None:
    stage.grants.metadata = {"issuer": "https://attacker.example.com"}
    backend = await stage.backend()
    proxy = await stage.proxy(backend, _unnamed(stage))
    await proxy.until("p", "Unauthorized")
    (status,) = (await proxy.report()).backends
    assert "names another issuer" in (status.message or "")
    assert not stage.grants.forms


async def test_a_backend_must_not_name_a_server_without_https(stage: Stage) -> None:
    backend = await stage.backend()
    auth = _unnamed(stage)
    del auth["clientCredentials"]["insecureHttp"]
    proxy = await stage.proxy(backend, auth)
    await proxy.until("p", "Unauthorized")
    (status,) = (await proxy.report()).backends
    assert "https" in (status.message or "")
    assert not stage.grants.paths


# Failures


async def test_a_refused_client_is_a_state_with_the_code_of_the_server(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.grants.secret = "another"
    backend = await stage.backend()
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec()})
    await proxy.until("p", "Unauthorized")
    (status,) = (await proxy.report()).backends
    assert status.reason == "TokenRefused"
    assert "invalid_client" in (status.message or "")
    assert "secret words" not in (status.message or "")
    error = (await _call(proxy, http))["error"]
    assert error["data"] == {"backend": "p", "reason": "TokenRefused", "mayHaveRun": False}
    assert error["message"].endswith(
        "refused a token for the backend: invalid_client; the request did not run"
    )
    assert stage.grants.url not in json.dumps(error)
    assert 'mcpproxy_token_requests_total{backend="p",result="refused"}' in await _metrics(proxy)


async def _metrics(proxy: Proxy) -> str:
    return (await proxy.runtime.metrics()).decode()


@pytest.fixture
def briefly_backed_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next token request follows a failure soon."""
    for module in (token_endpoint, token_slot):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)


@pytest.mark.usefixtures("briefly_backed_off")
async def test_a_replaced_secret_is_used_without_a_restart(stage: Stage) -> None:
    stage.grants.secret = "another"
    backend = await stage.backend()
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec()})
    await proxy.until("p", "Unauthorized")
    stage.mounted.write("secret/as/secret", "another\n")
    await proxy.until("p", "Healthy")


async def test_a_missing_secret_is_named(stage: Stage) -> None:
    backend = await stage.backend()
    source = {"secretKeyRef": {"name": "as", "key": "none"}}
    proxy = await stage.proxy(
        backend, {"clientCredentials": stage.grants.spec(clientSecretFrom=source)}
    )
    await proxy.until("p", "Unhealthy")
    (status,) = (await proxy.report()).backends
    assert (status.reason, status.message) == (
        "ValueMissing",
        "Secret as has no readable key none",
    )


HOSTILE = {
    "ten megabytes": (200, b'{"access_token":"' + b"x" * 10_000_000 + b'"}', b"", ()),
    "a redirect": (307, {}, b"", ((b"location", b"/token2"),)),
    "a page": (200, b"<html>", b"text/html", ()),
    "JSON of another type": (200, b'{"access_token":"a","token_type":"Bearer"}', b"text/x", ()),
    "no object": (200, b"[]", b"", ()),
    "no token": (200, {"token_type": "Bearer"}, b"", ()),
    "another type of token": (200, {"access_token": "a", "token_type": "DPoP"}, b"", ()),
    "a token with a line break": (
        200,
        {"access_token": "a\r\nx: y", "token_type": "Bearer"},
        b"",
        (),
    ),
    "a long token": (200, {"access_token": "a" * 20_000, "token_type": "Bearer"}, b"", ()),
    "an error in words": (400, {"error": "see <a href=x>", "error_description": "d"}, b"", ()),
    "an error of the server": (500, {"error": "invalid_client"}, b"", ()),
}


@pytest.mark.usefixtures("briefly_backed_off")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_authorization_server_fails_calls_and_nothing_else(
    stage: Stage, http: httpx2.AsyncClient, name: str
) -> None:
    status, body, kind, headers = HOSTILE[name]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, status, body, *headers, kind=kind)

    stage.grants.instead = answer
    backend = await stage.backend()
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec()})
    await proxy.until("p", "Unauthorized")
    error = (await _call(proxy, http))["error"]
    assert error["data"]["reason"] == "TokenUnavailable"
    assert not backend.tokens
    assert "/token2" not in stage.grants.paths
    stage.grants.instead = None
    await proxy.until("p", "Healthy")


# The backend refuses a token


@ERAS
async def test_a_token_that_the_backend_revoked_is_replaced_within_the_call(
    stage: Stage, http: httpx2.AsyncClient, era: str
) -> None:
    backend = await stage.backend(era)
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec()})
    await proxy.until("p", "Healthy")
    raw = Raw(proxy.url, http)
    await raw.initialize()
    assert "result" in last(await raw.post(CALL))
    backend.accepts = lambda claims: claims["jti"] != "1"
    assert "result" in last(await raw.post(CALL))
    assert [who for _, who in backend.calls] == ["x", "x"]
    assert len(stage.grants.forms) == 2


async def test_a_backend_that_refuses_every_token_causes_few_token_requests(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend()
    backend.accepts = lambda claims: False
    proxy = await stage.proxy(backend, {"clientCredentials": stage.grants.spec()})
    await proxy.until("p", "Unauthorized")
    errors = [(await _call(proxy, http))["error"]["data"]["reason"] for _ in range(30)]
    assert set(errors) == {"Unauthorized"}
    await soon(lambda: len(stage.grants.forms) >= 3, "another attempt")
    times = stage.grants.times
    # The first refused token is replaced at once.
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(times[1:]))
    await asyncio.gather(*(_call(proxy, http) for _ in range(10)))
    assert len(stage.grants.forms) <= 4


async def test_many_calls_at_the_start_cause_one_token_request(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    stage.grants.delay = asyncio.Event()
    backend = await stage.backend()
    starting = asyncio.create_task(stage.proxy(backend, {"clientCredentials": stage.grants.spec()}))
    await soon(lambda: stage.grants.forms, "the token request")
    stage.grants.delay.set()
    proxy = await starting
    results = await asyncio.gather(*(_call(proxy, http) for _ in range(20)))
    assert all("result" in result for result in results)
    assert len(stage.grants.forms) == 1
