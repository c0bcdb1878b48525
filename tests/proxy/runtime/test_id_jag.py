"""Backends that are called with tokens for an ID-JAG of the callers' identity provider."""

import asyncio
import json
import logging
from typing import Any

import httpx2
import pytest

from tests.proxy.authentication.tokens import ABSENT
from tests.proxy.runtime.asserting import ID_JAG, ID_TOKEN, Enterprise
from tests.proxy.runtime.granting import ACCESS_TOKEN, EXCHANGE, JWT_BEARER
from tests.proxy.runtime.issuing import IssuerServer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy

pytestmark = LIVE
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


async def _call(
    proxy: Proxy, http: httpx2.AsyncClient, token: str | None, who: str = "ann"
) -> dict[str, Any]:
    raw = Raw(proxy.url, http)
    headers = {"authorization": token} if token else {}
    await raw.initialize(**headers)
    call = rpc("tools/call", {"name": "echo", "arguments": {"who": who}})
    return dict(last(await raw.post(call, **headers)))


@ERAS
async def test_each_caller_is_itself_at_the_backend_by_a_grant_of_its_identity_provider(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient, era: str
) -> None:
    backend = await enterprise.backend(era)
    proxy = await enterprise.proxy(backend, {"scopes": ["read"]})
    for who in ("ann", "bob", "ann"):
        assert "result" in await _call(proxy, http, issuer.token(who), who)
    assert backend.calls == [("ann", "ann"), ("bob", "bob"), ("ann", "ann")]
    grants = enterprise.stage.grants
    exchanged, used = enterprise.provider.forms, grants.of_type(JWT_BEARER)
    assert len(exchanged) == len(used) == 2
    assert exchanged[0] | {"subject_token": ""} == {
        "grant_type": EXCHANGE,
        "requested_token_type": ID_JAG,
        "subject_token": "",
        "subject_token_type": ACCESS_TOKEN,
        "audience": grants.url,
        "resource": backend.url,
        "scope": "read",
    }
    assert used[0] == {
        "grant_type": JWT_BEARER,
        "assertion": enterprise.provider.grants[0],
        "resource": backend.url,
        "scope": "read",
    }
    subjects = {form["subject_token"] for form in exchanged}
    assert not any(value.removeprefix("Bearer ") in subjects for value in backend.tokens)


