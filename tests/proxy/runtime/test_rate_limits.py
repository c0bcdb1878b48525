"""Backends that answer 429: before anything was listed, while lists are there, after a failure."""

import json
from typing import Any

import pytest
from mcp import Client, MCPError
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcpproxy.api.v1alpha1.status import BackendStatus, PodReport
from mcpproxy.proxy.upstream.monitor import list_cache
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE


class Limiter:
    """An app that answers 429 to some JSON-RPC methods."""

    def __init__(self, app: ASGIApp, *limited: str) -> None:
        self.limited = set(limited)
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        message: Message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        first = [{"type": "http.request", "body": body}]

        async def again() -> Message:
            return first.pop() if first else await receive()

        limited = json.loads(body).get("method") in self.limited
        app = PlainTextResponse("slow down", 429) if limited else self._app
        await app(scope, again, send)


def only(report: PodReport) -> BackendStatus:
    """The one backend there is."""
    (backend,) = report.backends
    return backend


async def approved(running: Proxy) -> dict[str, Any]:
    """A catalog spec that approves what this proxy offers."""
    return {"approved": running.runtime.gateway.catalog.digests()}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_429_before_everything_was_listed_makes_no_hash_and_no_drift(
    peer: Any, proxy: Any, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_cache, "RETRY_AFTER", 0.5)
    server, url = await peer("p", era)
    whole = await proxy({"name": "p", "url": url})
    catalog = await approved(whole)
    expected = await whole.report()
    assert expected.catalog_hash is not None
    limiter = server.gate.app = Limiter(server.gate.app, "prompts/list")
    running = await proxy({"name": "p", "url": url}, catalog=catalog)
    report = await running.report()
    assert (only(report).state, only(report).reason) == ("RateLimited", "NotListed")
    assert only(report).components is None
    assert report.catalog_hash is None
    assert report.drift is not None
    assert report.drift.to_manifest() == {}
    limiter.limited.clear()
    await running.until("p", "Healthy")
    report = await running.report()
    assert report.catalog_hash == expected.catalog_hash
    assert only(report).components == only(expected).components
    assert report.drift is not None
    assert report.drift.to_manifest() == {}


async def test_a_429_with_cached_lists_keeps_the_counts_and_the_hash(peer: Any, proxy: Any) -> None:
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    before = await running.report()
    assert only(before).components is not None
    server.gate.status = 429
    await running.until("p", "RateLimited")
    report = await running.report()
    assert only(report).reason == "RateLimited"
    assert "429" in (only(report).message or "")
    assert only(report).components == only(before).components
    assert report.catalog_hash == before.catalog_hash
    async with Client(running.url, mode="legacy") as client:
        assert len((await client.list_tools()).tools) == len(server.tools)
        with pytest.raises(MCPError) as caught:
            await client.call_tool("p_echo", {})
        assert caught.value.error.data["reason"] == "RateLimited"


async def test_lists_of_a_backend_that_responds_with_429_for_hours_are_dropped(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url, "cache": {"ttl": "1s"}})
    server.gate.status = 429
    await running.until("p", "RateLimited")
    assert only(await running.report()).components is not None
    monkeypatch.setattr(list_cache, "MAX_STALE", 0.0)
    monkeypatch.setattr(list_cache, "RETRY_AFTER", 0.5)

    async def hidden() -> bool:
        return only(await running.report()).reason == "NotListed"

    await eventually(hidden, "the lists to be hidden")
    async with Client(running.url, mode="legacy") as client:
        with pytest.raises(MCPError, match="backend p: HTTP 429"):
            await client.list_tools()
    server.gate.status = None
    await running.until("p", "Healthy")
    result = only(await running.report())
    assert result.components is not None
    assert result.protocol_version is not None


async def test_a_failed_backend_that_answers_429_then_has_nothing_listed(
    peer: Any, proxy: Any
) -> None:
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    server.gate.status = 503
    await running.until("p", "Unhealthy")
    server.gate.status = 429
    await running.until("p", "RateLimited")
    report = await running.report()
    assert (only(report).reason, only(report).components) == ("NotListed", None)
    assert report.catalog_hash is None
    server.gate.status = None

    async def whole() -> bool:
        result = await running.report()
        return only(result).components is not None and result.catalog_hash is not None

    await eventually(whole, "everything to be listed")
    assert await running.state("p") == "Healthy"
