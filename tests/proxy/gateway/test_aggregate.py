"""Merged lists: whole when clients ask first, the newest, and never empty by failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcpproxy.proxy.core.errors import RateLimited, Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.modern import requests as modern_requests
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import PROMPTS, TOOLS
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY
from mcpproxy.proxy.upstream.monitor import check_schedule as rounds_module
from mcpproxy.proxy.upstream.monitor import list_waits
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.plain import ALL, PlainConnector, gateway_of, listed, turns


@asynccontextmanager
async def running(**connectors: PlainConnector) -> AsyncIterator[Gateway]:
    """A gateway that runs."""
    gateway = gateway_of(**connectors)
    gateway.start()
    try:
        yield gateway
    finally:
        for connector in connectors.values():
            connector.gate.set()
        await gateway.close()


async def tools(gateway: Gateway) -> list[str]:
    """The tools that a client is listed."""
    document = jsonrpc.decode(await gateway.aggregate.listing(TOOLS, None, modern=False))
    return [tool["name"] for tool in document["tools"]]


def offering(*names: str) -> PlainConnector:
    """A backend with tools."""
    return PlainConnector(tools_list=listed("tools", *names))


def _let_ask(gateway: Gateway, name: str) -> None:
    """Have the last check of a backend be long ago."""
    gateway.backends[name].watch.rounds.began_at = float("-inf")


# The first list


async def test_the_first_list_waits_for_every_backend_to_answer() -> None:
    fast, slow = offering("a"), offering("b")
    slow.gate.clear()
    async with running(fast=fast, slow=slow) as gateway:
        listing = asyncio.create_task(tools(gateway))
        # More than the time that a list was ever given without the slow one.
        await asyncio.wait([listing], timeout=0.6)
        assert not listing.done()
        slow.gate.set()
        assert await listing == ["a", "b"]


async def test_a_backend_that_fails_immediately_does_not_delay_the_first_list() -> None:
    good, bad = offering("a"), offering("b")
    bad.error = Unreachable("connection refused")
    async with running(good=good, bad=bad) as gateway:
        assert await tools(gateway) == ["a"]
        assert gateway.aggregate.first_round_over


async def test_a_backend_must_start_within_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpproxy.proxy.upstream.backend.START_TIME", 0.0)
    monkeypatch.setattr(rounds_module, "REFRESH_WAIT", 0.0)
    good, hung = offering("a"), offering("b")
    hung.gate.clear()
    async with running(good=good, hung=hung) as gateway:
        await turns()
        assert await tools(gateway) == ["a"]
        told: list[str] = []
        gateway.subscribe(told.append)
        hung.gate.set()
        await turns()
        assert told == ["notifications/tools/list_changed"]
        assert await tools(gateway) == ["a", "b"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_initialize_does_not_wait_for_a_hung_backend(
    monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    for module in (requests, modern_requests):
        monkeypatch.setattr(module, "INITIALIZE_WAIT", 0.0, raising=False)
    hung = offering("b")
    hung.gate.clear()
    async with running(hung=hung) as gateway:
        if era == "legacy":
            greeting = requests.initialize(gateway, ClientIdentity(LATEST_LEGACY))
        else:
            greeting = modern_requests.server_discover(gateway)
        task = asyncio.create_task(greeting)
        await turns(50)
        assert task.done()
        offered = jsonrpc.decode(task.result())["capabilities"]
        assert {"tools", "prompts", "resources", "logging", "completions"} <= offered.keys()


async def test_a_call_waits_for_the_backend_of_its_tool_alone() -> None:
    fast, hung = offering("a"), offering("b")
    hung.gate.clear()
    async with running(fast=fast, hung=hung) as gateway:
        ours = {"name": jsonrpc.encode_raw("a")}
        async with asyncio.timeout(5):
            await gateway.routing.wait_for_route("tools/call", ours)
        other = asyncio.create_task(
            gateway.routing.wait_for_route("tools/call", {"name": jsonrpc.encode_raw("b")})
        )
        await turns(50)
        assert not other.done()
        hung.gate.set()
        await other


# Never empty by failure


@pytest.mark.parametrize("modern_era", [False, True])
async def test_a_list_of_backends_that_all_failed_is_an_error_that_names_them(
    modern_era: bool,
) -> None:
    item, two = offering("a"), offering("b")
    item.error, two.error = Unreachable("connection refused"), Unreachable("no such host")
    async with running(one=item, two=two) as gateway:
        with pytest.raises(RpcError) as caught:
            await gateway.aggregate.listing(TOOLS, None, modern=modern_era)
        assert caught.value.code == jsonrpc.UNAVAILABLE
        text = caught.value.message
        assert "backend one: connection refused" in text
        assert "backend two: no such host" in text
        assert caught.value.data == {"backends": ["one", "two"]}


async def test_a_list_contains_the_components_of_working_backends() -> None:
    good, bad = offering("a"), offering("b")
    bad.error = Unreachable("connection refused")
    async with running(good=good, bad=bad) as gateway:
        assert await tools(gateway) == ["a"]
        with pytest.raises(RpcError, match="backend bad: connection refused"):
            await gateway.aggregate.listing(PROMPTS, None, modern=False)


async def test_a_kind_that_no_backend_offers_is_an_empty_list() -> None:
    async with running(good=offering("a")) as gateway:
        result = await gateway.aggregate.listing(PROMPTS, None, modern=False)
        assert jsonrpc.decode(result) == {"prompts": []}


async def test_a_list_that_fails_alone_is_an_error_and_others_are_not() -> None:
    refusal = {"error": {"code": -32603, "message": "database is locked"}}
    backend = PlainConnector(ALL, tools_list=listed("tools", "a"), prompts_list=refusal)
    async with running(b=backend) as gateway:
        assert await tools(gateway) == ["a"]
        with pytest.raises(RpcError, match="database is locked"):
            await gateway.aggregate.listing(PROMPTS, None, modern=False)


async def test_a_backend_that_answers_429_from_the_start_makes_no_empty_list() -> None:
    backend = offering("a")
    backend.error = RateLimited("the backend responded with HTTP 429")
    async with running(b=backend) as gateway:
        with pytest.raises(RpcError, match="backend b: HTTP 429"):
            await tools(gateway)


async def test_an_explicit_list_requests_the_list_of_a_recovered_backend_at_once() -> None:
    backend = offering("a")
    backend.error = Unreachable("connection refused")
    async with running(b=backend) as gateway:
        await gateway.aggregate.settled()
        backend.error = None
        _let_ask(gateway, "b")
        assert await tools(gateway) == ["a"]


async def test_list_requests_of_many_clients_reach_a_failed_backend_once_a_second() -> None:
    backend = offering("a")
    backend.error = Unreachable("connection refused")
    async with running(b=backend) as gateway:
        await gateway.aggregate.settled()
        opened = backend.opened
        _let_ask(gateway, "b")
        for _ in range(20):
            with pytest.raises(RpcError):
                await tools(gateway)
        assert backend.opened == opened + 1


async def test_a_backend_that_is_known_to_hang_is_not_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcpproxy.proxy.upstream.backend.START_TIME", 0.0)
    monkeypatch.setattr(rounds_module, "REFRESH_WAIT", 3600.0)
    good, hung = offering("a"), offering("b")
    hung.gate.clear()
    async with running(good=good, hung=hung) as gateway:
        await soon(lambda: gateway.catalog.get("good", TOOLS), "the tools")
        _let_ask(gateway, "hung")
        async with asyncio.timeout(10):
            assert await tools(gateway) == ["a"]


# The newest


async def test_an_explicit_list_is_awaited_as_long_as_lists_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcpproxy.proxy.upstream.monitor.list_cache.MIN_REFRESH_AGE", 0.0)
    backend = offering("old")
    async with running(b=backend) as gateway:
        assert await tools(gateway) == ["old"]
        gate = asyncio.Event()
        backend.answers["tools/list"] = gate
        backend.answers["tools/list later"] = listed("tools", "new")
        listing = asyncio.create_task(tools(gateway))
        # Longer than a list was waited for that used to come at once.
        await asyncio.wait([listing], timeout=0.6)
        assert not listing.done()
        gate.set()
        assert await listing == ["new"]


async def test_the_ttl_of_a_list_never_exceeds_that_of_the_backend() -> None:
    backend = offering()
    backend.answers["tools/list"] = {
        "result": {"tools": [{"name": "a"}], "ttlMs": 5000, "cacheScope": "public"}
    }
    async with running(b=backend) as gateway:
        document: Any = jsonrpc.decode(await gateway.aggregate.listing(TOOLS, None, modern=True))
        assert 0 < document["ttlMs"] <= 5000


@pytest.mark.parametrize("ttl", [0, 5000])
async def test_the_time_that_a_list_takes_counts_as_its_age(
    monkeypatch: pytest.MonkeyPatch, ttl: int
) -> None:
    monkeypatch.setattr("mcpproxy.proxy.upstream.monitor.list_cache.MIN_REFRESH_AGE", 0.0)
    backend = offering("old")
    async with running(b=backend) as gateway:
        assert await tools(gateway) == ["old"]
        gate, asked = asyncio.Event(), asyncio.Event()
        backend.on_request = lambda method: asked.set()
        backend.answers["tools/list"] = gate
        backend.answers["tools/list later"] = {
            "result": {"tools": [{"name": "new"}], "ttlMs": ttl, "cacheScope": "public"}
        }
        listing = asyncio.create_task(gateway.aggregate.listing(TOOLS, None, modern=True))
        await asked.wait()
        await asyncio.wait([listing], timeout=0.1)
        gate.set()
        document: Any = jsonrpc.decode(await listing)
        assert [tool["name"] for tool in document["tools"]] == ["new"]
        assert document["ttlMs"] <= max(ttl - 90, 0)


async def test_a_list_without_a_failed_backend_must_not_be_cached() -> None:
    good, bad = offering(), offering("b")
    good.answers["tools/list"] = {
        "result": {"tools": [{"name": "a"}], "ttlMs": 5000, "cacheScope": "public"}
    }
    bad.error = Unreachable("connection refused")
    async with running(good=good, bad=bad) as gateway:
        document: Any = jsonrpc.decode(await gateway.aggregate.listing(TOOLS, None, modern=True))
        assert document["ttlMs"] == 0


def test_a_list_may_take_ten_seconds() -> None:
    waits = list_waits.ListWait(ttl=0.0)
    waits.came(TOOLS, 10.0)
    assert waits.seconds(TOOLS) >= 2 * 10.0
