"""Arguments that parsers read in different ways: policy refuses them, no backend gets them."""

import json
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.proxy.runtime.authorized import ALICE, DEV, World, worlds
from tests.proxy.runtime.callers import Caller, rule, sign_in
from tests.proxy.runtime.raw import MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.shelf import Shelf

pytestmark = LIVE
eras = pytest.mark.parametrize("era", ["legacy", "modern", "batch"])
ALL = {"tools": ["a_*"], "prompts": ["*"], "resources": ["*"]}
OWN = rule("own", DEV, ALL, when="!has(args.owner) || args.owner == 'acme'")
COMPLETE = "completion/complete"
UNREADABLE = (
    '{"owner":"evil","x":1e400}',
    '{"owner":"evil","x":[-1e999]}',
    "[1e400]",
    f'{{"owner":"acme","x":[{{"y":{"9" * 400}}}]}}',
)
AMBIGUOUS = (
    '{"owner":"evil","owner":"acme"}',
    '{"owner":"evil","\\u006fwner":"acme"}',
    '{"x":[{"y":1,"y":2}]}',
)


@pytest.fixture(autouse=True)
def _sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


async def _send(
    who: Caller, era: str, arguments: str, method: str = "tools/call", **params: Any
) -> Any:
    """The response to a request with these arguments as they are written."""
    params = {"name": "a_set_a", "arguments": "@", **params}
    headers = who.headers
    if era == "modern":
        message: Any = modern(method, **params)
        names = {"mcp_method": method, "mcp_name": params["name"]}
        headers = {"mcp_protocol_version": MODERN, **names, **headers}
    else:
        message = rpc(method, params)
    text = json.dumps([message] if era == "batch" else message)
    return last(await who.raw.post(text.replace('"@"', arguments).encode(), **headers))


async def _caller(world: World, era: str) -> Caller:
    who = await world.caller("modern" if era == "modern" else "legacy", ALICE)
    if era == "batch":
        await who.raw.initialize("2025-03-26", **who.headers)
    return who


@eras
async def test_a_condition_refuses_arguments_that_cannot_be_read_or_are_ambiguous(era: str) -> None:
    async with worlds(OWN) as world:
        alice = await _caller(world, era)
        assert "result" in await _send(alice, era, '{"owner":"acme"}')
        assert "result" in await _send(alice, era, "null")
        text = f'{{"owner":"acme","x":"{"9" * 400}","y":{"9" * 300}}}'
        assert "result" in await _send(alice, era, text)
        for text in (*UNREADABLE, *AMBIGUOUS, '["owner"]', '"evil"'):
            error = (await _send(alice, era, text))["error"]
            assert error["code"] == -32602, text
            assert error["message"].startswith("params.arguments "), text


async def test_a_condition_refuses_nesting_that_the_decoder_cannot_follow() -> None:
    async with worlds(OWN) as world:
        alice = await _caller(world, "legacy")
        for depth in range(960, 990):
            nested = "[" * depth + "]" * depth
            assert "error" in await _send(alice, "legacy", f'{{"owner":"evil","x":{nested}}}')


async def test_a_condition_refuses_ambiguous_arguments_of_prompts() -> None:
    async with worlds(OWN) as world:
        alice = await _caller(world, "legacy")
        params = {"method": "prompts/get", "name": "a_ask"}
        assert "result" in await _send(alice, "legacy", '{"owner":"acme"}', **params)
        for text in (*UNREADABLE, *AMBIGUOUS):
            assert "error" in await _send(alice, "legacy", text, **params)


@eras
async def test_a_condition_is_not_met_by_a_name_in_another_case(era: str) -> None:
    async with worlds(OWN) as world:
        alice = await _caller(world, era)
        assert "result" in await _send(alice, era, '{"owner":"acme","Other":1,"other":2}')
        for text in ('{"Owner":"evil"}', '{"x":[{"OWNER":1}]}'):
            error = (await _send(alice, era, text))["error"]
            assert "conditions of spec.authorization" in error["message"]


@eras
async def test_an_external_decision_refuses_what_the_service_could_not_see(era: str) -> None:
    asked: list[Any] = []

    async def decide(request: Request) -> Response:
        asked.append(await request.json())
        return JSONResponse({"result": True})

    app = Starlette(routes=[Route("/", decide, methods=["POST"])])
    async with serving(app) as url:
        everyone = rule("all", DEV, ALL)
        external = {"url": url, "timeout": "30s", "onFailure": "Allow"}
        async with worlds(everyone, external=external) as world:
            alice = await _caller(world, era)
            assert "result" in await _send(alice, era, '{"owner":"acme"}')
            assert len(asked) == 1
            for text in (*UNREADABLE, *AMBIGUOUS, '"evil"'):
                error = (await _send(alice, era, text))["error"]
                assert error["code"] == -32602, text
                assert error["message"].startswith("params.arguments "), text
            assert len(asked) == 1


