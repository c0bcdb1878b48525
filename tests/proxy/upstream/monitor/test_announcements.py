"""Announced changes: fetched once, at a limited rate, and forwarded if they are real."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.api.defaults import default_settings
from mcpproxy.limits.backends import OWN_REQUESTS
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.protocol.kinds import TOOLS, ComponentKind
from mcpproxy.proxy.upstream.context import BackendEvents
from mcpproxy.proxy.upstream.monitor import list_waits
from tests.proxy.upstream.plain import PlainConnector, PlainLink, list_cache, listed, turns


class Stage:
    """The lists of a backend that announces changes."""

    def __init__(self) -> None:
        self.backend = PlainConnector(tools_list=listed("tools", "old"))
        settings = replace(default_settings(), cache_ttl=300.0)
        self.catalog = Catalog()
        events = BackendEvents()
        self.lists = list_cache(settings, self.catalog, events)
        self.lists.use(PlainLink(self.backend))
        self.changes: list[ComponentKind] = []
        events.list_change.subscribe(lambda kinds, session: self.changes.extend(kinds))

    def gate(self, then: Any) -> asyncio.Event:
        """Make list requests wait for an event; later ones receive `then`."""
        event = asyncio.Event()
        self.backend.answers["tools/list"] = event
        self.backend.answers["tools/list later"] = then
        return event

    @property
    def asked(self) -> int:
        """Number of `tools/list` requests."""
        return self.backend.asked.count("tools/list")

    @property
    def shown(self) -> list[str]:
        """Names of the tools in the catalog."""
        listing = self.catalog.get("b", TOOLS)
        return [] if listing is None else list(listing.names)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetches without a pause between them."""
    monkeypatch.setattr(list_waits, "APART", 0.0)


async def test_requests_to_a_backend_that_announces_a_change_at_every_list_are_paced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_waits, "APART", 0.0, raising=False)
    stage, reached = Stage(), OWN_REQUESTS.reached
    stage.backend.on_request = lambda method: stage.lists.announced(TOOLS)
    stage.lists.announced(TOOLS)
    await turns(2000)
    assert stage.asked == OWN_REQUESTS.value
    assert OWN_REQUESTS.reached > reached
    stage.lists.stop()


async def test_two_fetches_that_are_announced_have_a_second_between_them() -> None:
    stage = Stage()
    stage.lists.announced(TOOLS)
    await turns()
    stage.lists.announced(TOOLS)
    await turns()
    assert stage.asked == 1
    stage.lists.stop()


async def test_announcements_cancel_no_list_and_are_followed_by_one_more(at_once: None) -> None:
    stage = Stage()
    gate = stage.gate(listed("tools", "new"))
    for _ in range(10):
        stage.lists.announced(TOOLS)
        await turns(20)
    assert stage.asked == 1
    gate.set()
    await turns()
    assert stage.shown == ["new"]
    assert stage.asked == 2


async def test_a_list_slower_than_the_announcements_still_completes(
    at_once: None,
) -> None:
    stage = Stage()
    gate = stage.gate(listed("tools", "new"))
    stage.lists.announced(TOOLS)
    await turns(20)
    gate.set()
    stage.lists.announced(TOOLS)
    await turns()
    assert (stage.shown, stage.changes) == (["new"], [TOOLS])


@pytest.mark.parametrize("late", [listed("tools", "older"), Unreachable("late")], ids=str)
async def test_a_response_that_a_later_one_has_overtaken_changes_nothing(late: Any) -> None:
    stage = Stage()
    link, gate = PlainLink(stage.backend), stage.gate(late)
    stage.lists.use(link)
    first = asyncio.create_task(stage.lists.fetch_all(link))
    await turns(20)
    stage.backend.answers["tools/list"] = listed("tools", "new")
    await stage.lists.refresh(TOOLS)
    gate.set()
    await first
    assert stage.shown == ["new"]
    assert not stage.lists.failures


async def test_an_announcement_without_a_change_is_not_forwarded() -> None:
    stage = Stage()
    await stage.lists.refresh(TOOLS)
    stage.changes.clear()
    stage.lists._flights[TOOLS]._began = float("-inf")
    stage.lists.announced(TOOLS)
    await turns()
    assert (stage.asked, stage.changes) == (2, [])
    stage.backend.answers["tools/list"] = listed("tools", "old", "new")
    stage.lists._flights[TOOLS]._began = float("-inf")
    stage.lists.announced(TOOLS)
    await turns()
    assert (stage.asked, stage.changes) == (3, [TOOLS])


async def test_a_client_that_lists_after_an_announcement_gets_the_newest_at_once() -> None:
    stage = Stage()
    await stage.lists.refresh(TOOLS)
    stage.backend.answers["tools/list"] = listed("tools", "new")
    stage.lists.announced(TOOLS)
    assert stage.lists.is_stale(TOOLS, asyncio.get_running_loop().time())
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["new"]
    stage.lists.stop()


# Pages


def _paged(stage: Stage, pages: dict[Any, dict[str, Any]]) -> None:
    stage.backend.answers["tools/list"] = pages.__getitem__


async def test_a_next_page_without_a_name_that_repeats_the_first_is_shown_once() -> None:
    stage = Stage()
    page = listed("tools", "a", "b", nextCursor="")
    _paged(stage, {None: page, "": page})
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["a", "b"]
    assert stage.asked == 2


async def test_a_next_page_without_a_name_that_is_refused_ends_the_list() -> None:
    stage = Stage()
    error = {"error": {"code": -32602, "message": "invalid cursor"}}
    _paged(stage, {None: listed("tools", "a", nextCursor=""), "": error})
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["a"]
    assert not stage.lists.failures


async def test_a_repeated_cursor_does_not_repeat_items() -> None:
    stage = Stage()
    page = listed("tools", "a", "b", nextCursor="x")
    _paged(stage, {None: page, "x": page})
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["a", "b"]
    assert stage.asked == 2


async def test_cursors_without_an_end_are_not_followed_once_pages_repeat() -> None:
    stage, number = Stage(), iter(range(10**6))
    stage.backend.answers["tools/list"] = lambda cursor: listed(
        "tools", "a", "b", nextCursor=str(next(number))
    )
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["a", "b"]
    assert stage.asked == 2


async def test_an_empty_page_ends_no_list() -> None:
    stage = Stage()
    _paged(
        stage,
        {
            None: listed("tools", "a", nextCursor="1"),
            "1": listed("tools", nextCursor="2"),
            "2": listed("tools", "b"),
        },
    )
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["a", "b"]


async def test_an_ambiguous_name_is_listed_once_and_noted() -> None:
    stage = Stage()
    tools = [{"name": "a", "title": "1"}, {"name": "a", "title": "2"}, {"name": "b"}]
    stage.backend.answers["tools/list"] = {"result": {"tools": tools}}
    await stage.lists.refresh(TOOLS)
    assert stage.shown == ["a", "b"]
    assert stage.catalog.clashes() == ["tools: a appears twice in backend b"]
