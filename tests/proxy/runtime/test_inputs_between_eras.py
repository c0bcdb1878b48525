"""Inputs that a server of one era requests from a client of the other one."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import mcp
import mcp_types as t
import pytest

from tests.proxy.runtime.extended import Extended, Handler, World, settled
from tests.proxy.runtime.peer import Peer, text
from tests.proxy.runtime.raw import META, MODERN, Raw, modern, rpc
from tests.proxy.runtime.serving import CALM, LIVE, proxied, serving

pytestmark = LIVE
URL = {"mode": "url", "url": "https://x/", "message": "Sign in"}
FORM = t.ElicitRequestFormParams(
    message="Who?", requested_schema={"type": "object", "properties": {"name": {"type": "string"}}}
)
HEADERS = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "p_two"}


@pytest.fixture
def world(stack: AsyncExitStack, http: httpx2.AsyncClient) -> World:
    """No backends yet."""
    return World(stack, http)


def _opens(opened: list[str]) -> Any:
    """A callback that opens URLs."""

    async def open_url(context: Any, params: Any) -> t.ElicitResult:
        assert isinstance(params, t.ElicitRequestURLParams)
        opened.append(params.url)
        return t.ElicitResult(action="accept")

    return open_url


async def _signing_in(world: World) -> tuple[str, list[str]]:
    """The URL of a proxy before a legacy server that serves a user who has signed in."""
    opened: list[str] = []
    listed = [{**URL, "elicitationId": "e1"}]
    refusal = {"code": -32042, "message": "sign in", "data": {"elicitations": listed}}
    handlers: dict[str, Handler] = {
        "tools/call": lambda params: {"content": []} if opened else {"error": refusal}
    }
    await world.add("a", Extended("legacy", handlers=handlers))
    running = await world.proxy()
    await settled(running)
    return running.url, opened


async def test_a_modern_client_opens_the_url_that_a_legacy_server_requires(world: World) -> None:
    url, opened = await _signing_in(world)
    async with mcp.Client(url, mode=MODERN, elicitation_callback=_opens(opened)) as client:
        result = await client.call_tool("a_t", {})
    assert (result.is_error, opened) == (False, ["https://x/"])


async def test_a_modern_client_without_urls_gets_the_missing_capability_as_http_400(
    world: World, http: httpx2.AsyncClient
) -> None:
    url, _ = await _signing_in(world)
    answer = await Raw(url, http).call("tools/call", "a_t", name="a_t", arguments={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32021)


async def test_a_legacy_client_opens_the_url_that_a_modern_server_requires(world: World) -> None:
    opened: list[str] = []
    asked: dict[str, Any] = {
        "resultType": "input_required",
        "inputRequests": {"q": {"method": "elicitation/create", "params": URL}},
    }
    done: dict[str, Any] = {"resultType": "complete", "content": []}
    handlers: dict[str, Handler] = {
        "tools/call": lambda params: done if "inputResponses" in params else asked
    }
    await world.add("a", Extended("modern", handlers=handlers))
    running = await world.proxy()
    await settled(running)
    async with mcp.Client(
        running.url, mode="legacy", elicitation_callback=_opens(opened)
    ) as client:
        result = await client.call_tool("a_t", {})
    assert (result.is_error, opened) == (False, ["https://x/"])


async def test_a_retry_repeats_no_inputs_of_an_earlier_round(
    world: World, http: httpx2.AsyncClient
) -> None:
    calls: list[dict[str, Any]] = []
    roots = {"q": {"method": "roots/list", "params": {}}}
    rounds: list[dict[str, Any]] = [
        {"resultType": "input_required", "requestState": "s1", "inputRequests": roots},
        {"resultType": "input_required", "requestState": "s2", "inputRequests": {}},
        {"resultType": "input_required", "requestState": "s3"},
        {"resultType": "complete", "content": []},
    ]

    def call(params: dict[str, Any]) -> dict[str, Any]:
        calls.append({k: params[k] for k in ("inputResponses", "requestState") if k in params})
        return rounds[len(calls) - 1]

    await world.add("a", Extended("modern", handlers={"tools/call": call}))
    running = await world.proxy()
    await settled(running)
    raw = Raw(running.url, http)
    await raw.initialize(capabilities={"roots": {}})
    request = rpc("tools/call", {"name": "a_t", "arguments": {}}, 5)
    async for message in raw.messages(request):
        if message.get("method") == "roots/list":
            await raw.post({"jsonrpc": "2.0", "id": message["id"], "result": {"roots": []}})
    assert message["result"] == {"content": []}
    assert calls == [
        {},
        {"inputResponses": {"q": {"roots": []}}, "requestState": "s1"},
        {"requestState": "s2"},
        {"requestState": "s3"},
    ]


async def test_progress_after_a_retry_has_the_token_of_the_retry(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    peer = Peer("p", "legacy")

    async def two(context: Any, params: Any) -> Any:
        await context.session.report_progress(1, 3, "before")
        await peer.answers(context, params, q=t.ElicitRequest(params=FORM))
        await context.session.report_progress(2, 3, "after")
        return text("done")

    peer.tools = {"two": two}
    base = await stack.enter_async_context(serving(peer.gate))
    backend = {"name": "p", "url": f"{base}/mcp"}
    running = await stack.enter_async_context(proxied(backend, **CALM))
    raw = Raw(running.url, http)
    about: dict[str, Any] = {f"{META}clientCapabilities": {"elicitation": {}}}
    params: dict[str, Any] = {"name": "p_two", "arguments": {}}
    tokens = []
    for number, token in enumerate(("first", "second")):
        meta = {**about, "progressToken": token}
        async for message in raw.messages(
            modern("tools/call", number, **params, _meta=meta), **HEADERS
        ):
            if "method" in message:
                tokens.append((message["params"]["progressToken"], message["params"]["message"]))
        result = message["result"]
        if result["resultType"] == "input_required":
            (key,) = result["inputRequests"]
            answer = {"action": "accept", "content": {"name": "Bo"}}
            params["inputResponses"] = {key: answer}
            params["requestState"] = result["requestState"]
    assert tokens == [("first", "before"), ("second", "after")]
    assert json.dumps(result).count("done") == 1
