"""Pages as clients of a proxy with authentication, in a real browser.

A page of an allowed origin sends its token and reads challenges. A page of another origin reads no
response of the endpoint, not even a refusal; only the published metadata is for all.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.browser.driver import Browser
from tests.browser.test_browser import COMMON, blank_page
from tests.proxy.runtime.issuing import METADATA, METADATA_PATH, PUBLIC_URL, issuing
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import META, MODERN
from tests.proxy.runtime.serving import LIVE, proxied, serving

pytestmark = [*LIVE, pytest.mark.browser, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class World:
    """A proxy with authentication, a token for it, and two pages."""

    proxy: str
    token: str
    allowed: str
    foreign: str

    @property
    def metadata(self) -> str:
        """The URL of the published metadata at this proxy."""
        return self.proxy.removesuffix("/mcp") + f"{METADATA_PATH}/tools"


@pytest_asyncio.fixture(loop_scope="session")
async def world(stack: AsyncExitStack) -> AsyncIterator[World]:
    """A proxy that allows one page."""
    issuer = await stack.enter_async_context(issuing())
    peer = Peer("p", "dual")
    base = await stack.enter_async_context(serving(peer.gate))
    allowed = await stack.enter_async_context(serving(blank_page))
    foreign = await stack.enter_async_context(serving(blank_page))
    backend = {"name": "p", "prefix": "", "url": f"{base}/mcp"}
    spec = {**issuer.spec(), "allowedOrigins": [allowed]}
    proxy = await stack.enter_async_context(proxied(backend, **spec))
    yield World(proxy.url, issuer.token(), allowed, foreign)


LEGACY = (
    COMMON
    + """
const [, token] = arguments;
const begun = await post({id: 1, method: "initialize", params: {
  protocolVersion: "2025-11-25", capabilities: {}, clientInfo: {name: "page", version: "1"},
}}, {authorization: token});
const own = {"mcp-session-id": begun.headers.get("mcp-session-id"), authorization: token,
             "mcp-protocol-version": "2025-11-25"};
await post({method: "notifications/initialized"}, own);
const listed = await last(await post({id: 2, method: "tools/list"}, own));
const called = await last(await post({id: 3, method: "tools/call", params: {
  name: "echo", arguments: {a: 1}}}, own));
return {tools: listed.result.tools.map(tool => tool.name), called};
"""
)

MODERN_ERA = (
    COMMON
    + """
const [, token, version, prefix] = arguments;
const meta = {[prefix + "protocolVersion"]: version, [prefix + "clientCapabilities"]: {},
              [prefix + "clientInfo"]: {name: "page", version: "1"}};
const ask = (id, method, params, name) => post(
  {id, method, params: {...params, _meta: meta}},
  {"mcp-protocol-version": version, "mcp-method": method, ...(name ? {"mcp-name": name} : {}),
   authorization: token});
const listed = await last(await ask(1, "tools/list", {}));
const called = await last(await ask(2, "tools/call", {name: "echo", arguments: {a: 1}}, "echo"));
return {tools: listed.result.tools.map(tool => tool.name), called};
"""
)

# As the TypeScript SDK does: the header of the revision makes a preflight necessary.
DISCOVERY = (
    COMMON
    + """
const [, token, metadata] = arguments;
const answers = [];
for (const headers of [{}, {authorization: token + "x"}]) {
  const refused = await post({id: 1, method: "ping"}, headers);
  answers.push([refused.status, refused.headers.get("www-authenticate"),
                (await refused.json()).error.message]);
}
const found = await fetch(metadata, {headers: {"mcp-protocol-version": "2025-11-25"}});
return {answers, metadata: await found.json()};
"""
)

FOREIGN = (
    COMMON
    + """
const [, token, metadata] = arguments;
const attempts = {
  "with a token": () => post({id: 1, method: "ping"}, {authorization: token}),
  "without one": () => post({id: 1, method: "ping"}),
  "a simple request": () => fetch(url, {method: "POST", body: "{}"}),
  "a stream": () => fetch(url, {headers: {accept: "text/event-stream"}}),
  "another path": () => fetch(url + "/x"),
};
const read = {};
for (const [name, attempt] of Object.entries(attempts)) {
  read[name] = await attempt().then(answer => answer.text(), error => null);
}
const found = await fetch(metadata, {headers: {"mcp-protocol-version": "2025-11-25"}});
const opaque = await fetch(url, {method: "POST", body: "{}", mode: "no-cors"});
return {read, resource: (await found.json()).resource,
        opaque: [opaque.type, opaque.status, (await opaque.text()).length]};
"""
)


async def test_a_page_of_an_allowed_origin_calls_with_its_token_in_the_legacy_era(
    browser: Browser, world: World
) -> None:
    await browser.visit(world.allowed)
    result = await browser.run(LEGACY, world.proxy, world.token)
    assert "thrown" not in result, result
    assert "echo" in result["tools"]
    assert result["called"]["result"]["structuredContent"] == {"a": 1}


async def test_a_page_of_an_allowed_origin_calls_with_its_token_in_the_modern_era(
    browser: Browser, world: World
) -> None:
    await browser.visit(world.allowed)
    result = await browser.run(MODERN_ERA, world.proxy, world.token, MODERN, META)
    assert "thrown" not in result, result
    assert "echo" in result["tools"]
    assert result["called"]["result"]["structuredContent"] == {"a": 1}


async def test_a_page_of_an_allowed_origin_finds_the_authorization_server_by_the_challenge(
    browser: Browser, world: World
) -> None:
    await browser.visit(world.allowed)
    result = await browser.run(DISCOVERY, world.proxy, world.token, world.metadata)
    assert "thrown" not in result, result
    for status, challenge, message in result["answers"]:
        assert status == 401
        assert f'resource_metadata="{METADATA}"' in challenge
        assert message
    assert result["metadata"]["resource"] == PUBLIC_URL


async def test_s1_a_page_of_another_origin_reads_no_byte_but_the_published_metadata(
    browser: Browser, world: World
) -> None:
    await browser.visit(world.foreign)
    result = await browser.run(FOREIGN, world.proxy, world.token, world.metadata)
    assert "thrown" not in result, result
    assert set(result["read"].values()) == {None}
    assert result["opaque"] == ["opaque", 0, 0]
    assert result["resource"] == PUBLIC_URL
