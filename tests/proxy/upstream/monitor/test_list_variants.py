"""List variants for clients with capabilities: fetched once, in time, or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings, default_settings
from mcpproxy.limits.backends import CALLER_LISTS, LIST_VARIANT_BYTES, LIST_VARIANTS
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.errors import SessionNotFound, Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS, PROMPTS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.context import BackendEvents
from mcpproxy.proxy.upstream.monitor import list_variants as module
from mcpproxy.proxy.upstream.monitor import list_waits, request_pace
from mcpproxy.proxy.upstream.monitor.list_variants import VariantLists
from mcpproxy.proxy.upstream.transports.session import (
    ServerDescription,
    UpstreamRequest,
    UpstreamSession,
)
from tests.proxy.runtime.waiting import soon

SAMPLING = b'{"sampling":{}}'
ANN = ClientIdentity("2025-11-25", SAMPLING, None, "ann", "")
OFFERED: Message = {"capabilities": Raw(b'{"tools":{},"prompts":{}}')}


def _impatient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for target in (module, list_waits):
        monkeypatch.setattr(target, "REFRESH_WAIT", seconds)


class Stage:
    """A backend whose sessions return the lists that a test sets."""

    def __init__(self, **changed_settings: Any) -> None:
        self.tools = ["a"]
        self.error: Exception | None = None
        self.refusal: dict[str, Any] | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.looked: list[ClientIdentity] = []
        self.open = 0
        self.widest = 0
        self.server = ServerDescription("2025-11-25", OFFERED)
        self.on_request: Callable[[], None] = lambda: None
        self.catalog = Catalog()
        settings: BackendSettings = replace(default_settings(), **changed_settings)
        events = BackendEvents()
        self.tailored = VariantLists("b", settings, self.catalog, self, events, self._failed)
        self.changes: list[ComponentKind] = []
        self.failures = 0
        events.list_change.subscribe(lambda kinds, session: self.changes.extend(kinds))

    def context_of(self, client: ClientIdentity) -> CallContext:
        return NullContext(client)

    def _failed(self) -> None:
        self.failures += 1

    @asynccontextmanager
    async def for_lists(self, client: ClientIdentity) -> AsyncIterator[UpstreamSession]:
        self.looked.append(client)
        self.open += 1
        self.widest = max(self.widest, self.open)
        try:
            await self.gate.wait()
            session: Any = self
            yield session
        finally:
            self.open -= 1

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        self.asked.append(outgoing.method)
        self.on_request()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if self.refusal is not None:
            return {"error": jsonrpc.encode_raw(self.refusal)}
        member = outgoing.method.partition("/")[0]
        return {"result": jsonrpc.encode_raw({member: [{"name": name} for name in self.tools]})}

    def shown(self, seen: bytes = SAMPLING, kind: ComponentKind = TOOLS) -> list[str] | None:
        """Names in the catalog for clients with these capabilities."""
        variant = self.catalog.get("b", kind, seen)
        return None if variant is None else [json.loads(item)["name"] for item in variant.items]

    def old(self, kind: ComponentKind = TOOLS, seen: bytes = SAMPLING) -> bool:
        """True if a list request would be fetched first."""
        return self.tailored.is_stale(kind, seen, asyncio.get_running_loop().time())

    def silent(self, kind: ComponentKind = TOOLS) -> bool:
        """True if no fetch would follow because the last one failed."""
        return self.tailored.in_backoff(kind, SAMPLING, asyncio.get_running_loop().time())


async def test_the_first_list_is_fetched_by_a_session_that_declares_the_same() -> None:
    stage = Stage()
    assert stage.old()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.shown() == ["a"]
    assert [client.capabilities for client in stage.looked] == [SAMPLING]
    assert not stage.old()
    assert stage.old(PROMPTS)
    assert stage.old(TOOLS, b'{"roots":{}}')
    assert stage.changes == []


async def test_simultaneous_requests_for_a_list_share_one_fetch() -> None:
    stage = Stage()
    bo = replace(ANN, principal="bo")
    await asyncio.gather(
        *(stage.tailored.refresh(TOOLS, who, who.capabilities) for who in [ANN, bo] * 10)
    )
    assert stage.asked == ["tools/list"]


async def test_lists_of_all_kinds_at_once_need_one_session() -> None:
    stage = Stage()
    await asyncio.gather(*(stage.tailored.refresh(kind, ANN, ANN.capabilities) for kind in KINDS))
    assert stage.widest == 1
    assert stage.shown() == stage.shown(kind=PROMPTS) == ["a"]
    assert stage.shown(kind=KINDS[2]) == []
    assert stage.asked == ["tools/list", "prompts/list"]


async def test_a_late_list_that_differs_is_announced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _impatient(monkeypatch, 0.0)
    stage = Stage()
    stage.gate.clear()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.shown() is None
    _impatient(monkeypatch, 5.0)
    again = asyncio.create_task(stage.tailored.refresh(TOOLS, ANN, ANN.capabilities))
    stage.gate.set()
    await again
    assert stage.changes == [TOOLS]
    assert len(stage.looked) == 1


async def test_the_first_list_has_the_time_that_opening_a_session_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _impatient(monkeypatch, 0.0)
    stage = Stage()
    stage.tailored.record_opening(30.0)
    stage.gate.clear()
    waiting = asyncio.create_task(stage.tailored.refresh(TOOLS, ANN, ANN.capabilities))
    await soon(lambda: stage.looked, "a session")
    stage.gate.set()
    await waiting
    assert stage.shown() == ["a"]


async def test_a_request_for_a_known_list_waits_up_to_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(cache_ttl=3600.0)
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    _impatient(monkeypatch, 0.0)
    stage.tailored.record_opening(30.0)
    stage.gate.clear()
    async with asyncio.timeout(2):
        await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.shown() == ["a"]
    stage.tailored.withdraw()


async def test_a_list_that_changed_in_the_meantime_is_announced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MIN_REFRESH_AGE", 0.0)
    stage = Stage()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    stage.tools = ["a", "b"]
    assert stage.old()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.shown() == ["a", "b"]
    assert stage.changes == [TOOLS]


async def test_an_announced_list_is_fetched_again_for_the_next_client() -> None:
    stage = Stage()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    await stage.tailored.refresh(PROMPTS, ANN, ANN.capabilities)
    assert not stage.old()
    stage.tailored.announced(TOOLS)
    assert stage.old()
    assert not stage.old(PROMPTS)
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert not stage.old()


async def test_a_change_during_a_fetch_is_included_in_the_list() -> None:
    stage = Stage()

    def change() -> None:
        if stage.tools == ["a"]:
            # Not before the response, which is still the earlier list.
            asyncio.get_running_loop().call_soon(stage.tools.append, "new")
            stage.tailored.announced(TOOLS)

    stage.on_request = change
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.shown() == ["a", "new"]
    assert not stage.old()


async def test_announcements_at_every_list_cause_a_bounded_number_of_requests() -> None:
    stage = Stage()
    stage.on_request = lambda: stage.tailored.announced(TOOLS)
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert len(stage.asked) == module.MAX_ROUNDS
    assert stage.shown() == ["a"]
    assert stage.old()


async def test_after_a_failure_requests_pause_and_the_previous_list_stays() -> None:
    stage = Stage()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert not stage.silent()
    stage.error = Unreachable("gone")
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.failures == 1
    assert stage.silent()
    assert stage.silent(PROMPTS)
    later = asyncio.get_running_loop().time() + module.SILENCE + 1
    assert not stage.tailored.in_backoff(TOOLS, SAMPLING, later)
    assert stage.shown() == ["a"]
    assert stage.changes == []


async def test_an_error_in_the_answer_concerns_only_that_list() -> None:
    stage = Stage()
    stage.refusal = {"code": -32603, "message": "broken"}
    await stage.tailored.refresh(PROMPTS, ANN, ANN.capabilities)
    assert stage.silent(PROMPTS)
    assert not stage.silent(TOOLS)


async def test_a_hung_backend_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    _impatient(monkeypatch, 5.0)
    stage = Stage(deadlines=replace(default_settings().deadlines, connect=0.0, initialize=0.01))
    stage.gate.clear()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.silent()
    assert stage.open == 0
    assert stage.shown() is None


async def test_a_session_that_ended_while_it_waited_is_replaced_once() -> None:
    stage = Stage()

    def recover() -> None:
        stage.error = None if len(stage.asked) > 1 else SessionNotFound("gone")

    stage.on_request = recover
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    assert stage.shown() == ["a"]
    assert len(stage.looked) == 2
    assert stage.failures == 0


async def test_the_number_of_views_is_bounded_and_the_oldest_goes() -> None:
    stage = Stage()
    sets = [b'{"experimental":{"n":%d}}' % number for number in range(LIST_VARIANTS.value + 1)]
    for seen in sets[:-1]:
        await stage.tailored.refresh(TOOLS, replace(ANN, capabilities=seen), seen)
    await stage.tailored.refresh(TOOLS, replace(ANN, capabilities=sets[0]), sets[0])
    await stage.tailored.refresh(TOOLS, replace(ANN, capabilities=sets[-1]), sets[-1])
    assert [seen for seen in sets if stage.shown(seen) is None] == [sets[1]]
    assert len(stage.catalog.known("b", TOOLS)) == LIST_VARIANTS.value


async def test_lists_of_many_callers_are_bounded_and_the_oldest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        module, "CALLER_LISTS", replace(CALLER_LISTS, value=LIST_VARIANTS.value + 5)
    )
    stage = Stage(for_callers=True)
    keys = [b"principal %d" % number for number in range(LIST_VARIANTS.value + 6)]
    for key in keys:
        await stage.tailored.refresh(TOOLS, ANN, key)
    assert [key for key in keys if stage.shown(key) is None] == [keys[0]]


async def test_lists_for_kinds_of_clients_are_dropped_when_they_are_too_large_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, reached = Stage(), LIST_VARIANT_BYTES.reached
    sets = [b'{"experimental":{"n":%d}}' % number for number in range(4)]
    size = len(b'{"name":"a"}')
    smaller = replace(LIST_VARIANT_BYTES, value=2 * size)
    monkeypatch.setattr(module, "LIST_VARIANT_BYTES", smaller)
    for seen in sets:
        await stage.tailored.refresh(TOOLS, replace(ANN, capabilities=seen), seen)
    assert [stage.shown(seen) for seen in sets] == [None, None, ["a"], ["a"]]
    assert LIST_VARIANT_BYTES.reached == reached + 2
    # A list that exceeds the limit alone is shown, without others.
    stage.tools = ["b" * size * 3]
    await stage.tailored.refresh(TOOLS, replace(ANN, capabilities=sets[0]), sets[0])
    assert [stage.shown(seen) for seen in sets] == [stage.tools, None, None, None]


async def test_withdrawing_hides_all_lists_and_cancels_requests_in_progress() -> None:
    stage = Stage()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    stage.gate.clear()
    waiting = asyncio.create_task(stage.tailored.refresh(PROMPTS, ANN, ANN.capabilities))
    await soon(lambda: stage.open, "a session")
    assert stage.tailored.withdraw() == {TOOLS}
    await waiting
    assert stage.shown() is None
    assert stage.open == 0
    assert stage.tailored.withdraw() == set()


async def test_a_changed_list_variant_is_announced_to_its_clients_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_pace, "REFILL", 1000.0)
    stage = Stage()
    stage.catalog.put("b", TOOLS, ComponentList((b'{"name":"x"}',), ("x",)))
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    stage.tailored._views[SAMPLING].flights[TOOLS]._began = float("-inf")
    stage.tailored.announced(TOOLS)
    await soon(lambda: len(stage.asked) == 2, "the list")
    assert stage.changes == []
    stage.tools = ["a", "b"]
    stage.tailored._views[SAMPLING].flights[TOOLS]._began = float("-inf")
    stage.tailored.announced(TOOLS)
    await soon(lambda: stage.changes, "the change")
    assert stage.shown() == ["a", "b"]
    stage.tailored.withdraw()


async def test_an_announced_list_variant_equal_to_the_common_list_is_not_requested() -> None:
    stage = Stage()
    stage.catalog.put("b", TOOLS, ComponentList((b'{"name":"a"}',), ("a",)))
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    stage.tailored.announced(TOOLS)
    for _ in range(50):
        await asyncio.sleep(0)
    assert stage.asked == ["tools/list"]
    assert stage.old(), "a client that asks gets the newest"


async def test_an_announced_list_variant_whose_request_failed_is_requested_again() -> None:
    stage = Stage()
    await stage.tailored.refresh(TOOLS, ANN, ANN.capabilities)
    stage.tailored._views[SAMPLING].flights[TOOLS]._began = float("-inf")
    stage.error = Unreachable("gone")
    stage.tailored.announced(TOOLS)
    await soon(lambda: stage.failures, "the failure")
    assert stage.old(), "the backend has announced a change"
    stage.error, stage.tools = None, ["a", "b"]
    now = asyncio.get_running_loop().time()
    stage.tailored.retry_announced(now)
    stage.tailored._views[SAMPLING].flights[TOOLS]._began = float("-inf")
    assert stage.asked == ["tools/list"] * 2, "the backend gets no request for a while"
    stage.tailored.retry_announced(now + module.SILENCE + 1)
    await soon(lambda: stage.changes, "the change")
    assert stage.shown() == ["a", "b"]
    stage.tailored.retry_announced(now + 2 * module.SILENCE)
    assert len(stage.asked) == 3
    stage.tailored.withdraw()
