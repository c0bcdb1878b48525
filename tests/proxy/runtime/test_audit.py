"""The audit log of a running proxy: who used, or was denied, which component."""

import json
from typing import Any

import httpx2
import pytest
from mcp import Client

from mcpproxy.proxy.audit import record_queue
from tests.proxy.runtime.authorized import ALICE, DEV, READ, worlds
from tests.proxy.runtime.callers import rule, sign_in
from tests.proxy.runtime.raw import MODERN, modern, rpc
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.shelf import Shelf
from tests.support.collector import Collector

pytestmark = LIVE
Capture = pytest.CaptureFixture[str]
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


def _records(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = capfd.readouterr().out.splitlines()
    return [json.loads(line) for line in lines if "mcpproxy.audit" in line]


@ERAS
async def test_a_call_has_one_record_with_its_caller_tool_and_rule(
    era: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in(monkeypatch)
    async with worlds(rule("readers", DEV, READ), audit={}) as world:
        alice = await world.caller(era, ALICE)
        await alice.send("tools/list")
        await alice.send("tools/call", name="a_get_a", arguments={"x": 1})
    [record] = _records(capfd)
    assert record["event"] == "call"
    assert record["principal"]["subject"] == "alice"
    assert record["protocolVersion"].startswith("2025" if era == "legacy" else "2026")
    assert (record["method"], record["name"]) == ("tools/call", "a_get_a")
    assert (record["backend"], record["backendName"]) == ("a", "get_a")
    assert (record["decision"], record["rule"], record["outcome"]) == ("allowed", "readers", "ok")
    assert len(record["schemaDigest"]) == 64
    assert record["argumentsBytes"] == 8
    assert record["durationMs"] > 0
    assert record["responseBytes"] > 0


@ERAS
async def test_a_denied_call_has_one_record(
    era: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in(monkeypatch)
    async with worlds(rule("readers", DEV, READ), audit={"arguments": "Full"}) as world:
        alice = await world.caller(era, ALICE)
        await alice.send("tools/call", name="a_set_a", arguments={"secret": 1})
    [record] = _records(capfd)
    assert (record["decision"], record["name"]) == ("denied", "a_set_a")
    assert record["backend"] == "a"
    assert record["principal"]["subject"] == "alice"
    assert record["arguments"] == {"secret": 1}


@pytest.mark.parametrize("name", ["a_get_a", "a_set_a"])
@pytest.mark.parametrize("batched", [False, True])
async def test_no_metadata_of_a_client_keeps_its_call_out_of_the_log(
    name: str, batched: bool, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    sign_in(monkeypatch)
    async with worlds(rule("readers", DEV, READ), audit={}) as world:
        alice = await world.caller("legacy", ALICE)
        if batched:
            await alice.raw.initialize("2025-03-26", **alice.headers)
        many = {f"traceparent{number}": 1 for number in range(1100)}
        metas: list[Any] = ["traceparent", ["traceparent"], many, {"traceparent": {}}]
        for meta in metas:
            message = rpc("tools/call", {"name": name, "arguments": {}, "_meta": meta})
            sent = [message] if batched else message
            response = await alice.raw.post(sent, **alice.headers)
            assert response.status_code == 200
    assert [record["name"] for record in _records(capfd)] == [name] * len(metas)


@ERAS
async def test_a_record_names_the_rule_whose_condition_the_call_meets(
    era: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    sign_in(monkeypatch)
    rules = [rule(f"only-{x}", DEV, READ, when=f"args.x == {x}") for x in (1, 2)]
    async with worlds(*rules, audit={}) as world:
        alice = await world.caller(era, ALICE)
        for x in (1, 2, 1, 3):
            await alice.send("tools/call", name="a_get_a", arguments={"x": x})
    rules_of = [(record["decision"], record.get("rule")) for record in _records(capfd)]
    allowed = [("allowed", f"only-{x}") for x in (1, 2, 1)]
    assert rules_of == [*allowed, ("denied", None)]


@ERAS
async def test_subscriptions_have_records_and_only_missing_scopes_are_called_so(
    era: str, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    sign_in(monkeypatch)
    uris = ["file://a//pub/a", "file://a//etc/passwd"]
    read = rule("readers", DEV, {"resources": ["file://a//pub/*"]})
    async with worlds(read, audit={}) as world:
        alice = await world.caller(era, ALICE)
        if era == "legacy":
            for uri in uris:
                await alice.send("resources/subscribe", uri=uri)
        else:
            message = modern("subscriptions/listen", notifications={"resourceSubscriptions": uris})
            about = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
            stream = alice.raw.messages(message, **about, **alice.headers)
            assert await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
        await alice.send("resources/read", uri=uris[1])
    ends = [
        (record["method"], record["name"], record["decision"], record["outcome"])
        for record in _records(capfd)
    ]
    assert ends == [
        ("resources/subscribe", uris[0], "allowed", "ok"),
        ("resources/subscribe", uris[1], "denied", "rule"),
        ("resources/read", uris[1], "denied", "rule"),
    ]


async def test_redacted_arguments_are_not_recorded(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in(monkeypatch)
    audit = {"arguments": "Full", "redact": ["**.token"]}
    async with worlds(rule("readers", DEV, READ), audit=audit) as world:
        alice = await world.caller("modern", ALICE)
        await alice.send("tools/call", name="a_get_a", arguments={"x": {"token": "s3cr3t"}})
    [record] = _records(capfd)
    assert record["arguments"] == {"x": {"token": "[redacted]"}}


async def test_a_collector_gets_the_records_instead_of_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in(monkeypatch)
    with Collector() as collector:
        audit = {"otlp": {"endpoint": collector.url}}
        async with worlds(rule("readers", DEV, READ), audit=audit) as world:
            alice = await world.caller("modern", ALICE)
            await alice.send("tools/call", name="a_get_a", arguments={})
    assert _records(capfd) == []
    [request] = collector.requests
    [record] = request.resource_logs[0].scope_logs[0].log_records
    assert record.event_name == "mcpproxy.audit.call"


@ERAS
async def test_lists_are_recorded_on_request(
    era: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sign_in(monkeypatch)
    async with worlds(rule("readers", DEV, READ), audit={"lists": True}) as world:
        alice = await world.caller(era, ALICE)
        await alice.send("tools/list")
    [record] = _records(capfd)
    assert (record["event"], record["method"]) == ("list", "tools/list")


async def test_credentials_that_are_not_accepted_have_a_record_without_the_token(
    capfd: pytest.CaptureFixture[str],
) -> None:
    authentication = {"serviceAccounts": {"audience": "tools"}}
    async with worlds(rule("readers", DEV, READ), authentication=authentication, audit={}) as world:
        headers = {"authorization": "Bearer s3cr3t"}
        response = await world.http.post(world.proxy.url, headers=headers, json={})
        assert response.status_code == 401
    out = capfd.readouterr().out
    [record] = [json.loads(line) for line in out.splitlines() if "mcpproxy.audit" in line]
    assert (record["event"], record["decision"], record["outcome"]) == (
        "authentication",
        "denied",
        "malformed",
    )
    assert record["network"]
    assert "s3cr3t" not in out


@ERAS
async def test_calls_are_refused_while_their_records_cannot_be_written(
    era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch)
    monkeypatch.setattr(record_queue.RecordQueue, "is_full", True)
    async with worlds(rule("readers", DEV, READ), audit={"onFull": "Refuse"}) as world:
        alice = await world.caller(era, ALICE)
        response = await alice.send("tools/call", name="a_get_a", arguments={})
        assert "the audit log cannot be written" in response.text
        assert "a_get_a" in (await alice.send("tools/list")).text


async def test_a_proxy_without_authorization_records_its_calls(
    capfd: pytest.CaptureFixture[str],
) -> None:
    shelf = Shelf("a")
    async with serving(shelf.gate) as url:
        backend = {"name": "a", "url": f"{url}/mcp"}
        async with proxied(backend, audit={}) as proxy, Client(proxy.url) as client:
            await client.call_tool("a_get_a", {})
            async with httpx2.AsyncClient() as http:
                metrics = (await http.get(f"{proxy.admin}/metrics")).text
    assert "mcpproxy_audit_dropped_total 0.0" in metrics
    [record] = _records(capfd)
    assert record["principal"] == {"method": "anonymous"}
    assert record["client"]["name"] == "mcp"
    assert "rule" not in record
