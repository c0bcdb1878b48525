"""Headers of clients that are passed on: to whom, with what, and who shares nothing then."""

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from tests.differential.backend import MODERN, Backend, Call, respond
from tests.differential.client import Client
from tests.proxy.runtime.serving import LIVE, Proxy, serving
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
MODES = ("Isolated", "PerClient", "Reused")
ERAS = ("legacy", "modern")
NAMED = ["Authorization", "X-Tenant"]


def _tool(name: str) -> str:
    return json.dumps({"name": name, "inputSchema": {"type": "object"}})


async def _answer(call: Call) -> None:
    text = [{"type": "text", "text": call.received.headers.get("x-tenant", "")}]
    result = {"content": text, "resultType": "complete"}
    await call.finish(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": result}))


@dataclass
class House:
    """A backend behind a door: each user has rooms of its own, and nobody else comes in."""

    era: str
    users: tuple[str, ...] = ("ann", "bo")
    stateless: bool = False
    rooms: dict[str, Backend] = field(default_factory=dict)
    came: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """HTTP method and headers of every request that was let in."""
    refused: int = 0

    def __post_init__(self) -> None:
        numbers = itertools.count()
        for user in self.users:
            tools = {"tools": [_tool("all"), _tool(f"only_{user}")]}
            room = Backend(self.era, _answer, tools, stateless=self.stateless, numbers=numbers)
            self.rooms[user] = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        room = self.rooms.get(headers.get("authorization", ""))
        if room is None:
            self.refused += 1
            await respond(send, 401, b"who are you?", b"text/plain")
            return
        self.came.append((scope["method"], headers))
        await room(scope, receive, send)


async def _behind(
    house: House, stack: Any, proxy: Any, mode: str = "Isolated", **backend: Any
) -> Proxy:
    base = await stack.enter_async_context(serving(house))
    value = {"name": "h", "url": f"{base}/mcp", "forwardHeaders": NAMED, **backend}
    result: Proxy = await proxy(value, session={"mode": mode})
    return result


async def _client(http: httpx2.AsyncClient, url: str, era: str, who: str, **more: str) -> Client:
    client = Client(http, url, era, {"authorization": who, **more})
    if era == "legacy":
        await client.initialize()
    return client


def _request(era: str, number: int, method: str, **params: Any) -> bytes:
    if era == "modern":
        meta = "io.modelcontextprotocol/"
        said = {f"{meta}protocolVersion": MODERN, f"{meta}clientCapabilities": {}}
        params = {**params, "_meta": said}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


async def _asked(client: Client, method: str, number: int = 1, **params: Any) -> dict[str, Any]:
    *_, last = await client.exchange(_request(client.era, number, method, **params))
    document: dict[str, Any] = json.loads(last)
    return document


async def _tools(client: Client) -> list[str]:
    listed = await _asked(client, "tools/list")
    return [tool["name"] for tool in listed["result"]["tools"]]


async def _told(client: Client, number: int = 1) -> str:
    """Return the tenant of a call by the backend."""
    answer = await _asked(client, "tools/call", number, name="h_all", arguments={})
    assert "result" in answer, answer
    text: str = answer["result"]["content"][0]["text"]
    return text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("front", ERAS)
@pytest.mark.parametrize("back", ERAS)
async def test_every_request_has_the_headers_of_the_requesting_client(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, back: str, front: str, mode: str
) -> None:
    house = House(back)
    declared = {"session": {"stateless": True}} if mode == "Reused" else {}
    running = await _behind(house, stack, proxy, mode, **declared)
    users = [
        await _client(http, running.url, front, who, **{"x-tenant": f"of-{who}", "x-other": "no"})
        for who in house.users
    ]
    for user in users:
        await _tools(user)
    told = await asyncio.gather(*(_told(user, n) for n in range(2, 22) for user in users))
    assert told == ["of-ann", "of-bo"] * 20
    for room in house.rooms.values():
        assert len(room.seen) == 20
    if front == "legacy":
        assert [await user.end() for user in users] == [204, 204]
    await running.stop()
    for _, headers in house.came:
        assert headers["x-tenant"] == f"of-{headers['authorization']}"
        assert "x-other" not in headers
    methods = {method for method, _ in house.came}
    assert back == "modern" or methods == {"POST", "GET", "DELETE"}
    opened = {session for room in house.rooms.values() for session in room.opened}
    deleted = {session for room in house.rooms.values() for session in room.deleted}
    assert opened == deleted


@pytest.mark.parametrize("front", ERAS)
@pytest.mark.parametrize("back", ERAS)
async def test_clients_get_the_list_variant_of_their_headers(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, back: str, front: str
) -> None:
    running = await _behind(House(back), stack, proxy)
    ann, bo = [await _client(http, running.url, front, who) for who in ("ann", "bo")]
    for _ in range(2):
        assert await _tools(ann) == ["h_all", "h_only_ann"]
        assert await _tools(bo) == ["h_all", "h_only_bo"]
    refused = await _asked(await _client(http, running.url, front, "eve"), "tools/list")
    assert "the backend rejected the credentials" in refused["error"]["message"]


@pytest.mark.parametrize("back", ERAS)
async def test_a_backend_that_requires_client_credentials_is_healthy_with_unknown_counts(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, back: str
) -> None:
    house = House(back)
    running = await _behind(house, stack, proxy)
    (backend,) = (await running.report()).backends
    assert (backend.state, backend.reason, backend.components) == (
        "Healthy",
        "ClientCredentials",
        None,
    )
    assert "forwardHeaders" in (backend.message or "")
    # Its sessions are not thrown away with each check that it refuses.
    client = await _client(http, running.url, "legacy", "ann")
    await _told(client)
    checks = house.refused
    opened = len(house.rooms["ann"].opened)
    await soon(lambda: house.refused >= checks + 3, "further checks")
    await _told(client, 2)
    assert len(house.rooms["ann"].opened) - opened <= 2


async def test_refused_credentials_of_the_proxy_are_an_error(stack: Any, proxy: Any) -> None:
    own: dict[str, Any] = {
        "headers": [{"name": "Authorization", "value": "eve"}],
        "forwardHeaders": ["X-Tenant"],
    }
    running = await _behind(House("legacy"), stack, proxy, **own)
    assert await running.state("h") == "Unauthorized"


@pytest.mark.parametrize("front", ERAS)
async def test_refused_credentials_affect_no_other_client(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, front: str
) -> None:
    running = await _behind(House("legacy"), stack, proxy)
    eve = await _client(http, running.url, front, "eve")
    answer = await _asked(eve, "tools/call", name="h_all", arguments={})
    assert answer["error"]["data"] == {
        "backend": "h",
        "reason": "Unauthorized",
        "mayHaveRun": False,
    }
    assert "rejected the credentials" in answer["error"]["message"]
    assert await _told(await _client(http, running.url, front, "ann")) == ""
    assert await running.state("h") == "Healthy"


async def test_a_header_may_change_within_the_session_of_a_client(
    stack: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    house = House("legacy")
    running = await _behind(house, stack, proxy, "PerClient")
    client = await _client(http, running.url, "legacy", "ann", **{"x-tenant": "one"})
    assert await _told(client, 1) == "one"
    client.headers["x-tenant"] = "two"
    assert await _told(client, 2) == "two"
    assert len(house.rooms["ann"].opened) == 1


@pytest.mark.parametrize("front", ERAS)
async def test_nothing_is_forwarded_that_is_not_named(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, front: str
) -> None:
    house = House(front)
    own: dict[str, Any] = {
        "headers": [{"name": "Authorization", "value": "bo"}],
        "forwardHeaders": None,
    }
    running = await _behind(house, stack, proxy, **own)
    client = await _client(http, running.url, front, "ann", cookie="c", **{"x-tenant": "one"})
    assert await _tools(client) == ["h_all", "h_only_bo"]
    assert await _told(client) == ""
    assert all("cookie" not in headers for _, headers in house.came)
    assert not house.rooms["ann"].seen


async def test_each_backend_gets_the_headers_that_are_named_for_it(
    stack: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    houses = {"one": House("legacy"), "two": House("legacy")}
    named = {"one": ["authorization"], "two": ["Authorization", "x-tenant"]}
    specs = []
    for name, house in houses.items():
        base = await stack.enter_async_context(serving(house))
        specs.append({"name": name, "url": f"{base}/mcp", "forwardHeaders": named[name]})
    running = await proxy(*specs)
    client = await _client(http, running.url, "legacy", "ann", **{"x-tenant": "t"})
    assert await _tools(client) == ["one_all", "one_only_ann", "two_all", "two_only_ann"]
    for number, (name, told) in enumerate((("one_all", ""), ("two_all", "t")), 2):
        answer = await _asked(client, "tools/call", number, name=name, arguments={})
        assert answer["result"]["content"][0]["text"] == told
    assert all("x-tenant" not in headers for _, headers in houses["one"].came)


@pytest.mark.parametrize("mode", ["Isolated", "Reused"])
async def test_s9_clients_that_differ_in_a_header_share_no_session(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, mode: str
) -> None:
    house = House("legacy")
    declared: dict[str, Any] = {"session": {"mode": mode, "stateless": True}}
    running = await _behind(house, stack, proxy, **declared)
    tenants = [
        await _client(http, running.url, "legacy", "ann", **{"x-tenant": tenant})
        for tenant in ("one", "two")
    ]
    for number in range(5):
        assert [await _told(tenant, number) for tenant in tenants] == ["one", "two"]
    used: dict[str, set[str]] = {}
    for _, headers in house.came:
        if "mcp-session-id" in headers:
            used.setdefault(headers["mcp-session-id"], set()).add(headers["x-tenant"])
    assert set(map(len, used.values())) == {1}


@pytest.mark.parametrize("era", ERAS)
async def test_calls_of_the_fast_path_have_the_headers_of_their_clients(
    stack: Any, proxy: Any, http: httpx2.AsyncClient, era: str
) -> None:
    house = House(era, stateless=True)
    own: dict[str, Any] = {
        "headers": [{"name": "Authorization", "value": "bo"}],
        "forwardHeaders": ["x-tenant"],
    }
    running = await _behind(house, stack, proxy, **own)
    item, two = [
        await _client(http, running.url, era, "ann", **{"x-tenant": tenant})
        for tenant in ("one", "two")
    ]
    for number in range(1, 6):
        assert [await _told(item, number), await _told(two, number)] == ["one", "two"]
