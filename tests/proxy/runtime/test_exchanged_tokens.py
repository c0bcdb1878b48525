"""Backends that are called on behalf of callers, with exchanged tokens."""

import asyncio
import hashlib
import json
import logging
import time
from dataclasses import replace
from typing import Any

import httpx2
import jwt
import pytest

from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE
from mcpproxy.proxy.upstream.credentials import token_endpoint, token_slot
from mcpproxy.proxy.upstream.monitor import list_variants
from tests.proxy.runtime.granting import CLIENT, EXCHANGE, Demanding, Grants
from tests.proxy.runtime.identities import Stage
from tests.proxy.runtime.issuing import IssuerServer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])
MODES = pytest.mark.parametrize("mode", ["Isolated", "PerClient", "Reused"])


def _call(who: str) -> dict[str, Any]:
    return rpc("tools/call", {"name": "echo", "arguments": {"who": who}})


async def _started(stage: Stage, issuer: IssuerServer, backend: Demanding, **more: Any) -> Proxy:
    exchange = stage.grants.spec(**more.pop("exchange", {}))
    spec = {**issuer.spec(), **more.pop("spec", {})}
    spec["authentication"] |= more.pop("authentication", {})
    return await stage.proxy(backend, {"tokenExchange": exchange}, **more, **spec)


@ERAS
async def test_s15_each_caller_is_itself_at_the_backend(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, era: str
) -> None:
    backend = await stage.backend(era, actor=CLIENT)
    proxy = await _started(stage, issuer, backend, exchange={"scopes": ["read"]})
    for who in ("ann", "bob", "ann"):
        raw = Raw(proxy.url, http)
        await raw.initialize(authorization=issuer.token(who))
        assert "result" in last(await raw.post(_call(who), authorization=issuer.token(who)))
        lists = last(await raw.post(rpc("tools/list"), authorization=issuer.token(who)))
        assert {tool["name"] for tool in lists["result"]["tools"]} >= {"echo", "slow"}
    assert backend.calls == [("ann", "ann"), ("bob", "bob"), ("ann", "ann")]
    exchanges = stage.grants.of_type(EXCHANGE)
    assert len(exchanges) == 2
    assert exchanges[0] | {"subject_token": ""} == {
        "grant_type": EXCHANGE,
        "subject_token": "",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "resource": backend.url,
        "scope": "read",
    }
    sent = {form["subject_token"] for form in exchanges}
    assert not any(token.removeprefix("Bearer ") in sent for token in backend.tokens)


async def test_a_backend_accepts_the_exchanged_token_and_no_other(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend, other = await stage.backend(actor=CLIENT), await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token("ann"))
    assert "result" in last(await raw.post(_call("ann"), authorization=issuer.token("ann")))
    refused = {value for value in backend.refused if value}
    (exchanged,) = (value for value in backend.tokens - refused if _subject_of(value) == "ann")
    grants, here, act = stage.grants, {"resource": backend.url}, {"sub": CLIENT}
    tokens = {
        "the caller's": issuer.token("ann"),
        "the proxy's own": _granted(grants, here),
        "for another backend": _granted(grants, {"resource": other.url}, act=act),
        "with another actor": _granted(grants, here, act={"sub": "another"}),
        "of another issuer": _granted(replace(grants, url=issuer.url), here, act=act),
    }
    for name, token in tokens.items():
        answer = await Raw(backend.url, http).initialize(authorization=token)
        assert answer.status_code == 401, name
    assert (await Raw(backend.url, http).initialize(authorization=exchanged)).status_code == 200
    assert (await Raw(other.url, http).initialize(authorization=exchanged)).status_code == 401


def _subject_of(credentials: str) -> str:
    token = credentials.removeprefix("Bearer ")
    return str(jwt.decode(token, options={"verify_signature": False})["sub"]) if token else ""


def _granted(grants: Grants, form: dict[str, str], **claims: Any) -> str:
    """Return credentials with a token of the authorization server for the resource of a form."""
    return f"Bearer {grants._issued('ann', form, **claims)['access_token']}"


async def test_the_check_reports_that_lists_depend_on_the_caller(
    stage: Stage, issuer: IssuerServer
) -> None:
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    await proxy.until("p", "Healthy")
    (status,) = (await proxy.report()).backends
    assert (status.reason, status.components) == ("OnBehalfOfCallers", None)


