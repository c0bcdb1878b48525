"""The monitor of a backend: its requests, and its reports about lists that fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcpproxy.limits.backends import RETRY_PAUSE
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    RateLimited,
    SessionNotFound,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol.kinds import KINDS, PROMPTS, TEMPLATES, TOOLS
from mcpproxy.proxy.upstream.monitor import request_pace
from mcpproxy.proxy.upstream.monitor.monitor import BackendMonitor
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.plain import ALL, PlainConnector, gateway_of, listed, refused, turns

BREAKS = [
    Unauthorized("no"),
    RateLimited("no"),
    Unreachable("no"),
    ProtocolError("no"),
    SessionNotFound("no"),
]


@asynccontextmanager
async def watched(connector: PlainConnector) -> AsyncIterator[BackendMonitor]:
    """The running monitor of one backend."""
    async with running(b=connector) as gateway:
        yield gateway.backends["b"].watch


@asynccontextmanager
async def running(**connectors: PlainConnector) -> AsyncIterator[Gateway]:
    """A running gateway."""
    gateway = gateway_of(**connectors)
    gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()


def names(gateway: Gateway, kind: Any = TOOLS) -> list[str]:
    """Names in the list of a kind."""
    listing = gateway.catalog.get("b", kind)
    return [] if listing is None else list(listing.names)


# Failures of the monitor's own requests


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
async def test_a_change_stream_that_fails_immediately_is_restarted_after_a_pause(
    error: BackendError,
) -> None:
    connector = PlainConnector(tools_list=listed("tools", "a"))
    connector.breaks = error
    async with watched(connector) as watch:
        await turns()
        assert watch.finding.state == "Healthy"
        assert (connector.listens, connector.asked.count("ping")) == (1, 0)


async def test_a_program_that_ends_at_once_is_not_started_again_at_once() -> None:
    connector = PlainConnector(tools_list=listed("tools", "a"))
    connector.breaks, connector.ends = Unreachable("it ended with status 1"), True
    async with watched(connector):
        await turns()
        assert connector.opened == 1


async def test_a_change_stream_that_has_worked_is_restarted_immediately(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_pace, "BRIEF", 0.0)
    monkeypatch.setattr("mcpproxy.proxy.upstream.monitor.check_schedule.APART", 0.0)
    connector = PlainConnector(tools_list=listed("tools", "a"))
    connector.breaks = Unreachable("gone")
    async with watched(connector) as watch:
        await soon(lambda: connector.listens == 2, "another stream")
        assert connector.asked.count("ping") == 1
        assert watch.finding.state == "Healthy"


async def test_the_state_reports_a_broken_change_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcpproxy.proxy.upstream.monitor.change_stream.STREAM_PAUSE", 1e-6)
    monkeypatch.setattr("mcpproxy.proxy.upstream.monitor.check_schedule.APART", 0.0)
    connector = PlainConnector(tools_list=listed("tools", "a"))
    connector.breaks = Unreachable("the backend responded with HTTP 503")
    async with watched(connector) as watch:
        await soon(lambda: watch.finding.state == "Healthy" and watch.finding.reason, "a reason")
        assert (watch.finding.state, watch.finding.reason) == ("Healthy", "ChangeStreamFailed")
        assert "the backend responded with HTTP 503" in (watch.finding.message or "")
        assert connector.asked.count("ping") == 0, "the stream alone is begun again"


def test_the_pause_between_attempts_grows_up_to_its_limit() -> None:
    backoff, reached = request_pace.StreamBackoff(2.0), RETRY_PAUSE.reached
    pauses = [backoff.failed(lived=0.0) for _ in range(12)]
    for number, pause in enumerate(pauses):
        usual = min(2.0 * 2**number, RETRY_PAUSE.value)
        assert 0.8 * usual <= pause <= 1.2 * usual
    assert RETRY_PAUSE.reached > reached
    assert backoff.failed(lived=request_pace.STEADY) == 0.0
    assert backoff.failed(lived=0.0) <= 1.2 * 4.0


# Lists that fail


@pytest.mark.parametrize(
    "answer",
    [
        refused(),
        refused(-32602),
        refused(-32000),
        ProtocolError("the backend responded with HTTP 400 without a JSON-RPC response"),
        SessionNotFound("the session no longer exists"),
        Unreachable("the backend responded with HTTP 500"),
        {"result": None},
        {"result": {"resourceTemplates": None}},
        {"result": {"resourceTemplates": {}}},
    ],
    ids=repr,
)
async def test_a_failed_list_does_not_hide_other_lists(answer: Any) -> None:
    connector = PlainConnector(ALL, tools_list=listed("tools", "a"))
    connector.answers["resources/list"] = listed("resources", "x:1")
    connector.answers["resources/templates/list"] = answer
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        watch = gateway.backends["b"].watch
        assert (watch.finding.state, watch.finding.reason) == ("Healthy", "ListFailed")
        assert names(gateway) == ["a"]
        assert watch.known


async def test_the_state_has_the_words_of_the_backend_about_a_list_that_fails() -> None:
    connector = PlainConnector(ALL, tools_list=listed("tools", "a"), prompts_list=refused())
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        status = gateway.backends["b"].status()
    assert status.state == "Healthy"
    message = status.message or ""
    assert "prompts/list failed with error -32603: database is locked" in message
    assert status.not_offered is None or "prompts" not in status.not_offered


async def test_unreadable_messages_are_not_reported_as_errors_of_the_backend() -> None:
    connector = PlainConnector(tools_list={"result": {"tools": None}})
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        finding = gateway.backends["b"].watch.finding
    assert finding.state == "Unhealthy"
    assert "-32602" not in (finding.message or "")
    assert "cannot parse the result of tools/list" in (finding.message or "")


async def test_a_hung_list_does_not_hide_other_lists() -> None:
    connector = PlainConnector(ALL, tools_list=listed("tools", "a"))
    connector.answers["resources/templates/list"] = asyncio.Event()
    async with running(b=connector) as gateway:
        await soon(lambda: names(gateway), "the tools")
        assert names(gateway, TEMPLATES) == []


async def test_a_backend_whose_lists_all_fail_is_unhealthy() -> None:
    connector = PlainConnector(tools_list=refused(message="no database"))
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        finding = gateway.backends["b"].watch.finding
        assert finding.state == "Unhealthy"
        assert "no database" in (finding.message or "")


async def test_a_recovered_list_is_served() -> None:
    connector = PlainConnector(ALL, tools_list=listed("tools", "a"), prompts_list=refused())
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        changed: list[str] = []
        gateway.subscribe(changed.append)
        connector.answers["prompts/list"] = listed("prompts", "p")
        watch = gateway.backends["b"].watch
        watch.lists.failures[PROMPTS].at = float("-inf")
        assert b'"p"' in await gateway.aggregate.listing(PROMPTS, None, modern=False)
        assert changed == ["notifications/prompts/list_changed"]
        assert not watch.lists.failures


# Undeclared lists


@pytest.mark.parametrize("capabilities", [{}, {"logging": {}}, {"prompts": {}}])
async def test_tools_that_are_not_declared_are_listed(capabilities: Any) -> None:
    connector = PlainConnector(capabilities, tools_list=listed("tools", "a"))
    connector.answers["prompts/list"] = listed("prompts", "p")
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        assert names(gateway) == ["a"]
        assert "tools" in gateway.aggregate.capabilities(modern=True)


async def test_a_backend_that_declares_nothing_and_has_nothing_is_healthy() -> None:
    connector = PlainConnector({})
    connector.answers |= {kind.method: refused(-32601, "method not found") for kind in KINDS}
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        status = gateway.backends["b"].status()
        assert (status.state, status.reason) == ("Healthy", None)
        assert status.not_offered == [kind.member for kind in KINDS]
        assert gateway.aggregate.capabilities(modern=True) == {}


async def test_undeclared_lists_are_not_requested_again() -> None:
    connector = PlainConnector({"prompts": {}}, prompts_list=listed("prompts", "p"))
    connector.answers["tools/list"] = refused(-32601, "method not found")
    async with running(b=connector) as gateway:
        await gateway.aggregate.settled()
        for _ in range(3):
            await gateway.aggregate.listing(TOOLS, None, modern=False)
        assert connector.asked.count("tools/list") == 1
        assert connector.asked.count("resources/list") == 0
