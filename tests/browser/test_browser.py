"""Clients in a real browser: pages of admitted origins are served, others are not."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import HTMLResponse

from tests.browser.driver import Browser
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import META, MODERN
from tests.proxy.runtime.serving import LIVE, proxied, serving

pytestmark = [*LIVE, pytest.mark.browser, pytest.mark.timeout(120)]


async def blank_page(scope: Any, receive: Any, send: Any) -> None:
    """A page without content: tests bring its scripts."""
    if scope["type"] == "http":
        Request(scope, receive)
        await HTMLResponse("<!doctype html><title>page</title>")(scope, receive, send)


@dataclass(frozen=True)
class World:
    """A proxy and pages: of the admitted origin, of another port, and of another host."""

    proxy: str
    admitted: str
    other_port: str
    other_host: str


@pytest_asyncio.fixture(loop_scope="session")
async def world(stack: AsyncExitStack) -> AsyncIterator[World]:
    """A proxy that admits one page."""
    peer = Peer("p", "dual")
    base = await stack.enter_async_context(serving(peer.gate))
    admitted = await stack.enter_async_context(serving(blank_page))
    other = await stack.enter_async_context(serving(blank_page))
    backend = {"name": "p", "prefix": "", "url": f"{base}/mcp"}
    proxy = await stack.enter_async_context(proxied(backend, allowedOrigins=[admitted]))
    other_host = admitted.replace("127.0.0.1", "localhost")
    yield World(proxy.url, admitted, other, other_host)


COMMON = """
const [url] = arguments;
const json = {"content-type": "application/json", "accept": "application/json, text/event-stream"};
const post = (message, headers) => fetch(url, {
  method: "POST", headers: {...json, ...headers},
  body: JSON.stringify({jsonrpc: "2.0", ...message}),
});
const last = async answer => {
  const lines = (await answer.text()).split("\\n").filter(line => line.includes("{"));
  return JSON.parse(lines[lines.length - 1].replace(/^data: /, ""));
};
const firstChunk = async answer => {
  const reader = answer.body.getReader();
  const {value} = await reader.read();
  await reader.cancel();
  return new TextDecoder().decode(value);
};
"""

LEGACY = (
    COMMON
    + """
const begun = await post({id: 1, method: "initialize", params: {
  protocolVersion: "2025-11-25", capabilities: {}, clientInfo: {name: "page", version: "1"},
}});
const session = begun.headers.get("mcp-session-id");
const headers = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25",
                 "authorization": "Bearer token"};
const own = {...headers};
delete own.authorization;
await post({method: "notifications/initialized"}, own);
const called = await last(await post({id: 2, method: "tools/call", params: {
  name: "echo", arguments: {a: "grüße"}}}, own));
const noisy = await post({id: 3, method: "tools/call", params: {
  name: "noisy", arguments: {say: "hello"}}}, own);
const streamed = noisy.headers.get("content-type");
const answered = await last(noisy);
const stream = await fetch(url, {headers: {...own, "accept": "text/event-stream"}});
const chunk = await firstChunk(stream);
const foreign = await post({id: 4, method: "ping"}, headers);
const ended = await fetch(url, {method: "DELETE", headers: own});
return {session, called, streamed, answered, stream: stream.status, chunk,
        foreign: foreign.status, why: (await foreign.json()).error.message, ended: ended.status};
"""
)

MODERN_ERA = (
    COMMON
    + """
const [, version, prefix] = arguments;
const meta = {[prefix + "protocolVersion"]: version, [prefix + "clientCapabilities"]: {},
              [prefix + "clientInfo"]: {name: "page", version: "1"}};
const ask = (id, method, params, name) => post(
  {id, method, params: {...params, _meta: meta}},
  {"mcp-protocol-version": version, "mcp-method": method, ...(name ? {"mcp-name": name} : {}),
   "mcp-param-region": "eu", "authorization": "Bearer token", "traceparent":
   "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"});
const listed = await last(await ask(1, "tools/list", {}));
const called = await last(await ask(
  2, "tools/call", {name: "echo", arguments: {a: "grüße"}}, "echo"));
const listening = await ask(
  3, "subscriptions/listen", {notifications: {toolsListChanged: true}});
const chunk = await firstChunk(listening);
const unknown = await ask(4, "no/such/method", {});
return {listed, called, chunk, unknown: unknown.status, why: await last(unknown)};
"""
)

INITIALIZE = (
    COMMON
    + """
const answer = await post({id: 1, method: "initialize", params: {
  protocolVersion: "2025-11-25", capabilities: {}, clientInfo: {name: "page", version: "1"},
}});
return {status: answer.status};
"""
)

READ_ERROR = "const answer = await fetch(arguments[0], {method: 'GET'}); return answer.status;"
WITHOUT_CORS = """
await fetch(arguments[0], {method: "POST", mode: "no-cors", body: arguments[1]});
return "sent";
"""


async def test_a_page_of_an_admitted_origin_is_a_client_of_the_legacy_era(
    browser: Browser, world: World
) -> None:
    await browser.visit(world.admitted)
    result = await browser.run(LEGACY, world.proxy)
    assert "thrown" not in result, result
    assert result["session"]
    assert result["called"]["result"]["structuredContent"] == {"a": "grüße"}
    assert result["streamed"].startswith("text/event-stream")
    assert "result" in result["answered"]
    assert result["stream"] == 200
    assert result["chunk"].startswith(":")
    assert result["foreign"] == 404
    assert "session" in result["why"]
    assert result["ended"] == 204


async def test_a_page_of_an_admitted_origin_is_a_client_of_the_modern_era(
    browser: Browser, world: World
) -> None:
    await browser.visit(world.admitted)
    result = await browser.run(MODERN_ERA, world.proxy, MODERN, META)
    assert "thrown" not in result, result
    assert "echo" in [tool["name"] for tool in result["listed"]["result"]["tools"]]
    assert result["called"]["result"]["structuredContent"] == {"a": "grüße"}
    assert "acknowledged" in result["chunk"]
    assert result["unknown"] == 404
    assert result["why"]["error"]["code"] == -32601


@pytest.mark.parametrize("where", ["other_port", "other_host"])
async def test_s1_a_page_of_another_port_or_host_can_neither_send_nor_read(
    browser: Browser, world: World, where: str
) -> None:
    await browser.visit(getattr(world, where))
    for script in (INITIALIZE, READ_ERROR):
        result = await browser.run(script, world.proxy)
        assert isinstance(result, dict), result
        assert "thrown" in result, result


async def test_s1_a_page_of_another_origin_executes_nothing_without_a_preflight(
    browser: Browser, world: World, stack: AsyncExitStack
) -> None:
    peer = Peer("q", "legacy")
    base = await stack.enter_async_context(serving(peer.gate))
    backend = {"name": "q", "prefix": "", "url": f"{base}/mcp"}
    running = await stack.enter_async_context(proxied(backend))
    before = peer.gate.count("tools/call")
    await browser.visit(world.other_port)
    call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
    assert await browser.run(WITHOUT_CORS, running.url, call) == "sent"
    assert peer.gate.count("tools/call") == before