async def test_a_client_that_the_server_does_not_know_fails_the_check(
    stage: Stage, issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (token_endpoint, token_slot):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    stage.grants.secret = "another"
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    await proxy.until("p", "Unauthorized")
    (status,) = (await proxy.report()).backends
    assert status.reason == "TokenRefused"
    stage.grants.secret = "s3cret of+the client"
    await proxy.until("p", "Healthy")


async def test_a_proxy_without_its_own_token_may_exchange_the_tokens_of_callers(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    stage.grants.refusals["client_credentials"] = "unauthorized_client"
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    await proxy.until("p", "Healthy")
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token())
    assert "result" in last(await raw.post(_call("ann"), authorization=issuer.token()))
    assert len(stage.grants.of_type("client_credentials")) == 1


@MODES
@ERAS
async def test_a_refreshed_token_keeps_its_session(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, mode: str, era: str
) -> None:
    backend = await stage.backend(era, actor=CLIENT)
    session = {"mode": mode, "stateless": True} if mode == "Reused" else {"mode": mode}
    proxy = await _started(stage, issuer, backend, entry={"session": session})
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token(jti="0"))
    for serial in range(1, 4):
        answer = await raw.post(_call("ann"), authorization=issuer.token(jti=str(serial)))
        assert "result" in last(answer), answer.text
    assert len(stage.grants.of_type(EXCHANGE)) == 1
    assert backend.calls == [("ann", "ann")] * 3


@ERAS
async def test_tokens_with_other_rights_are_exchanged_separately(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, era: str
) -> None:
    backend = await stage.backend(era, actor=CLIENT)
    seen: list[str] = []

    def record(claims: dict[str, Any]) -> bool:
        seen.append(claims["rights"])
        return True

    backend.accepts = record
    proxy = await _started(stage, issuer, backend, entry={"session": {"mode": "PerClient"}})
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token(scope="all"))
    for scope in ("all", "some", "all", "some"):
        seen.clear()
        await raw.post(_call("ann"), authorization=issuer.token(scope=scope))
        assert seen[-1] == scope
    subjects = [form["subject_token"] for form in stage.grants.of_type(EXCHANGE)]
    assert len(subjects) == len(set(subjects)) == 2


async def test_a_caller_without_a_token_gets_an_error_with_the_reason(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    key = "k" * 40
    stage.mounted.write("secret/keys/n8n", hashlib.sha256(key.encode()).hexdigest())
    source = {"secretKeyRef": {"name": "keys", "key": "n8n"}}
    accepted = {"mode": "Optional", "apiKeys": [{"name": "n8n", "hashFrom": source}]}
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend, authentication=accepted)
    for authorization in (f"Bearer {key}", None):
        raw = Raw(proxy.url, http)
        headers = {"authorization": authorization} if authorization else {}
        await raw.initialize(**headers)
        for message in (_call("n8n"), _call("n8n")):
            error = last(await raw.post(message, **headers))["error"]
            assert error["data"]["reason"] == "NoCallerToken"
        listed = last(await raw.post(rpc("tools/list"), **headers))
        if authorization is None:
            assert listed["result"]["tools"] == []
        else:
            assert "are not a token that can be exchanged" in listed["error"]["message"]
    assert not backend.calls
    assert not stage.grants.of_type(EXCHANGE)