@eras
async def test_arguments_that_no_record_could_show_are_refused_with_an_audit_log(era: str) -> None:
    for recorded, refused in (("Full", True), ("Digest", True), ("None", False)):
        audit = {"arguments": recorded}
        async with worlds(rule("all", DEV, ALL), audit=audit) as world:
            alice = await _caller(world, era)
            assert "result" in await _send(alice, era, '{"owner":"acme"}')
            answer = await _send(alice, era, '{"owner":"evil","x":1e400}')
            assert ("error" in answer) == refused


@pytest.mark.parametrize("field", ["Name", "NAME", "Arguments", "URI", "_META", "\u017ftate"])
async def test_a_field_of_params_in_another_case_is_refused(field: str) -> None:
    """A parser that ignores case would take it for the field that the proxy has judged."""
    known = "tate" not in field
    async with serving(Shelf("a").gate) as url:
        entry = {"name": "a", "url": f"{url}/mcp", "tools": {"exclude": ["get_a"]}}
        async with proxied(entry) as proxy, httpx2.AsyncClient(timeout=30) as http:
            who = Caller(await _raw(proxy.url, http), "legacy", {})
            answer = await _send(who, "legacy", "{}", **{field: "get_a"})
            assert ("error" in answer) == known
            if known:
                assert json.dumps(field) in answer["error"]["message"]
            ref = {"type": "ref/resource", "uri": "x", field: "y"}
            argument = {"name": "a", "value": ""}
            completed = last(
                await who.raw.post(rpc("completion/complete", {"ref": ref, "argument": argument}))
            )
            if field == "URI":
                assert "params.ref has" in completed["error"]["message"]


@pytest.mark.parametrize("field", ["Method", "PARAMS", "Id", "Result", "JsonRpc"])
async def test_a_message_with_a_field_in_another_case_is_refused(field: str) -> None:
    async with serving(Shelf("a").gate) as url:
        entry = {"name": "a", "url": f"{url}/mcp"}
        async with proxied(entry) as proxy, httpx2.AsyncClient(timeout=30) as http:
            raw = await _raw(proxy.url, http)
            notification = {"jsonrpc": "2.0", "method": "notifications/x", field: "tools/call"}
            answer = await raw.post(notification)
            assert answer.json()["error"]["code"] == -32600
            call = rpc("tools/call", {"name": "a_set_a", "arguments": {}})
            answer = await raw.post({**call, field: "x"})
            assert answer.json()["error"]["code"] == -32600
            assert "result" in last(await raw.post({**call, "extra": "x"}))


async def _raw(url: str, http: httpx2.AsyncClient) -> Raw:
    raw = Raw(url, http)
    await raw.initialize()
    return raw


async def test_a_backend_gets_the_reference_that_the_rules_have_judged() -> None:
    may = {"prompts": ["ask", "*_ask"]}
    async with worlds(rule("dev", DEV, may), names="a", backend={"prefix": ""}) as world:
        alice = await world.caller("legacy", ALICE)
        text = json.dumps(rpc("completion/complete", {"ref": "@", "argument": {}}))
        ref = '{"type":"ref/prompt","name":"other","name":"ask"}'
        await alice.raw.post(text.replace('"@"', ref).encode(), **alice.headers)
        (sent,) = [seen.body for seen in world.shelves[0].gate.seen if seen.rpc == COMPLETE]
        assert b'"ask"' in sent
        assert b"other" not in sent


@pytest.mark.parametrize("value", [["file:///etc/passwd"], {"a": "file:///etc/passwd"}, 1])
@pytest.mark.parametrize("field", ["uri", "taskId"])
async def test_a_name_that_the_rules_cannot_judge_needs_the_whole_backend(
    field: str, value: Any
) -> None:
    params = {"name": "a_get_a", field: value}
    for may, reaches in (({"tools": ["a_get_a"]}, False), ({"backends": ["a"]}, True)):
        async with worlds(rule("dev", DEV, may), names="a") as world:
            alice = await world.caller("legacy", ALICE)
            answer = last(await alice.raw.post(rpc("vendor/bulk", params), **alice.headers))
            seen = [item for item in world.shelves[0].gate.seen if item.rpc == "vendor/bulk"]
            assert bool(seen) is reaches
            assert (answer["error"]["message"] == "method not found: vendor/bulk") or reaches


async def test_a_uri_with_a_prefix_in_another_case_is_judged_as_in_lists() -> None:
    may = {"resources": ["file://a//pub/*"]}
    async with worlds(rule("dev", DEV, may), names="a") as world:
        alice = await world.caller("legacy", ALICE)
        for path, reaches in (("pub/a", 1), ("etc/passwd", 0)):
            world.shelves[0].gate.seen.clear()
            params = {"uri": f"file://A//{path}"}
            await alice.raw.post(rpc("vendor/bulk", params), **alice.headers)
            sent = [item for item in world.shelves[0].gate.seen if item.rpc == "vendor/bulk"]
            assert len(sent) == reaches
            got = [json.loads(item.body)["params"] for item in sent]
            assert got == [{"uri": f"file:///{path}"}] * reaches