async def test_the_metadata_of_the_backend_names_the_server_and_thereby_the_audience(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    client = {"issuer": None}
    proxy = await enterprise.proxy(backend, client)
    assert "result" in await _call(proxy, http, issuer.token())
    assert enterprise.provider.forms[0]["audience"] == enterprise.stage.grants.url


async def test_an_id_token_is_sent_as_one(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    provider = {"subjectTokenType": "IdToken"}
    spec = issuer.spec(audiences=["mcpproxy"])
    proxy = await enterprise.proxy(backend, provider=provider, **spec)
    assert "result" in await _call(proxy, http, issuer.token(aud="mcpproxy"))
    assert enterprise.provider.forms[0]["subject_token_type"] == ID_TOKEN
    # Those of a real sign-in are exchanged once, although they differ with each sign-in.
    for serial in ("1", "2"):
        real = {"nonce": serial, "at_hash": serial, "c_hash": serial, "azp": "mcpproxy"}
        token = issuer.token(aud="mcpproxy", **real)
        assert "result" in await _call(proxy, http, token)
    assert len(enterprise.provider.forms) == 2


async def test_an_id_token_is_refused_if_no_backend_exchanges_it(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend, **issuer.spec(audiences=["mcpproxy"]))
    token = issuer.token(aud="mcpproxy", nonce="n")
    answer = await Raw(proxy.url, http).post(rpc("ping"), authorization=token)
    assert answer.status_code == 401
    assert not enterprise.provider.forms


async def test_one_grant_is_requested_for_all_calls_that_wait_for_it(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    calls = (_call(proxy, http, issuer.token()) for _ in range(8))
    assert all("result" in answer for answer in await asyncio.gather(*calls))
    assert len(enterprise.provider.forms) == 1


async def test_a_token_that_the_backend_refuses_is_replaced_by_one_for_another_grant(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    assert "result" in await _call(proxy, http, issuer.token())
    serial = str(enterprise.stage.grants.serial)
    backend.accepts = lambda claims: claims["jti"] != serial
    assert "result" in await _call(proxy, http, issuer.token())
    assert len(set(enterprise.provider.grants)) == 2


async def test_a_refusal_of_the_identity_provider_concerns_one_caller_and_has_its_code(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    enterprise.provider.refusals["eve"] = "access_denied"
    error = (await _call(proxy, http, issuer.token("eve"), "eve"))["error"]
    assert error["data"]["reason"] == "TokenRefused"
    assert "identity provider refused an ID-JAG for the backend: access_denied" in error["message"]
    assert "secret words" not in json.dumps(error)
    assert "result" in await _call(proxy, http, issuer.token())
    assert await proxy.state("p") == "Healthy"


async def test_a_refusal_of_the_authorization_server_has_its_code(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    enterprise.stage.grants.refusals[JWT_BEARER] = "invalid_grant"
    error = (await _call(proxy, http, issuer.token()))["error"]
    assert error["data"]["reason"] == "TokenRefused"
    assert "authorization server refused a token for the backend: invalid_grant" in error["message"]
    assert not backend.calls


async def test_calls_of_other_callers_go_on_while_the_identity_provider_is_down(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    assert "result" in await _call(proxy, http, issuer.token())
    enterprise.provider.status = 503
    error = (await _call(proxy, http, issuer.token("bob"), "bob"))["error"]
    assert error["data"]["reason"] == "TokenUnavailable"
    assert "result" in await _call(proxy, http, issuer.token())
    assert await proxy.state("p") == "Healthy"


@pytest.mark.parametrize(
    "fault",
    [
        {"claims": {"aud": "https://other.example"}},
        {"claims": {"aud": ["https://other.example", "http://127.0.0.1"]}},
        {"claims": {"client_id": "another"}},
        {"claims": {"resource": "https://other.example/mcp"}},
        {"claims": {"iss": "https://other.example"}},
        {"claims": {"exp": 1}},
        {"claims": {"exp": ABSENT}},
        {"header": {"typ": "JWT"}},
        {"members": {"issued_token_type": ACCESS_TOKEN}},
        {"members": {"access_token": "e30.e30"}},
        {"members": {"access_token": f"{'[' * 4000}.e30.x"}},
        {"members": {"access_token": None}},
    ],
)
async def test_a_grant_that_is_not_the_requested_one_is_not_presented(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient, fault: dict[str, Any]
) -> None:
    for name, value in fault.items():
        setattr(enterprise.provider, name, value)
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    error = (await _call(proxy, http, issuer.token()))["error"]
    assert error["data"]["reason"] == "TokenUnavailable"
    assert enterprise.provider.forms
    assert not enterprise.stage.grants.of_type(JWT_BEARER)
    assert not backend.calls


async def test_a_token_of_another_issuer_goes_to_no_identity_provider(
    enterprise: Enterprise, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    enterprise.provider.own_metadata = True
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend)
    error = (await _call(proxy, http, issuer.token()))["error"]
    assert error["data"]["reason"] == "NoCallerToken"
    assert not enterprise.provider.forms
    assert not backend.calls


async def test_no_grant_and_no_token_is_in_logs_reports_metrics_or_errors(
    enterprise: Enterprise,
    issuer: IssuerServer,
    http: httpx2.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    backend = await enterprise.backend()
    proxy = await enterprise.proxy(backend, audit={"arguments": "Full", "lists": True})
    answer = await _call(proxy, http, issuer.token())
    backend.accepts = lambda claims: False
    failed = await _call(proxy, http, issuer.token())
    report = json.dumps((await proxy.report()).to_manifest())
    metrics = (await proxy.runtime.metrics()).decode()
    texts = (caplog.text, json.dumps(answer), json.dumps(failed), report, metrics)
    shown = "".join((*texts, *capfd.readouterr()))
    subjects = [form["subject_token"] for form in enterprise.provider.forms]
    secrets = {*enterprise.provider.grants, *subjects, *backend.tokens} - {""}
    assert len(secrets) > 2
    for secret in secrets:
        assert secret.rpartition(".")[2] not in shown