async def test_an_anonymous_modern_caller_is_not_the_proxy(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend(actor="")
    proxy = await _started(stage, issuer, backend, authentication={"mode": "Optional"})
    await proxy.until("p", "Healthy")
    raw = Raw(proxy.url, http)
    error = last(await raw.call("tools/call", "echo", name="echo", arguments={}))["error"]
    assert error["data"]["reason"] == "NoCallerToken"
    listed = last(await raw.call("tools/list"))
    assert listed["result"]["tools"] == []
    assert not backend.calls


async def test_a_list_that_is_late_is_an_error_and_not_an_empty_list(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    raw, token = Raw(proxy.url, http), issuer.token("ann")
    await raw.initialize(authorization=token)
    monkeypatch.setattr(list_variants, "REFRESH_WAIT", 0.01)
    stage.grants.delay = asyncio.Event()
    late = last(await raw.post(rpc("tools/list"), authorization=token))["error"]
    assert late["code"] == UNAVAILABLE
    assert late["message"].endswith("backend p: the list did not arrive in time; try again")
    monkeypatch.setattr(list_variants, "REFRESH_WAIT", 10.0)
    stage.grants.delay.set()
    listed = last(await raw.post(rpc("tools/list"), authorization=token))["result"]
    assert {tool["name"] for tool in listed["tools"]} >= {"echo", "slow"}


async def test_a_refusal_of_the_subject_concerns_that_caller_alone(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    raw, other = Raw(proxy.url, http), Raw(proxy.url, http)
    stage.grants.refusals[EXCHANGE] = "access_denied"
    await raw.initialize(authorization=issuer.token("eve"))
    for _ in range(10):
        error = last(await raw.post(_call("eve"), authorization=issuer.token("eve")))["error"]
        assert error["data"]["reason"] == "TokenRefused"
        assert error["message"].endswith("access_denied; the request did not run")
    assert len(stage.grants.of_type(EXCHANGE)) <= 2
    del stage.grants.refusals[EXCHANGE]
    await other.initialize(authorization=issuer.token("ann"))
    assert "result" in last(await other.post(_call("ann"), authorization=issuer.token("ann")))
    assert await proxy.state("p") == "Healthy"


async def test_calls_go_on_while_the_authorization_server_is_down(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token())
    assert "result" in last(await raw.post(_call("ann"), authorization=issuer.token()))

    async def down(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    stage.grants.instead = down
    for serial in range(5):
        token = issuer.token(jti=str(serial))
        assert "result" in last(await raw.post(_call("ann"), authorization=token))
    new = Raw(proxy.url, http)
    await new.initialize(authorization=issuer.token("bob"))
    error = last(await new.post(_call("bob"), authorization=issuer.token("bob")))["error"]
    assert error["data"]["reason"] == "TokenUnavailable"
    assert await proxy.state("p") == "Healthy"


async def test_an_actor_of_the_client_is_named_in_exchanges(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend, exchange={"actor": {"client": True}})
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token())
    assert "result" in last(await raw.post(_call("ann"), authorization=issuer.token()))
    (form,) = stage.grants.of_type(EXCHANGE)
    assert form["actor_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    own = [f for f in stage.grants.of_type("client_credentials") if "resource" not in f]
    assert len(own) == 1


async def test_an_actor_may_be_the_service_account_of_the_pods(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    account = "system:serviceaccount:tools:proxy"
    stage.mounted.write("serviceaccount/p/actor", issuer.issuer.token(account))
    backend = await stage.backend(actor=account)
    actor = {"serviceAccount": {"audience": "sso"}}
    proxy = await _started(stage, issuer, backend, exchange={"actor": actor})
    raw = Raw(proxy.url, http)
    await raw.initialize(authorization=issuer.token())
    assert "result" in last(await raw.post(_call("ann"), authorization=issuer.token()))
    (form,) = stage.grants.of_type(EXCHANGE)
    assert form["actor_token_type"] == "urn:ietf:params:oauth:token-type:jwt"


async def test_the_owner_of_a_session_exchanges_the_token_that_another_instance_verified(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    backend = await stage.backend("legacy", actor=CLIENT)
    options, session = {"keys": (KEY,)}, {"session": {"mode": "PerClient"}}
    first = await _started(stage, issuer, backend, options=options, entry=session)
    second = await _started(stage, issuer, backend, options=options, entry=session)
    raw = Raw(first.url, http)
    await raw.initialize(authorization=issuer.token())
    raw.url = second.url
    assert "result" in last(await raw.post(_call("ann"), authorization=issuer.token(jti="2")))
    (form,) = stage.grants.of_type(EXCHANGE)
    assert backend.calls == [("ann", "ann")]
    assert form["subject_token"]


async def test_s15_no_token_is_in_logs_reports_metrics_or_errors(
    stage: Stage,
    issuer: IssuerServer,
    http: httpx2.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    backend = await stage.backend(actor=CLIENT)
    audit = {"arguments": "Full", "lists": True}
    proxy = await _started(stage, issuer, backend, spec={"audit": audit})
    raw, token = Raw(proxy.url, http), issuer.token()
    await raw.initialize(authorization=token)
    answer = await raw.post(_call("ann"), authorization=token)
    backend.accepts = lambda claims: False
    failed = await raw.post(_call("ann"), authorization=token)
    report = json.dumps((await proxy.report()).to_manifest())
    metrics = (await proxy.runtime.metrics()).decode()
    captured = capfd.readouterr()
    shown = "".join((caplog.text, answer.text, failed.text, report, metrics, *captured))
    secrets = {
        token,
        *backend.tokens,
        *(f["subject_token"] for f in stage.grants.of_type(EXCHANGE)),
    }
    for secret in secrets - {""}:
        assert secret.removeprefix("Bearer ") not in shown
        assert secret.rpartition(".")[2] not in shown


async def test_an_exchanged_token_without_a_lifetime_lives_as_long_as_that_of_its_caller(
    stage: Stage, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    stage.grants.lifetime = None
    backend = await stage.backend(actor=CLIENT)
    proxy = await _started(stage, issuer, backend)
    raw = Raw(proxy.url, http)
    short = issuer.token(exp=int(time.time()) + 2)
    await raw.initialize(authorization=short)
    assert "result" in last(await raw.post(_call("ann"), authorization=short))

    async def again() -> bool:
        await raw.post(_call("ann"), authorization=issuer.token())
        return len(stage.grants.of_type(EXCHANGE)) > 1

    await eventually(again, "another exchange")
