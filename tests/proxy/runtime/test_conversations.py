"""A conversation stays where its state is, and crosses between the eras."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client
from mcp.server import Server

from tests.proxy.runtime import conversing
from tests.proxy.runtime.raw import META, Raw, last
from tests.proxy.runtime.serving import LIVE, Gate, serving

pytestmark = LIVE
SCRIPT = Path(conversing.__file__)


async def _answers(context: Any, params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={"name": "ann"})


def _text(result: t.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, t.TextContent)
    return content.text


@pytest.mark.slow
@pytest.mark.parametrize(("session", "rounds"), [("Isolated", 2), ("PerClient", 1)])
async def test_the_response_to_a_server_request_reaches_the_requesting_process(
    proxy: Any, session: str, rounds: int
) -> None:
    stdio = {"command": sys.executable, "args": ["-W", "ignore", str(SCRIPT)]}
    running = await proxy({"name": "p", "stdio": stdio, "session": {"mode": session}})
    await running.until("p", "Healthy")
    async with Client(running.url, mode="2026-07-28", elicitation_callback=_answers) as client:
        results = await asyncio.gather(
            *(client.call_tool("p_ask", {"rounds": rounds}) for _ in range(2))
        )
    assert [_text(result) for result in results] == ["ann True"] * 2


@pytest.mark.slow
async def test_an_immediate_request_of_a_stdio_server_reaches_its_client(
    proxy: Any, http: Any
) -> None:
    stdio = {"command": sys.executable, "args": ["-W", "ignore", str(SCRIPT)]}
    running = await proxy({"name": "p", "stdio": stdio, "session": {"mode": "Isolated"}})
    await running.until("p", "Healthy")
    client = Raw(running.url, http)
    meta: Any = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}
    call: Any = {"_name": "p_ask_both", "name": "p_ask_both", "arguments": {}, "_meta": meta}
    asked = last(await client.call("tools/call", **call))["result"]
    assert len(asked["inputRequests"]) == 2
    answers = {
        key: {"action": "accept", "content": {"name": "ann"}} for key in asked["inputRequests"]
    }
    retry = {**call, "inputResponses": answers, "requestState": asked["requestState"]}
    result = last(await client.call("tools/call", **retry))["result"]
    assert result["content"][0]["text"] == "one=ann two=ann True"


@pytest.mark.slow
@pytest.mark.parametrize("session", ["Isolated", "PerClient"])
async def test_input_requests_of_a_modern_stdio_server_keep_their_keys(
    proxy: Any, http: Any, session: str
) -> None:
    stdio = {"command": sys.executable, "args": ["-W", "ignore", str(SCRIPT)]}
    running = await proxy({"name": "p", "stdio": stdio, "session": {"mode": session}})
    await running.until("p", "Healthy")
    meta: Any = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}
    call: Any = {"_name": "p_ask_both", "name": "p_ask_both", "arguments": {}, "_meta": meta}
    asked = last(await Raw(running.url, http).call("tools/call", **call))["result"]
    assert set(asked["inputRequests"]) == {"one", "two"}


VALUES: dict[str, tuple[Any, Any]] = {
    "list": ({"type": "array", "items": {"type": "integer"}}, [1, 2]),
    "text": ({"type": "string"}, "x"),
    "either": ({"anyOf": [{"type": "object"}, {"type": "integer"}]}, 7),
    "object": ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1}),
    "tree": (
        {
            "$ref": "#/$defs/Node",
            "$defs": {
                "Node": {
                    "type": "object",
                    "properties": {"next": {"$ref": "#/$defs/Node"}},
                }
            },
        },
        {"next": {}},
    ),
}


async def _listed(context: Any, params: Any) -> t.ListToolsResult:
    return t.ListToolsResult(
        tools=[
            t.Tool(name=name, input_schema={"type": "object"}, output_schema=schema)
            for name, (schema, _) in VALUES.items()
        ]
    )


async def _called(context: Any, params: Any) -> t.CallToolResult:
    await context.session.send_log_message(level="info", data=params.name)
    value = VALUES[params.name][1]
    content: list[Any] = [t.TextContent(type="text", text="done")]
    return t.CallToolResult(content=content, structured_content=value)


def _shaped() -> Gate:
    server: Server[Any] = Server("s", version="1", on_list_tools=_listed, on_call_tool=_called)
    return Gate(server.streamable_http_app(), "modern")


async def test_structured_results_of_any_shape_reach_legacy_clients(proxy: Any, stack: Any) -> None:
    base = await stack.enter_async_context(serving(_shaped()))
    running = await proxy({"name": "p", "url": f"{base}/mcp"})
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {f"p_{name}" for name in VALUES}
        for name, (_, value) in VALUES.items():
            result = (await client.call_tool(f"p_{name}", {})).structured_content
            assert result == (value if isinstance(value, dict) else {"result": value})


async def test_log_messages_reach_a_legacy_client_that_set_no_level(proxy: Any, stack: Any) -> None:
    base = await stack.enter_async_context(serving(_shaped()))
    running = await proxy({"name": "p", "url": f"{base}/mcp"})
    await running.until("p", "Healthy")
    received = []

    async def logged(params: Any) -> None:
        received.append((params.level, params.data))

    async with Client(running.url, mode="legacy", logging_callback=logged) as client:
        await client.call_tool("p_list", {})
    assert received == [("info", "list")]


async def test_log_messages_that_are_not_forwarded_are_not_requested(
    proxy: Any, stack: Any
) -> None:
    gate = _shaped()
    base = await stack.enter_async_context(serving(gate))
    running = await proxy({"name": "p", "url": f"{base}/mcp", "forward": {"logging": False}})
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        await client.call_tool("p_list", {})
    (call,) = [request for request in gate.seen if request.rpc == "tools/call"]
    assert b"logLevel" not in call.body
