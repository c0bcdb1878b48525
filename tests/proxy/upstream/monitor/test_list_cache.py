"""The lists of one backend: which requests wait for them, and how long."""

import asyncio
from dataclasses import replace

import pytest
from msgspec import Raw

from mcpproxy.api.defaults import default_settings
from mcpproxy.limits.backends import LIST_WAIT
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import PROMPTS, TOOLS
from mcpproxy.proxy.upstream.context import BackendEvents
from mcpproxy.proxy.upstream.monitor import list_waits
from mcpproxy.proxy.upstream.monitor.list_waits import REFRESH_WAIT, ListWait
from mcpproxy.proxy.upstream.transports.session import ServerDescription, UpstreamRequest
from tests.proxy.upstream.plain import list_cache
from tests.proxy.upstream.stage import ANN, FakeLink, settled


class SlowLink(FakeLink):
    """Returns the tools of the moment of the request, once the gate is open."""

    def __init__(self) -> None:
        super().__init__(ANN)
        self.server = ServerDescription("2025-11-25", {"capabilities": Raw(b'{"tools":{}}')})
        self.tools = ["old"]
        self.gate = asyncio.Event()
        self.asking = asyncio.Event()
        self.asked = 0

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        self.asked += 1
        self.asking.set()
        tools = [{"name": name} for name in self.tools]
        await self.gate.wait()
        return {"result": jsonrpc.encode_raw({"tools": tools})}


class Stage:
    """The lists of a backend behind a slow session."""

    def __init__(self, cache_ttl: float) -> None:
        self.link = SlowLink()
        self.catalog = Catalog()
        settings = replace(default_settings(), cache_ttl=cache_ttl)
        self.lists = list_cache(settings, self.catalog, BackendEvents())
        self.lists.use(self.link)

    async def listed(self) -> list[str]:
        """The tools that a client receives."""
        await self.lists.refresh(TOOLS)
        return self.shown

    @property
    def shown(self) -> list[str]:
        """Names of the tools in the catalog."""
        listing = self.catalog.get("b", TOOLS)
        return [] if listing is None else list(listing.names)


async def test_without_a_cache_a_list_is_the_newest_of_a_backend_that_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_waits, "REFRESH_WAIT", 0.0)
    stage = Stage(cache_ttl=0.0)
    stage.link.tools = ["new"]
    listing = asyncio.create_task(stage.listed())
    await stage.link.asking.wait()
    stage.link.gate.set()
    assert await listing == ["new"]


async def test_without_a_cache_no_client_gets_an_outdated_list() -> None:
    stage = Stage(cache_ttl=0.0)
    before = asyncio.create_task(stage.listed())
    await stage.link.asking.wait()
    stage.link.tools = ["new"]
    after = [asyncio.create_task(stage.listed()) for _ in range(10)]
    await settled()
    stage.link.gate.set()
    await before
    assert await asyncio.gather(*after) == [["new"]] * 10
    assert stage.link.asked == 2, "those who ask at the same time share one request"


async def test_with_a_cache_concurrent_requests_for_a_list_share_one() -> None:
    stage = Stage(cache_ttl=300.0)
    listings = [asyncio.create_task(stage.listed()) for _ in range(10)]
    await stage.link.asking.wait()
    listings += [asyncio.create_task(stage.listed()) for _ in range(10)]
    await settled()
    stage.link.gate.set()
    assert await asyncio.gather(*listings) == [["old"]] * 20
    assert stage.link.asked == 1


async def test_a_list_announced_during_a_wait_is_awaited() -> None:
    stage = Stage(cache_ttl=0.0)
    listing = asyncio.create_task(stage.listed())
    await stage.link.asking.wait()
    stage.link.tools = ["new"]
    stage.lists.announced(TOOLS)
    await settled()
    assert not listing.done()
    stage.link.gate.set()
    assert await listing == ["new"]


@pytest.mark.parametrize("cache_ttl", [0.0, 300.0])
async def test_a_list_waits_for_a_hung_backend_up_to_the_limit_even_without_a_cache(
    cache_ttl: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = replace(LIST_WAIT, value=0, _reached=[0])
    monkeypatch.setattr(list_waits, "LIST_WAIT", limit)
    stage = Stage(cache_ttl)
    assert await stage.listed() == []
    assert limit.reached == 1
    stage.lists.stop()
    await settled()


def test_a_list_waits_as_long_as_lists_of_this_backend_usually_take() -> None:
    waits = ListWait(ttl=300.0)
    assert waits.seconds(TOOLS) == REFRESH_WAIT
    waits.came(TOOLS, 1.4)
    assert waits.seconds(TOOLS) == 2 * 1.4
    assert waits.seconds(PROMPTS) == REFRESH_WAIT
    waits.came(TOOLS, 60.0)
    assert waits.seconds(TOOLS) == LIST_WAIT.value


def test_later_lists_do_not_wait_for_a_backend_that_timed_out() -> None:
    waits = ListWait(ttl=300.0)
    waits.came(TOOLS, 2.0)
    waits.missed(TOOLS)
    assert waits.seconds(TOOLS) == 0
    waits.came(TOOLS, 2.0)
    assert waits.seconds(TOOLS) == 2 * 2.0


def test_a_backend_that_answers_with_an_error_is_awaited_again() -> None:
    waits = ListWait(ttl=300.0)
    waits.missed(TOOLS)
    waits.failed(TOOLS)
    assert waits.seconds(TOOLS) == REFRESH_WAIT


@pytest.mark.parametrize("ttl", [0.0, 300.0])
def test_a_list_that_takes_up_to_ten_seconds_is_awaited(ttl: float) -> None:
    waits = ListWait(ttl)
    for took in (0.3, 1.0, 4.0, 10.0):
        waits.came(TOOLS, took)
        assert waits.seconds(TOOLS) >= max(2 * took, 2.0)
